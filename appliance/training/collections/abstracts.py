"""Sentences of medical abstracts and their section; the neighbours travel along as context.

Four labels: what some journals head OBJECTIVE is BACKGROUND here. `context` is the sentence before and the one after,
joined as serving joins them (`specialists/tasks/classify.py`).
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator
from pathlib import Path

from appliance.training.collections.labelled import Collection, Labelled, split

LABELS = ("BACKGROUND", "METHODS", "RESULTS", "CONCLUSIONS")
_MERGED = {"OBJECTIVE": "BACKGROUND"}


def read_sections(data: Path) -> Collection:
    """The training and the validation articles; one article is one group."""
    examples: list[Labelled] = []
    for name in ("train.jsonl", "dev.jsonl"):
        for line in (data / "rct_abstracts" / name).read_text(encoding="utf-8").splitlines():
            article = json.loads(line)
            sentences = [
                (sentence, _MERGED.get(section["label"], section["label"]))
                for section in article["sections"]
                for sentence in section["sentences"]
            ]
            examples += with_neighbours(article["pmcid"], sentences)
    return split("abstract-sections", LABELS, examples)


def with_neighbours(group: str, sentences: Iterable[tuple[str, str]]) -> Iterator[Labelled]:
    """One example a sentence; its place among the others is part of the context."""
    listed = list(sentences)
    for place, (sentence, label) in enumerate(listed):
        before = listed[place - 1][0] if place else ""
        after = listed[place + 1][0] if place + 1 < len(listed) else ""
        yield Labelled(sentence, (label,), f"{before}\n{after}", group)
