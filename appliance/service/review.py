"""A person's corrections of what a specialist found, recorded beside the exchange they belong to.

receipt = await record_review(appliance, principal, Review(exchange_id, spans))

The corrected spans are the content of the record, sealed; only the person of the exchange may add them.
"""

from __future__ import annotations

import asyncio
import re
from dataclasses import dataclass

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.errors import InvalidRequest, NotFound
from appliance.service.appliance import Appliance
from appliance.service.events import new_event
from appliance.service.subjects import check_subject
from appliance.types import AttributeValue, Outcome, Principal, Receipt, Span

_EXCHANGE_ID = re.compile(r"[0-9a-f]{32}")
_RECORDS_MAX = 50  # of one exchange that are looked at; a streamed one has more, the newest closes it


@dataclass(frozen=True, slots=True)
class Review:
    """All findings of an exchange as a person left them. `subject` as the text was sent with."""

    exchange_id: str
    spans: tuple[Span, ...]
    subject: str = ""


async def record_review(appliance: Appliance, principal: Principal, review: Review) -> Receipt:
    """Record the corrections. Raises `PermissionDenied`, `InvalidRequest`, `NotFound` (also for another's exchange)."""
    authorize(principal, Action.SPECIALIST_RUN)
    subject = check_subject(review.subject)
    chars_max = appliance.config.limits.text_chars_max
    for span in review.spans:
        if not 0 <= span.start < span.end <= chars_max:
            raise InvalidRequest(
                f"a span from {span.start} to {span.end} marks nothing", hint="offsets count characters, end exclusive"
            )
    await _require_own(appliance, principal, review.exchange_id)
    content = msgspec.json.encode([[span.start, span.end, span.label] for span in review.spans])
    about: dict[str, AttributeValue] = {"spans": len(review.spans)}
    return await appliance.audit.append(
        new_event(
            "review.completed",
            principal.id,
            Outcome.COMPLETED,
            about,
            exchange_id=review.exchange_id,
            content=content,
            subject=subject,
        )
    )


async def _require_own(appliance: Appliance, principal: Principal, exchange_id: str) -> None:
    """Raise `NotFound` unless this exchange was completed for this person or one of their API keys."""
    if _EXCHANGE_ID.fullmatch(exchange_id):
        own = await asyncio.to_thread(appliance.accounts.actors_of, principal)
        views = await asyncio.to_thread(appliance.audit.records, None, _RECORDS_MAX, own)
        views = [view for view in views if view.exchange_id == exchange_id]
        if any(view.outcome == Outcome.COMPLETED and view.actor in own for view in views):
            return
    raise NotFound(
        "there is no completed exchange of yours with this id",
        hint="take `exchange_id` from a record of yours: GET /v1/audit/records",
    )
