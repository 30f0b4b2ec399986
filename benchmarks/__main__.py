"""`make bench`: every benchmark in turn, one at a time, in folders of its own under `.cache/bench`.

Timings of a shared machine wander; what is quoted are medians and ratios of contenders that took turns in one run.
"""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

from appliance.config import load_config
from appliance.service.initialise import initialise
from appliance.specialists.base_fetch import fetch
from appliance.specialists.base_model import MINILM, WEIGHTS_FILE

FOLDER = Path(__file__).parents[1] / ".cache" / "bench"


def main() -> None:
    """Prepare what is missing, then run."""
    weights, home = FOLDER / "weights", FOLDER / "home"
    if not (weights / WEIGHTS_FILE).exists():
        weights.mkdir(parents=True, exist_ok=True)
        fetch(weights, MINILM, None, print)
    config = load_config(home)
    if not config.home.marker.exists():
        initialise(config, progress=print, bundle=weights)
    run("audit_append", "--folder", str(FOLDER))
    run("audit_verify", "--folder", str(FOLDER))
    run("deidentify", "--home", str(home))
    run("batch", "--home", str(home))
    run("encode", "--base", str(weights))
    run("generate")
    run("generate", "--prefix")
    run("generate", "--server")
    run("generate_http", "--base", str(home / "models"))
    run("generate_http", "--base", str(home / "models"), "--prefix")
    run("soak", "--base", str(home / "models"))


def run(module: str, *options: str) -> None:
    """One benchmark in a process of its own, so that none leaves memory or threads to the next."""
    print(f"\n== {module}", flush=True)
    subprocess.run([sys.executable, "-m", f"benchmarks.{module}", *options], check=True)


if __name__ == "__main__":
    main()
