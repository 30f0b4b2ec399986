"""How often the router was right when it was measured, for the cards: read from the file beside the examples, not made.

    found = routing_evidence("phi-deid", base_weights_sha256)
    found["right"]["share"], found["matrix"]["phi-deid"]["(abstains)"]

`python -m appliance.training.routing.evaluate --json` writes `examples/measured.json` and says in it what it holds for.
Where the base, the examples or the calibration are others by now, there is no evidence: figures of another router would
look like figures of this one.
"""

from __future__ import annotations

from functools import cache
from typing import Any

import msgspec

from appliance.specialists.router import CALIBRATION
from appliance.specialists.router_examples import FOLDER, texts_sha256

MEASURED = FOLDER / "measured.json"
MEASURED_BYTES_MAX = 256 * 1024
COMMAND = "python -m appliance.training.routing.evaluate --data DATA --base HOME/models/minilm"


class Share(msgspec.Struct, frozen=True):
    """A share of so many items, with its 95 % interval."""

    share: float
    low: float
    high: float
    items: int


class Measured(msgspec.Struct, frozen=True):
    """The file. Rows of the matrix: who should answer; columns: who was chosen, and nobody."""

    part: str
    base_weights_sha256: str
    examples_sha256: str
    temperature: float
    abstain_below: float
    requests: int
    matrix: dict[str, dict[str, int]]
    right: Share
    wrong: Share
    abstained: Share
    out_of_scope_abstained: Share
    right_by_specialist: dict[str, Share]


def routing_evidence(specialist: str, base_weights_sha256: str) -> dict[str, Any] | None:
    """How held-back requests for this specialist, and all of them, were routed; None where that was not measured."""
    measured = read_measured()
    if measured is None or specialist not in measured.right_by_specialist or not _holds(measured, base_weights_sha256):
        return None
    return {
        "requests": measured.requests,
        "right": msgspec.to_builtins(measured.right_by_specialist[specialist]),
        "right_of_all": msgspec.to_builtins(measured.right),
        "none_declined": msgspec.to_builtins(measured.out_of_scope_abstained),
        "matrix": measured.matrix,
        "command": COMMAND,
    }


@cache
def read_measured() -> Measured | None:
    """The file beside the examples; None where there is none."""
    try:
        with MEASURED.open("rb") as file:
            return msgspec.json.decode(file.read(MEASURED_BYTES_MAX), type=Measured)
    except FileNotFoundError:
        return None


def _holds(measured: Measured, base_weights_sha256: str) -> bool:
    return (measured.base_weights_sha256, measured.examples_sha256, measured.temperature, measured.abstain_below) == (
        base_weights_sha256,
        texts_sha256(),
        CALIBRATION.temperature,
        CALIBRATION.abstain_below,
    )
