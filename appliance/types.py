"""Frozen values that three or more rooms exchange. No behaviour beyond what a value knows of itself."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:  # every process imports this module, few of them compute
    import numpy as np

Role = Literal["user", "auditor", "admin"]
PrincipalKind = Literal["user", "api_key", "local"]


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is asking. `id` is stable and goes into the audit record (`user:7`, `api-key:3`, `local:uid-0`)."""

    id: str
    name: str
    kind: PrincipalKind
    roles: frozenset[Role]
    scopes: frozenset[str] | None = None  # None: everything the roles allow; an API key narrows it


class Task(StrEnum):
    """What a specialist does with text."""

    TAG = "tag"
    CLASSIFY = "classify"
    ANSWER = "answer"
    EMBED = "embed"


@dataclass(frozen=True, slots=True)
class Span:
    """Characters `text[start:end]` (offsets in Unicode code points, end exclusive) carry `label`."""

    start: int
    end: int
    label: str
    score: float


@dataclass(frozen=True, slots=True)
class LabelScore:
    """One label of a classification and its calibrated probability."""

    label: str
    score: float


@dataclass(frozen=True, slots=True)
class Quote:
    """An answer cut out of a context: `text` equals `context[start:end]`; `score` is its calibrated probability."""

    text: str
    start: int
    end: int
    score: float


FindingsKind = Literal["spans", "label", "labels", "sentences", "answer", "embedding"]


@dataclass(frozen=True, slots=True)
class Findings:
    """What a specialist says of one input. `kind` names the part that speaks; the others are empty.

    - `spans`: sorted and disjoint.
    - `label`: `labels` are all labels, best first, or none where it abstains; `best` is the best label even then.
    - `labels`: those assigned, best first, which may be none; `best` as above.
    - `sentences`: one label for each sentence, None where it abstains.
    - `answer`: `quote`, or None where the context does not hold an answer.
    - `embedding`: a vector of length 1.
    """

    kind: FindingsKind
    spans: tuple[Span, ...] = ()
    labels: tuple[LabelScore, ...] = ()
    best: LabelScore | None = None
    sentences: tuple[LabelScore | None, ...] = ()
    quote: Quote | None = None
    embedding: tuple[float, ...] = ()


@dataclass(frozen=True, slots=True)
class Material:
    """What a specialist is given; None: it was not sent. Which parts a task takes is `specialists/tasks/material.py`.

    `about`: (field, value) pairs of what a text is judged with regard to (`entity`, `concept`); `context`: where the
    answer to `question` is looked for.
    """

    text: str | None = None
    about: tuple[tuple[str, str], ...] = ()
    sentences: tuple[str, ...] | None = None
    question: str | None = None
    context: str | None = None

    def texts(self) -> tuple[str, ...]:
        """Everything that was sent, in the order of the fields."""
        parts = (self.text, *(value for _, value in self.about), *(self.sentences or ()), self.question, self.context)
        return tuple(part for part in parts if part is not None)

    @property
    def chars(self) -> int:
        """Characters of all parts together."""
        return sum(map(len, self.texts()))


@dataclass(frozen=True, slots=True)
class Head:
    """A task head over token states, as arrays; the formula is in `engine/heads.py`.

    `kind` is `token` (one row of logits per token) or `pooled` (one row per sequence, mean over tokens).
    Arrays are float32 and C-contiguous: `conv_weight` (width, states+features, hidden) with `conv_bias` (hidden,),
    or both None; `out_weight` (hidden or states+features, labels) and `out_bias` (labels,).
    """

    kind: Literal["token", "pooled", "none"]
    feature_count: int
    conv_weight: np.ndarray | None
    conv_bias: np.ndarray | None
    out_weight: np.ndarray | None
    out_bias: np.ndarray | None


@dataclass(frozen=True, slots=True)
class Adapter:
    """What the engine needs to serve one specialist: a file to load, its hash, and the head to apply.

    `key` is unique per loaded version (the file's SHA-256 in hex). `path` None: the base model alone. `merge`: it is
    asked so often that a copy of the base's layers with the adapter in them is worth its memory.
    """

    key: str
    path: Path | None
    sha256: str | None
    head: Head
    merge: bool = False


@dataclass(frozen=True, slots=True)
class EncodeInput:
    """One sequence for the encoder: token ids (T,) int32, special tokens included, and features (T, F) float32."""

    token_ids: np.ndarray
    features: np.ndarray | None = None


@dataclass(frozen=True, slots=True)
class SpecialistRef:
    """Which specialist answered, exactly."""

    id: str
    version: str
    sha256: str
    task: Task


class Outcome(StrEnum):
    """How a recorded step ended. `ACCEPTED` opens an exchange; exactly one of the others closes it."""

    ACCEPTED = "accepted"
    COMPLETED = "completed"
    REFUSED = "refused"
    FAILED = "failed"
    CANCELLED = "cancelled"


AttributeValue = str | int | float | bool


@dataclass(frozen=True, slots=True)
class AuditEvent:
    """One thing to be recorded. `attributes` holds ids, counts, codes and hashes, never free text.

    `content` (what a person typed or an answer) is sealed apart from the envelope, so that it can be destroyed
    alone. `record_id` is 16 random bytes chosen by the caller: appending the same id twice records it once.
    `subject` is whom the content is about, as the caller names them (a case or patient number): it chooses the key of
    the content and enters no record. `urgent`: recorded even while the log is paused for lack of space.
    """

    event: str
    actor: str
    outcome: Outcome
    exchange_id: str
    record_id: bytes
    attributes: Mapping[str, AttributeValue] = field(default_factory=dict)
    content: bytes | None = None
    subject: str = ""
    urgent: bool = False


@dataclass(frozen=True, slots=True)
class Receipt:
    """Proof that a record is in the log: durable, under a signed checkpoint, checkable offline by anybody.

    `leaf` is the RFC 6962 leaf hash (32 bytes); `proof` the inclusion path, leaf to root; `checkpoint` the signed
    note (C2SP tlog-checkpoint) of the tree of `size` records. `header`: the 200 bytes whose hash the leaf is, for the
    receipt as a file (`audit/proof.py`).
    """

    record_id: bytes
    seq: int
    leaf: bytes
    size: int
    proof: tuple[bytes, ...]
    checkpoint: str
    header: bytes = b""
