"""What a clinical sentence says of a finding: is it denied, does it belong to the past (NegEx annotations).

Two questions about one pair of sentence and finding, therefore two labels that may both hold.
"""

from __future__ import annotations

import csv
from pathlib import Path

from appliance.training.collections.labelled import Collection, Labelled, normalised, split

LABELS = ("negated", "historical")


def read_assertions(data: Path) -> Collection:
    """Sentence and finding; rows of one sentence stay together."""
    with (data / "negex_context" / "train.tsv").open(encoding="utf-8", newline="") as file:
        rows = list(csv.reader(file, delimiter="\t", quoting=csv.QUOTE_NONE))[1:]
    examples = []
    for _, finding, sentence, negation, temporality, *_rest in rows:
        found = (("negated", negation == "Negated"), ("historical", temporality == "Historical"))
        labels = tuple(label for label, holds in found if holds)
        examples.append(Labelled(sentence, labels, finding.strip(' "'), normalised(sentence)))
    return split("assertion", LABELS, examples)
