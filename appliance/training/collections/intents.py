"""Requests to a bank (BANKING77) and to an assistant (CLINC150), each with one intent; CLINC150 also names none."""

from __future__ import annotations

import csv
import json
from pathlib import Path

from appliance.training.collections.labelled import Collection, Labelled, split

OUT_OF_SCOPE = "oos"


def read_banking77(data: Path) -> Collection:
    """77 intents, about 130 requests each."""
    with (data / "banking77" / "train.csv").open(encoding="utf-8", newline="") as file:
        rows = [Labelled(row["text"], (row["category"],)) for row in csv.DictReader(file)]
    return split("banking77", sorted({label for row in rows for label in row.labels}), rows)


def read_clinc150(data: Path) -> Collection:
    """150 intents, and requests of none of them (no label). Its own training and validation parts are pooled."""
    folder = data / "clinc150"
    parts = json.loads((folder / "data_full_train_val.json").read_text(encoding="utf-8"))
    extra = json.loads((folder / "oos_plus_train.json").read_text(encoding="utf-8"))
    pairs = [pair for name in ("train", "val", "oos_train", "oos_val") for pair in parts[name]]
    seen = {text for text, _ in pairs}
    pairs += [pair for pair in extra if pair[0] not in seen]
    rows = [Labelled(text, () if intent == OUT_OF_SCOPE else (intent,)) for text, intent in pairs]
    labels = sorted({label for row in rows for label in row.labels})
    return split("clinc150", labels, rows)
