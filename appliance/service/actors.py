"""Who the actors of records are, for those who may read the records: a log that names nobody is hard to read.

    names = ActorNames(directory)
    views = await asyncio.to_thread(names.add_to, log.records(limit=50))

The log itself holds ids only (`user:7`, `api-key:3`): a person may change their name, or be gone, and what was recorded
stays. Names are those of now. An id whose account is not here is said to be gone, and so is one that was given again
after older tables were put back: a record older than the account that has its number is somebody else's.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import timedelta

from appliance.accounts.directory import Directory, NamedActor
from appliance.audit.log import RecordView

_CLOCK_MAY_DIFFER = timedelta(seconds=10)  # an account's time is read a moment after its record was committed


class ActorNames:
    """Names for one reading; each id is looked up once. Its methods block, as those of `Directory` do."""

    def __init__(self, directory: Directory) -> None:
        self._directory = directory
        self._known: dict[str, NamedActor | None] = {}

    def add_to(self, views: Sequence[RecordView]) -> list[RecordView]:
        """The same records, with the names of their actors."""
        actors = {view.actor for view in views}
        unseen = actors - self._known.keys()
        if unseen:
            self._known |= dict.fromkeys(unseen) | self._directory.named(unseen)
        return [self._named(view) for view in views]

    def _named(self, view: RecordView) -> RecordView:
        if not Directory.keeps(view.actor):
            return view
        known = self._known[view.actor]
        if known is None or view.time + _CLOCK_MAY_DIFFER < known.created:
            return replace(view, actor_gone=True)
        return replace(view, actor_name=known.name)
