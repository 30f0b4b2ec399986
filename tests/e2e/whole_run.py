"""A whole life of an appliance in one process tree: `python -m tests.e2e.whole_run FOLDER`.

Creates the data folder, serves it with its pages, signs in, opens a page, de-identifies, proves, verifies, stops.
Prints what it did as JSON. The folder holds the base model already, as after a first start.
"""

from __future__ import annotations

import json
import sys
from pathlib import Path

from tests.conftest import run_appliance
from tests.e2e.sites import PAGES_S, eventually, running_site

NOTE = "Ana Lima called ana@example.org on 14 March 2026."


def main(folder: Path) -> dict[str, object]:
    home = folder / "home"
    created = run_appliance("init", home=home)
    assert created.returncode == 0, created.stderr
    with running_site(home, folder) as site:
        eventually(lambda: site.client.get("/ui/status").json()["ready"], "the pages are there", PAGES_S)
        page = site.client.get("/app/deidentify", headers={"Accept": "text/html"})
        answer = site.client.post("/v1/deidentify", json={"text": NOTE})
        return {
            "page": page.status_code,
            "page_bytes": len(page.content),
            "answer": answer.json()["text"],
            "verdict": site.verdict()["verdict"],
        }


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
