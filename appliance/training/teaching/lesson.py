"""What teaching hands from step to step: the options of the process, the lesson, and what came of it. Values only."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import msgspec
import numpy as np

from appliance.specialists.file_format import AdapterWeights
from appliance.specialists.manifest import Calibration, Manifest
from appliance.training.calibration import calibrate
from appliance.training.teaching.parts import Parts
from appliance.types import Head

IN_SCOPE_SHARE = 0.95
Progress = Callable[[float, str], None]


class Options(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What the child process is told. Paths are of this machine. `lora`: with adapters, in at most `lora_s`."""

    bytes_max: int
    texts_max: int
    vocabulary: str
    text_column: str | None = None
    label_column: str | None = None
    multi_label: bool = False
    lora: bool = False
    lora_s: float = 1800.0
    id: str = ""
    version: str = ""
    name: str = ""
    created: str = ""
    base: str = ""
    base_sha256: str = ""
    runtime: str = ""
    out: str = ""
    engine: dict[str, Any] = {}
    niceness: int = 0


@dataclass(frozen=True, slots=True)
class Lesson:
    """Texts, their targets (texts, labels) of zeros and ones, how they are divided, the manifest without figures."""

    texts: tuple[str, ...]
    targets: np.ndarray
    labels: tuple[str, ...]
    parts: Parts
    draft: Manifest


@dataclass(frozen=True, slots=True)
class Taught:
    """A head and perhaps an adapter, the calibration, and the logits of the held-out texts.

    `about`: settings that were chosen, for the report.
    """

    head: Head
    adapter: AdapterWeights | None
    calibration: Calibration
    held_out_logits: np.ndarray
    learned_from: int
    method: str
    about: tuple[tuple[str, float], ...] = ()


def calibrated(logits: np.ndarray, lesson: Lesson, multi_label: bool) -> Calibration:
    """From the logits of the part that settings are chosen on."""
    share = 0.0 if multi_label else 1.0 - IN_SCOPE_SHARE
    truth = lesson.targets[lesson.parts.choose]
    calibration, _ = calibrate(logits, truth, lesson.labels, multi_label=multi_label, in_scope_share=share)
    return calibration
