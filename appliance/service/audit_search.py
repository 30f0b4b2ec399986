"""Search: a time range, exact fields by the blind index, free text by opening contents, with progress.

    async for step in search(directory, log, principal, AuditSearch(event="session.sign_in")):
        ...                       # RecordView: a hit, newest first; SearchProgress: how far, the last one is `done`

That somebody searches is recorded before the first step; what they sought is sealed as the content of that record.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Iterator
from contextlib import aclosing
from dataclasses import dataclass, replace
from datetime import datetime

import msgspec

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.accounts.directory import Directory
from appliance.audit.log import ActivityBucket, AuditLog, RecordView, SearchProgress, SearchQuery, SearchStep
from appliance.audit.search import BUCKETS_MAX
from appliance.errors import InvalidRequest, PermissionDenied, UnknownOption
from appliance.service.actors import ActorNames
from appliance.service.audit_checks import check_window, readable_actors
from appliance.service.event_names import check_event
from appliance.service.events import new_event, record_reading
from appliance.service.subjects import check_subject
from appliance.types import AttributeValue, Outcome, Principal

HITS_MAX = 10_000
TEXT_CHARS_MAX = 200
_EXACT_CHARS_MAX = 128


@dataclass(frozen=True, slots=True)
class AuditSearch:
    """What is sought; empty: anything. `to` is not included. `text` is looked for in contents, by who may read them."""

    from_: datetime | None = None
    to: datetime | None = None
    event: str = ""
    actor: str = ""
    outcome: str = ""
    exchange_id: str = ""
    specialist: str = ""
    subject: str = ""
    text: str = ""
    epoch: int | None = None
    limit: int = 100


async def search(
    directory: Directory, log: AuditLog, principal: Principal, wanted: AuditSearch
) -> AsyncGenerator[SearchStep]:
    """Check and record, then the steps. Raises `PermissionDenied`, `InvalidRequest`, `AuditUnavailable`."""
    own = await readable_actors(directory, principal)
    if own is not None and wanted.actor and wanted.actor not in own:
        raise PermissionDenied("you may search your own records only", hint="ask an auditor")
    if wanted.text:
        authorize(principal, Action.AUDIT_READ_CONTENT)
    query = _checked(wanted)
    await _record(log, principal, wanted)
    if own is not None and not query.actor:
        if len(own) == 1:
            query, own = replace(query, actor=next(iter(own))), None
        else:
            query = replace(query, limit=1 << 40)  # others' are left out here; see `_only`
    steps = _steps(_named(log.search(query, epoch=wanted.epoch), ActorNames(directory)))
    return steps if own is None or query.actor else _only(steps, own, wanted.limit)


async def show_activity(
    log: AuditLog, principal: Principal, from_: datetime, to: datetime, buckets: int
) -> list[ActivityBucket]:
    """How many records of each class were committed when, by headers alone. Raises `PermissionDenied`."""
    if not actions_of(principal) & {Action.AUDIT_READ_ALL, Action.SYSTEM_STATUS}:
        authorize(principal, Action.AUDIT_READ_ALL)
    from_ms, to_ms = check_window(from_, to)
    assert from_ms is not None and to_ms is not None, "both ends are given"
    if not 1 <= buckets <= BUCKETS_MAX:
        raise InvalidRequest(f"{buckets} buckets cannot be shown", hint=f"ask for 1 to {BUCKETS_MAX}")
    await record_reading(log, principal, "audit.activity", {"buckets": buckets})
    return await asyncio.to_thread(log.activity, from_ms, to_ms, buckets)


def _checked(wanted: AuditSearch) -> SearchQuery:
    from_ms, to_ms = check_window(wanted.from_, wanted.to)
    if wanted.event:
        check_event(wanted.event)
    if wanted.outcome and wanted.outcome not in list(Outcome):
        raise UnknownOption(f"there is no outcome {wanted.outcome[:32]!r}", hint=f"outcomes are {', '.join(Outcome)}")
    for name in ("actor", "exchange_id", "specialist"):
        value: str = getattr(wanted, name)
        if len(value) > _EXACT_CHARS_MAX or not value.isprintable():
            raise InvalidRequest(f"{name} has a control character or more than {_EXACT_CHARS_MAX} characters")
    if len(wanted.text) > TEXT_CHARS_MAX or "\0" in wanted.text:
        raise InvalidRequest(
            f"the sought text has more than {TEXT_CHARS_MAX} characters or a NUL", hint="search for a shorter piece"
        )
    if not 1 <= wanted.limit <= HITS_MAX:
        raise InvalidRequest(f"{wanted.limit} hits cannot be asked for", hint=f"ask for 1 to {HITS_MAX}")
    return SearchQuery(
        from_ms=from_ms,
        to_ms=to_ms,
        actor=wanted.actor or None,
        event=wanted.event or None,
        exchange_id=wanted.exchange_id or None,
        specialist=wanted.specialist or None,
        subject=check_subject(wanted.subject) or None,
        outcome=wanted.outcome or None,
        text=wanted.text or None,
        limit=wanted.limit,
    )


async def _record(log: AuditLog, principal: Principal, wanted: AuditSearch) -> None:
    """Which fields were sought goes into the envelope, what was sought into the content; a subject into neither."""
    sought = {
        name: value
        for name in ("event", "actor", "outcome", "exchange_id", "specialist", "text")
        if (value := getattr(wanted, name))
    }
    fields = [*sought, *(["subject"] if wanted.subject else [])]
    about: dict[str, AttributeValue] = {"fields": " ".join(fields), "limit": wanted.limit, "epoch": wanted.epoch or 0}
    content = msgspec.json.encode(sought, order="sorted")
    await log.append(new_event("audit.search", principal.id, Outcome.COMPLETED, about, content=content))


def _named(found: Iterator[SearchStep], names: ActorNames) -> Iterator[SearchStep]:
    """The hits with the names of their actors."""
    for step in found:
        yield names.add_to([step])[0] if isinstance(step, RecordView) else step


async def _steps(found: Iterator[SearchStep]) -> AsyncGenerator[SearchStep]:
    """The steps, each made in another thread. Whoever stops listening ends the search."""
    try:
        while True:
            stepping = asyncio.ensure_future(asyncio.to_thread(next, found, None))
            try:
                step = await asyncio.shield(stepping)
            except asyncio.CancelledError:
                await asyncio.wait({stepping})  # a generator that runs cannot be closed
                raise
            if step is None:
                return
            yield step
    finally:
        close = getattr(found, "close", None)
        if close is not None:
            close()


async def _only(steps: AsyncGenerator[SearchStep], actors: frozenset[str], limit: int) -> AsyncGenerator[SearchStep]:
    """The hits of these actors, at most `limit`, with an end that counts them."""
    hits, last = 0, SearchProgress(0, 0)
    async with aclosing(steps):
        async for step in steps:
            if isinstance(step, RecordView):
                if step.actor not in actors:
                    continue
                hits += 1
                yield step
                if hits == limit:
                    yield replace(last, found=hits, done=True, complete=False)
                    return
            else:
                last = replace(step, found=hits)
                yield last
