"""Bodies of the route that looks through a whole document."""

from __future__ import annotations

from pydantic import BaseModel, ConfigDict, Field

from appliance.api.schemas import SpecialistRefBody
from appliance.api.schemas_audit import ReceiptBody, receipt_body
from appliance.service.finding import PER_LABEL, PER_LABEL_MAX, Found
from appliance.types import Receipt

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
