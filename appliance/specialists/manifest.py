"""What a specialist file says of itself: identity, task, labels, evidence, licences. Values only; no files.

manifest = decode_manifest(text)                 # raises SpecialistFileInvalid, naming the field
text = encode_manifest(manifest)                 # canonical JSON: sorted keys, no spaces
"""

from __future__ import annotations

from typing import Annotated, Literal

import msgspec

from appliance.errors import SpecialistFileInvalid
from appliance.types import Task

FORMAT_VERSION = 1
MANIFEST_BYTES_MAX = 256 * 1024
LABELS_MAX = 4096
NEGATED = "negated"  # the label that rules of negation speak about
ANSWER_WINDOW_TOKENS_MIN = 96  # room for the longest question and for some of the context after it
RESERVED_ID = "auto"
NOBODY_ID = "none"  # the router's word for what no specialist serves

Text = Annotated[str, msgspec.Meta(max_length=4000)]
Line = Annotated[str, msgspec.Meta(min_length=1, max_length=300)]
# `\Z` and not `$`, which lets a line break follow.
Sha256 = Annotated[str, msgspec.Meta(pattern=r"^[0-9a-f]{64}\Z")]
# What results go through: "deid" adds patterns, Safe Harbor policy and propagation to a tagger's spans, "negation" the
# rules for what is denied to a classifier's label `negated` (`tasks/negation.py`).
Post = Literal["none", "deid", "negation"]
# What gets one label each, and whether a text is judged with regard to something (an entity, a finding).
Unit = Literal["text", "sentence"]
Context = Literal["none", "optional", "required"]
# Requests that the router knows a specialist by. They travel with the file and are shown: nothing that is secret.
Examples = Annotated[
    tuple[Annotated[str, msgspec.Meta(min_length=1, max_length=600)], ...], msgspec.Meta(max_length=128)
]
SpecialistId = Annotated[str, msgspec.Meta(pattern=r"^[a-z][a-z0-9-]{1,62}\Z")]
Version = Annotated[str, msgspec.Meta(pattern=r"^(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\.(0|[1-9]\d{0,5})\Z")]
Day = Annotated[str, msgspec.Meta(pattern=r"^\d{4}-\d{2}-\d{2}\Z")]


class Base(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """The base model that the adapter belongs to, by the hashes of its published files."""

    name: Line
    weights_sha256: Sha256
    vocabulary_sha256: Sha256


class Source(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One collection the specialist learned from."""

    name: Line
    licence: Line
    attribution: Text
    use: Text = ""


class Evaluation(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """One measurement: which metrics, on how many items of what, and the command that repeats it."""

    name: Line
    dataset: Line
    items: Annotated[int, msgspec.Meta(ge=1)]
    metrics: dict[Line, float]
    command: Text
    note: Text = ""


class Calibration(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """How raw logits become decisions: a tagger's by `temperature` and `recall_bias`, a classifier's by `temperature`,
    `abstain_below` and `thresholds`, an answer's by all but `thresholds`.
    """

    temperature: Annotated[float, msgspec.Meta(gt=0, le=100)] = 1.0
    recall_bias: Annotated[float, msgspec.Meta(ge=-20, le=20)] = 0.0
    abstain_below: Annotated[float, msgspec.Meta(ge=0, le=1)] = 0.0
    thresholds: dict[Line, float] = {}


class Manifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Everything about a specialist except its weights. `card` texts are written for the people who choose it."""

    format: int = FORMAT_VERSION
    id: SpecialistId
    version: Version
    task: Task
    name: Line
    summary: Text
    labels: Annotated[tuple[Line, ...], msgspec.Meta(max_length=LABELS_MAX)]
    base: Base
    feature_version: Annotated[int, msgspec.Meta(ge=0)] = 0  # 0: the head takes no word shapes
    window_tokens: Annotated[int, msgspec.Meta(ge=8, le=512)] = 128
    input_chars_max: Annotated[int, msgspec.Meta(ge=1)] = 200_000
    calibration: Calibration = Calibration()
    multi_label: bool = False
    unit: Unit = "text"
    context: Context = "none"
    context_name: Annotated[str, msgspec.Meta(pattern=r"^[a-z]{0,32}\Z")] = ""  # the field it arrives in
    post: Post = "none"
    licence: Line
    sources: tuple[Source, ...] = ()
    recipe_sha256: Sha256 | None = None
    evaluation: tuple[Evaluation, ...] = ()
    intended_use: Text = ""
    limits: Text = ""
    examples: Examples = ()
    created: Day


def encode_manifest(manifest: Manifest) -> str:
    """Canonical JSON. Fields that came later are written only where they say something: older files stay the same."""
    fields = msgspec.to_builtins(manifest)
    for name in _LATER_FIELDS:
        if fields[name] == _LATER_FIELDS[name]:
            del fields[name]
    return msgspec.json.encode(fields, order="sorted").decode()


def decode_manifest(text: str) -> Manifest:
    """Read and check. A file of a later format is refused by its number, whatever else it contains."""
    if len(text) > MANIFEST_BYTES_MAX:
        raise SpecialistFileInvalid(f"the manifest is longer than {MANIFEST_BYTES_MAX} characters")
    try:
        declared = msgspec.json.decode(text, type=_FormatOnly).format
        if declared != FORMAT_VERSION:
            raise SpecialistFileInvalid(
                f"the specialist file has format {declared}, this release reads format {FORMAT_VERSION}",
                hint="install a newer release of the appliance",
            )
        manifest = msgspec.json.decode(text, type=Manifest)
    except (msgspec.DecodeError, RecursionError) as error:
        raise SpecialistFileInvalid(f"the manifest is not valid: {error}") from None
    if manifest.id == RESERVED_ID:
        raise SpecialistFileInvalid(f"no specialist is named {RESERVED_ID!r}: it asks the router to choose one")
    if len(set(manifest.labels)) != len(manifest.labels):
        raise SpecialistFileInvalid("the manifest lists a label twice")
    if (manifest.context == "none") != (manifest.context_name == ""):
        raise SpecialistFileInvalid("the manifest does not agree with itself about a context beside the text")
    if (manifest.context, manifest.unit) != ("none", "text") and manifest.task is not Task.CLASSIFY:
        raise SpecialistFileInvalid(f"a {manifest.task} specialist takes neither sentences nor a context")
    if (manifest.task in (Task.TAG, Task.CLASSIFY)) != bool(manifest.labels):
        raise SpecialistFileInvalid(
            f"the manifest lists {len(manifest.labels) or 'no'} labels for a {manifest.task} specialist"
        )
    if manifest.post == "negation" and (manifest.context != "required" or NEGATED not in manifest.labels):
        raise SpecialistFileInvalid(f"rules of negation need a finding to judge and a label {NEGATED!r}")
    if manifest.task is Task.ANSWER and manifest.window_tokens < ANSWER_WINDOW_TOKENS_MIN:
        raise SpecialistFileInvalid(
            f"an answer specialist reads at least {ANSWER_WINDOW_TOKENS_MIN} tokens at once, "
            f"the manifest says {manifest.window_tokens}"
        )
    return manifest


_LATER_FIELDS = {"unit": "text", "context": "none", "context_name": "", "examples": ()}


class _FormatOnly(msgspec.Struct):
    format: int


def version_key(version: str) -> tuple[int, ...]:
    """For ordering semantic versions.

    >>> version_key("1.10.0") > version_key("1.9.3")
    True
    """
    return tuple(int(part) for part in version.split("."))
