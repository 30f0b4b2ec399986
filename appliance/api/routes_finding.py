"""Route that looks through a whole document: the best passages of each label."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from pydantic import BaseModel, ConfigDict, Field

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas import ReceiptBody, SpecialistRefBody, receipt_body
from appliance.api.security import appliance_of, current_principal
from appliance.service.finding import PER_LABEL, PER_LABEL_MAX, FindRequest, Found, find_passages
from appliance.types import Principal, Receipt

routes = APIRouter(prefix="/v1", tags=["text"])
Caller = Annotated[Principal, Depends(current_principal)]
LABELS_MAX = 200


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class FindBody(_Body):
    """A document, the labels to look for (none: all) and how many passages of each are wanted."""

    text: str
    labels: list[str] = Field(default=[], max_length=LABELS_MAX)
    per_label: int = Field(default=PER_LABEL, ge=1, le=PER_LABEL_MAX)
    subject: str = Field(default="", description="whom the text is about, as for every request")


class FindingBody(_Body):
    """A passage `text[start:end]` (Unicode code points, end exclusive); `assigned`: its score reaches the threshold."""

    start: int
    end: int
    score: float
    assigned: bool


class LabelFindingsBody(_Body):
    """The best passages of one label, best first, whatever their score."""

    label: str
    passages: list[FindingBody]


class FindResponse(_Body):
    """What was found, in the order of the specialist's labels, and the receipt."""

    specialist: SpecialistRefBody
    passages: int = Field(description="how many passages the document was cut into")
    findings: list[LabelFindingsBody]
    receipt: ReceiptBody


@routes.post("/specialists/{specialist}/find")
async def find(request: Request, specialist: str, body: FindBody, caller: Caller) -> FindResponse:
    """Find in a long document, a contract say, the best passages of each label of a multi-label classifier."""
    wanted = FindRequest(body.text, specialist, tuple(body.labels), body.per_label, body.subject)
    released = await unless_disconnected(request, find_passages(appliance_of(request), caller, wanted))
    request.app.state.metrics.characters.labels(released.value.specialist.id).inc(len(body.text))
    return find_response(released.value, released.receipt)


def find_response(found: Found, receipt: Receipt) -> FindResponse:
    """What was found as JSON; the command prints the same."""
    ref = found.specialist
    return FindResponse(
        specialist=SpecialistRefBody(id=ref.id, version=ref.version, sha256=ref.sha256),
        passages=found.passages,
        findings=[
            LabelFindingsBody(
                label=label,
                passages=[
                    FindingBody(start=one.start, end=one.end, score=one.score, assigned=one.assigned) for one in ranked
                ],
            )
            for label, ranked in found.findings.items()
        ],
        receipt=receipt_body(receipt),
    )
