"""Which backups the log knows of, and which of them may still hold keys that are destroyed here.

    backups = read_backups(reader)                                   # of one log, newest first
    holding = that_may_hold(backups, oldest_month=675, now=now)

A backup is known by the control record that said it was made. A copy that somebody made in another way is not known, so
nothing here may be called complete, and the certificate of a destruction says so.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime

from appliance.audit import control, derived
from appliance.audit.index import public_token
from appliance.audit.reader import LogReader
from appliance.audit.record import month_of

_EVENT = "backup"
_READ_MAX = 10_000
_LAST = 1 << 62


@dataclass(frozen=True, slots=True)
class Backup:
    """One backup. `target`: its label; `expires`: None for one that is kept until somebody deletes it."""

    target: str
    size: int
    made: datetime
    expires: datetime | None


def read_backups(reader: LogReader) -> list[Backup]:
    """The backups that one log recorded, newest first, at most `_READ_MAX`."""
    with reader.snapshot() as connection:
        seqs = derived.seqs_under(connection, public_token(_EVENT), _LAST, _READ_MAX, newest_first=True)
        bodies = [(seq, control.parse_control(derived.read_body(connection, seq) or b"")) for seq in seqs]
        return [
            _backup(said, reader.time_of(connection, seq))
            for seq, said in bodies
            if said["event"] == _EVENT  # the index may be wrong, and changes nothing then
        ]


def that_may_hold(backups: Iterable[Backup], oldest_month: int, now: datetime) -> list[Backup]:
    """Those that may hold a key of `oldest_month` or later: made since it began, and not past their own time.

    A backup that expired counts as deleted; that it is deleted is for whoever keeps it.
    """
    return [
        backup
        for backup in backups
        if month_of(int(backup.made.timestamp() * 1000)) >= oldest_month
        and (backup.expires is None or backup.expires > now)
    ]


def last_expiry(backups: Sequence[Backup]) -> datetime | None:
    """When the last of these expires; None if there is none, or if one never does."""
    times = [backup.expires for backup in backups]
    return None if None in times else max((time for time in times if time is not None), default=None)


def backups_sentence(backups: Sequence[Backup]) -> str:
    """What the person who asked for a destruction must know of backups."""
    if not backups:
        return (
            "The log knows of no backup that holds them. Whoever has a copy of the keystore that was made in another "
            "way, and what unlocks it, can still read a copy of the log."
        )
    lasting = [backup.target for backup in backups if backup.expires is None]
    count = "1 recorded backup" if len(backups) == 1 else f"{len(backups)} recorded backups"
    still = f"Whoever has one of {count} and what unlocks it can still read an older copy of the log"
    last = last_expiry(backups)
    if last is None:
        until = f"; {lasting[0]} has no date of expiry, so that somebody must delete it"
    else:
        until = f" until the last of them expires, on {last:%Y-%m-%d}"
    return f"{still}{until}. A copy made in another way is not known to the log."


def _backup(said: Mapping[str, control.Value], made: datetime) -> Backup:
    expires_ms = int(said["expires_ms"])
    expires = datetime.fromtimestamp(expires_ms / 1000, UTC) if expires_ms else None
    return Backup(str(said["target"]), int(said["size"]), made, expires)
