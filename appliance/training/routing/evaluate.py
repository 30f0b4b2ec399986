"""How often the router is right, for all bundled specialists and without the weights of any.

    python -m appliance.training.routing.evaluate --data DATA --base HOME/models/minilm
    python -m appliance.training.routing.evaluate --data DATA --base … --part development --choose

The first prints the confusion matrix of the held-back part with 95 % intervals; `--json` writes it, with what it holds
for: `--json appliance/specialists/examples/measured.json` is what the cards show. The second prints the calibration
that the development part suggests: it is what `specialists/router.py` has.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import sys
import tempfile
from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np

from appliance.config import EngineConfig, Home
from appliance.engine.client import Engine
from appliance.errors import ApplianceError
from appliance.specialists import router
from appliance.specialists.base_model import MINILM, open_base_model
from appliance.specialists.metrics.intervals import wilson
from appliance.specialists.router import CALIBRATION, NONE, Known, Route, RouterCalibration
from appliance.specialists.router_examples import examples_of, texts_sha256
from appliance.specialists.tokenization import WordPiece
from appliance.training.routing.requests import ASSISTANT_NONE, TEXTS, Request, read_requests

TEMPERATURES = (0.01, 0.015, 0.02, 0.025, 0.03, 0.04, 0.05, 0.07, 0.1)
THRESHOLDS = tuple(round(0.05 * step, 2) for step in range(20))
ABSTAIN_SHARE_MAX = 0.05  # of the development part's requests that somebody serves
ABSTAINED = "(abstains)"
_BATCH = 128


@dataclass(frozen=True, slots=True)
class Viewed:
    """A request and the vectors of its views (views, states)."""

    request: Request
    vectors: np.ndarray


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and print. Exit code 0 whatever the figures say."""
    parser = argparse.ArgumentParser(prog="python -m appliance.training.routing.evaluate")
    parser.add_argument("--data", type=Path, required=True, help="folder with the collections")
    parser.add_argument("--base", type=Path, required=True, help="folder of the converted base, models/minilm")
    parser.add_argument("--part", choices=("held_back", "development"), default="held_back")
    parser.add_argument("--choose", action="store_true", help="print the calibration that the part suggests")
    parser.add_argument("--threads", type=int, default=0)
    parser.add_argument("--json", type=Path)
    options = parser.parse_args(arguments)
    try:
        requests = read_requests(options.data, options.part)
        known, viewed = asyncio.run(encode(requests, options.base, EngineConfig(threads=options.threads)))
    except ApplianceError as error:
        print(f"appliance: error: {error}", *([f"hint: {error.hint}"] if error.hint else []), sep="\n", file=sys.stderr)
        return 1
    if options.choose:
        print(choose(viewed, known))
        return 0
    result = holds_for(options.part) | figures([(one.request, decided(one, known, CALIBRATION)) for one in viewed])
    print(*report(result), sep="\n")
    if options.json is not None:
        options.json.write_text(json.dumps(result, indent=2) + "\n", encoding="utf-8")
    return 0


async def encode(requests: Sequence[Request], base: Path, config: EngineConfig) -> tuple[Known, list[Viewed]]:
    """The router's examples, and every request's views, as vectors of the bare base."""
    model = open_base_model(Home(base.resolve().parent.parent))
    wordpiece = WordPiece.from_vocab(model.vocabulary)
    examples = examples_of(())
    views = [router.views(request.text) for request in requests]
    texts = [example.text for example in examples] + [view for each in views for view in each]
    with tempfile.TemporaryDirectory(prefix="routing-") as runtime:
        engine = await Engine.start(config, model.path, model.sha256, Path(runtime))
        try:
            await engine.load(router.BARE_BASE)
            rows: list[np.ndarray] = []
            for first in range(0, len(texts), _BATCH):
                inputs = router.prepare(texts[first : first + _BATCH], wordpiece)
                rows += await engine.encode(router.BARE_BASE.key, inputs)
        finally:
            await engine.close()
    vectors = router.unit(rows)
    place, viewed = len(examples), []
    for request, each in zip(requests, views, strict=True):
        viewed.append(Viewed(request, vectors[place : place + len(each)]))
        place += len(each)
    return Known(examples, vectors[: len(examples)]), viewed


