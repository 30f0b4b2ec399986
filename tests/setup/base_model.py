"""Fetch and convert the base model once for the tests that run the real one: `python base_model.py FOLDER`.

The suite itself needs no network; this is part of its set-up, like Chromium.
"""

import sys
from pathlib import Path

from appliance.config import Home
from appliance.errors import ApplianceError
from appliance.specialists.base_fetch import ensure_base_model


def main() -> int:
    folder = Path(sys.argv[1])
    folder.mkdir(parents=True, exist_ok=True)
    try:
        base = ensure_base_model(Home(folder.absolute()), progress=lambda line: print(f"  {line} …", flush=True))
    except ApplianceError as error:
        print(f"error: {error.message}\nhint: {error.hint}", file=sys.stderr)
        return 1
    print(f"base model: {base.path} ({base.storage})")
    return 0


if __name__ == "__main__":
    sys.exit(main())
