"""JSON in, JSON out: the only place where request and response bodies are described. `/openapi.json` is made of it."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel, ConfigDict, Field

from appliance.api.schemas_audit import ReceiptBody, receipt_body
from appliance.service.requests import Answer, SpecialistRequest
from appliance.specialists.tasks.classify import SENTENCES_MAX
from appliance.types import LabelScore, Receipt

SCORES_SHOWN = 5  # labels of a classification that are worth a look
EMBEDDING_DIGITS = 6  # an error of 5e-7 in a component: less than any storage type of the base makes


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


_SUBJECT = Field(
    default="",
    description="whom the text is about, as a case or patient number of at most 128 characters: its contents can then "
    "be found, held and destroyed by that. It enters no record",
)


class DeidentifyRequest(_Body):
    """A text to be de-identified. Its length is bounded by the site (`limits.text_chars_max`)."""

    text: str
    style: Literal["label", "mask", "surrogate"] = "label"
    specialist: str = Field(default="phi-deid", max_length=64)
    subject: str = _SUBJECT


class RunRequest(_Body):
    """What a specialist is given: `text`, for some with `entity` or `concept`; `sentences`; `question` and `context`.

    Its card says which (`task`, `unit`, `context_name`); a part that it does not take is refused.
    """

    text: str | None = None
    entity: str | None = Field(default=None, description="what a headline is judged with regard to")
    concept: str | None = Field(default=None, description="the finding in the text that is judged")
    sentences: list[str] | None = Field(default=None, max_length=SENTENCES_MAX)
    question: str | None = None
    context: str | None = Field(default=None, description="where the answer is quoted from")
    subject: str = _SUBJECT


class ReviewedSpan(_Body):
    """A finding as a person left it: characters `text[start:end]` of the original carry `label`."""

    start: int = Field(ge=0)
    end: int = Field(ge=1)
    label: str = Field(pattern=r"^[A-Z][A-Z0-9_]{0,31}$")


class ReviewRequest(_Body):
    """All findings of an exchange after a person looked at them, also those that were right."""

    spans: list[ReviewedSpan] = Field(max_length=10_000)
    subject: str = _SUBJECT


class SpanBody(_Body):
    """Characters `text[start:end]` (Unicode code points, end exclusive)."""

    start: int
    end: int
    label: str
    score: float


class SpecialistRefBody(_Body):
    """Which specialist answered, exactly."""

    id: str
    version: str
    sha256: str


class DeidentifyResponse(_Body):
    """The redacted text, what was found where in the original, and the receipt.

    `warnings`: why it may be worse than the specialist was measured to be, such as a text that is not English.
    """

    text: str
    spans: list[SpanBody]
    style: str
    counts: dict[str, int]
    specialist: SpecialistRefBody
    receipt: ReceiptBody
    elapsed_ms: float
    warnings: list[str] = []


class LabelBody(_Body):
    """One label and its calibrated probability."""

    label: str
    score: float


class QuoteBody(_Body):
    """An answer: `text` is `context[start:end]`, character for character."""

    text: str
    start: int
    end: int
    score: float


class RunResponse(_Body):
    """What the specialist's task gives; the fields of other tasks are absent.

    `tag`: `spans`. `classify`: `label` (null: it abstains) and `score` of the best label even then; with several labels
    at once `labels`, those assigned; both with `scores`, the best few labels. Sentences: `labels`, one name for each.
    `answer`: `answer`, null where the context holds none. `embed`: `embedding`, a vector of length 1. `warnings`, where
    there are any: why it may be worse than the specialist was measured to be, such as a text that is not English.
    """

    spans: list[SpanBody] | None = None
    label: str | None = None
    score: float | None = None
    labels: list[LabelBody] | list[str | None] | None = None
    scores: list[LabelBody] | None = None
    answer: QuoteBody | None = None
    embedding: list[float] | None = None
    warnings: list[str] | None = None
    specialist: SpecialistRefBody
    receipt: ReceiptBody
    elapsed_ms: float


def span_bodies(answer: Answer) -> list[SpanBody]:
    """The spans of an answer as JSON."""
    return [
        SpanBody(start=span.start, end=span.end, label=span.label, score=_score(span.score)) for span in answer.spans
    ]


def deidentify_response(answer: Answer, receipt: Receipt, style: str) -> DeidentifyResponse:
    """The response of `POST /v1/deidentify`, and of `appliance deidentify --json`."""
    assert answer.redaction is not None
    return DeidentifyResponse(
        text=answer.redaction.text,
        spans=span_bodies(answer),
        style=style,
        counts=answer.counts(),
        specialist=_ref(answer),
        receipt=receipt_body(receipt),
        elapsed_ms=answer.elapsed_ms,
        warnings=list(answer.warnings),
    )


def run_request(body: RunRequest, specialist: str) -> SpecialistRequest:
    """The request of `POST /v1/specialists/{id}/run`; a line of `appliance run` has the same fields."""
    about = (("entity", body.entity), ("concept", body.concept))
    return SpecialistRequest(
        body.text,
        specialist,
        subject=body.subject,
        about=tuple((name, value) for name, value in about if value),
        sentences=None if body.sentences is None else tuple(body.sentences),
        question=body.question,
        context=body.context,
    )


def run_response(answer: Answer, receipt: Receipt) -> RunResponse:
    """The response of `POST /v1/specialists/{id}/run`."""
    return RunResponse(
        **run_fields(answer), specialist=_ref(answer), receipt=receipt_body(receipt), elapsed_ms=answer.elapsed_ms
    )


def run_fields(answer: Answer) -> dict[str, Any]:
    """The fields of `RunResponse` that the specialist's task gives, and warnings if there are any."""
    return _task_fields(answer) | ({"warnings": list(answer.warnings)} if answer.warnings else {})


def _task_fields(answer: Answer) -> dict[str, Any]:
    found = answer.findings
    match found.kind:
        case "spans":
            return {"spans": span_bodies(answer)}
        case "label":
            assert found.best is not None
            scores = [_label(one) for one in found.labels[:SCORES_SHOWN] or (found.best,)]
            label = found.labels[0].label if found.labels else None
            return {"label": label, "score": _score(found.best.score), "scores": scores}
        case "labels":
            assert found.best is not None
            assigned = [_label(one) for one in found.labels]
            return {"labels": assigned, "scores": assigned or [_label(found.best)]}
        case "sentences":
            return {"labels": [None if one is None else one.label for one in found.sentences]}
        case "answer":
            quote = found.quote
            if quote is None:
                return {"answer": None}
            return {"answer": QuoteBody(text=quote.text, start=quote.start, end=quote.end, score=_score(quote.score))}
        case "embedding":
            return {"embedding": [round(value, EMBEDDING_DIGITS) for value in found.embedding]}


def _label(label: LabelScore) -> LabelBody:
    return LabelBody(label=label.label, score=_score(label.score))


def _score(score: float) -> float:
    return round(score, 4)


def _ref(answer: Answer) -> SpecialistRefBody:
    ref = answer.specialist
    return SpecialistRefBody(id=ref.id, version=ref.version, sha256=ref.sha256)
