"""Somebody who may write the database of the log, and does it well: rows, numbers, hashes, tiles and head fit again.

    with attacking(path) as attacker:
        del attacker.rows[5000]
        attacker.renumber()
        attacker.write(note)          # an older genuine one, or `attacker.sign(seed, origin)`

Formats are those of `appliance/audit/README.md`, by the functions of `audit_bundle.py`: nothing is imported from the
appliance. Kept checkpoints that no longer fit are removed, and so is the index: what is not evidence shall not help.
"""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator, Sequence
from contextlib import closing, contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.audit.audit_bundle import HEADER, frontier_of, mth, note, sha256

FIELDS = (
    "magic", "log_id", "seq", "t_commit_ms", "class", "month", "kind", "record_id", "env_key", "con_scope",
    "env_nonce", "con_nonce", "env_length", "con_length", "env_sha256", "con_sha256",
)  # fmt: skip


@dataclass
class StoredRow:
    """One record as stored, its header taken apart."""

    fields: dict[str, object]
    env: bytes | None
    con: bytes | None
    body: bytes | None

    def header(self) -> bytes:
        return HEADER.pack(*self.fields.values())

    def leaf(self) -> bytes:
        return sha256(b"\x00", self.header())

    def rehash(self) -> None:
        """Make the header describe the parts as they are now."""
        env, con = self.env or self.body or b"", self.con or b""
        self.fields |= {
            "env_length": len(env),
            "con_length": len(con),
            "env_sha256": sha256(env),
            "con_sha256": sha256(con),
        }


class Attacker:
    """The whole log in memory; `write` puts it back."""

    def __init__(self, path: Path) -> None:
        self._path = path
        with closing(sqlite3.connect(path)) as database:
            self.origin: str = database.execute("SELECT origin FROM log_head").fetchone()[0]
            self.rows = [
                StoredRow(dict(zip(FIELDS, HEADER.unpack(header), strict=True)), env, con, body)
                for header, env, con, body in database.execute(
                    "SELECT header, env_ct, con_ct, body FROM record LEFT JOIN public_body USING (seq) ORDER BY seq"
                )
            ]

    def renumber(self) -> None:
        """Give every record the number of its place."""
        for seq, row in enumerate(self.rows):
            row.fields["seq"] = seq

    def leaves(self) -> list[bytes]:
        return [row.leaf() for row in self.rows]

    def sign(self, seed: bytes) -> str:
        """The head of what is here, signed with the real key: what only root can do."""
        leaves = self.leaves()
        return note(len(leaves), mth(leaves), self.origin, seed)

    def write(self, head_note: str) -> None:
        """Put everything back as the appliance would have written it."""
        leaves = self.leaves()
        with closing(sqlite3.connect(self._path, isolation_level=None)) as database:
            database.execute("PRAGMA synchronous = OFF")
            database.execute("PRAGMA ignore_check_constraints = ON")
            database.execute("BEGIN")
            for table in ("public_body", "record", "tile", "checkpoint", "blind"):
                database.execute(f"DELETE FROM {table}")
            database.executemany(
                "INSERT INTO record (seq, record_id, header, env_ct, con_ct) VALUES (?, ?, ?, ?, ?)",
                [(seq, row.fields["record_id"], row.header(), row.env, row.con) for seq, row in enumerate(self.rows)],
            )
            bodies = [(seq, row.body) for seq, row in enumerate(self.rows) if row.body is not None]
            database.executemany("INSERT INTO public_body (seq, body) VALUES (?, ?)", bodies)
            tiles = [(level, index, len(hashes), b"".join(hashes)) for level, index, hashes in tiles_of(leaves)]
            database.executemany("INSERT INTO tile (level, idx, width, hashes) VALUES (?, ?, ?, ?)", tiles)
            frontier = len(leaves).to_bytes(8, "big") + b"".join(frontier_of(leaves))
            signed_size = min(len(leaves), int(head_note.split("\n")[1]))
            database.execute(
                "UPDATE log_head SET size = ?, frontier = ?, root = ?, signed_size = ?, note = ?",
                (len(leaves), frontier, mth(leaves), signed_size, head_note),
            )
            database.execute("COMMIT")
            database.execute("PRAGMA wal_checkpoint(TRUNCATE)")


@contextmanager
def attacking(path: Path) -> Iterator[Attacker]:
    """For reading well; the attacker is gone when the block ends."""
    yield Attacker(path)


def tiles_of(leaves: Sequence[bytes]) -> Iterator[tuple[int, int, list[bytes]]]:
    """Tiles from level 1 upwards."""
    level, hashes = 1, list(leaves)
    while len(hashes) >= 256:
        hashes = [mth(hashes[start : start + 256]) for start in range(0, len(hashes) - 255, 256)]
        for start in range(0, len(hashes), 256):
            yield level, start // 256, hashes[start : start + 256]
        level += 1