def decided(viewed: Viewed, known: Known, calibration: RouterCalibration) -> Route:
    """The route of a request where every bundled specialist is installed."""
    return router.decide(viewed.vectors, known, frozenset(TEXTS), calibration)


def choose(viewed: Sequence[Viewed], known: Known) -> RouterCalibration:
    """The temperature under which the right owners are most likely, then the highest threshold that costs little."""
    asked = [one for one in viewed if one.request.specialist != ASSISTANT_NONE]

    def loss(temperature: float) -> float:
        calibration = RouterCalibration(temperature, 0.0)
        likely = [_score_of(decided(one, known, calibration), one.request.specialist) for one in asked]
        return float(-np.log(np.maximum(likely, 1e-9)).mean())

    best = RouterCalibration(min(TEMPERATURES, key=loss), 0.0)
    served = [one for one in asked if one.request.specialist != NONE]
    routes = [decided(one, known, best) for one in served]

    def abstains(threshold: float) -> float:
        return float(np.mean([route.abstained or route.score < threshold for route in routes]))

    return replace(best, abstain_below=max(at for at in THRESHOLDS if at == 0 or abstains(at) <= ABSTAIN_SHARE_MAX))


def figures(routed: Sequence[tuple[Request, Route]]) -> dict[str, Any]:
    """The matrix (rows: who should answer; columns: who was chosen), shares with intervals, and accuracy by kind."""
    columns = [*TEXTS, ABSTAINED]
    matrix = {owner: dict.fromkeys(columns, 0) for owner in (*TEXTS, NONE, ASSISTANT_NONE)}
    for request, route in routed:
        matrix[request.specialist][route.specialist or ABSTAINED] += 1
    served = [(request, route) for request, route in routed if request.specialist in TEXTS]
    outside = [(request, route) for request, route in routed if request.specialist == NONE]
    return {
        "requests": len(routed),
        "matrix": matrix,
        "right": _share([route.specialist == request.specialist for request, route in served]),
        "wrong": _share([route.specialist not in (None, request.specialist) for request, route in served]),
        "abstained": _share([route.abstained for _, route in served]),
        "out_of_scope_abstained": _share([route.abstained for _, route in outside]),
        "right_by_kind": {
            kind: _share([route.specialist == request.specialist for request, route in served if request.kind == kind])
            for kind in dict.fromkeys(request.kind for request, _ in served)
        },
        "right_by_specialist": {
            owner: _share([route.specialist == owner for request, route in served if request.specialist == owner])
            for owner in TEXTS
        },
    }


def holds_for(part: str) -> dict[str, Any]:
    """What was measured: change any of it, and the figures are of something else."""
    return {
        "part": part,
        "base_weights_sha256": MINILM.weights_sha256,
        "examples_sha256": texts_sha256(),
        "temperature": CALIBRATION.temperature,
        "abstain_below": CALIBRATION.abstain_below,
    }


def report(result: dict[str, Any]) -> list[str]:
    """The figures as Markdown, for the README."""
    columns = [*TEXTS, ABSTAINED]
    lines = [f"| Should answer | {' | '.join(columns)} | right |", f"|---|{'---|' * (len(columns) + 1)}"]
    for owner, row in result["matrix"].items():
        share = result["right_by_specialist"].get(owner)
        if owner == NONE:
            share = result["out_of_scope_abstained"]
        cells = " | ".join(str(row[column] or "") for column in columns)
        lines.append(f"| {owner} | {cells} | {_shown(share) if share else ''} |")
    for name in ("right", "wrong", "abstained", "out_of_scope_abstained"):
        lines.append(f"{name}: {_shown(result[name])} of {result[name]['items']}")
    lines += [f"right, {kind}: {_shown(share)} of {share['items']}" for kind, share in result["right_by_kind"].items()]
    return lines


def _share(outcomes: Sequence[bool]) -> dict[str, float]:
    low, high = wilson(sum(outcomes), len(outcomes))
    return {"share": sum(outcomes) / max(len(outcomes), 1), "low": low, "high": high, "items": len(outcomes)}


def _shown(share: dict[str, float]) -> str:
    return f"{share['share']:.3f} [{share['low']:.3f}, {share['high']:.3f}]"


def _score_of(route: Route, owner: str) -> float:
    return next(entry.score for entry in route.scores if entry.specialist == owner)


if __name__ == "__main__":
    sys.exit(main())
