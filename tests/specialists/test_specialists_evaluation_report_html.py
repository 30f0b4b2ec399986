"""The report is one well-formed file that loads nothing, escapes what comes from data, and says figures as text."""

import re
from html.parser import HTMLParser

import pytest

from appliance.specialists.evaluation.gold import GoldItem
from appliance.specialists.evaluation.judge import Contender, Prediction, Report, differences, judge, swapped_names
from appliance.specialists.evaluation.report_html import report_html
from appliance.types import Findings, LabelScore, Material
from tests.specialists.test_specialists_evaluation_gold import manifest

EVIL = '<script>alert("x")</script>'
KIND = manifest(labels=("urgent", "routine", EVIL))
VOID = {"meta", "br"}


class Checker(HTMLParser):
    """Every element is closed in order; every reference is collected."""

    def __init__(self) -> None:
        super().__init__()
        self.open: list[str] = []
        self.tags: list[str] = []
        self.references: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.references += [value for name, value in attrs if name in ("src", "href", "xlink:href", "action", "data")]
        if tag not in VOID:
            self.open.append(tag)

    def handle_startendtag(self, tag, attrs):
        self.tags.append(tag)

    def handle_endtag(self, tag):
        assert self.open.pop() == tag


@pytest.fixture(scope="module")
def html() -> str:
    items = [GoldItem(Material("a secret letter"), labels=(label,)) for label in KIND.labels * 6]
    mine = [_said(item.labels[0], 0.9) for item in items]
    theirs = [_said("urgent", 0.6) for _ in items]
    judgements = tuple(
        judge(Contender(name, "specialist", "1.0.0"), KIND, items, said, seed=0)
        for name, said in (("triage", mine), (EVIL, theirs))
    )
    swapped = swapped_names({"Korean": [(1, 1)] * 9, "Turkish": [(1, 1)] * 8 + [(0, 1)]}, seed=0)
    apart = differences(KIND, items, mine, theirs, seed=0)
    return report_html(Report("triage", "1.0.0", "classify", 18, "0" * 64, 0, judgements, apart, swapped, "x86", "now"))


def _said(label, score):
    best = LabelScore(label, score)
    return Prediction(Findings("label", labels=(best,), best=best), 0.01)


def test_file_is_well_formed_and_refers_to_nothing(html):
    checker = Checker()
    checker.feed(html)
    assert checker.open == [] and checker.references == []
    assert not {"script", "link", "img", "iframe"} & set(checker.tags)
    assert "url(" not in html and "@import" not in html and not re.search(r"https?://", html)


def test_labels_and_names_are_escaped_everywhere(html):
    assert "<script" not in html
    assert "&lt;script&gt;" in html


def test_every_plot_is_there_and_described(html):
    described = set(re.findall(r'aria-label="([^"]+)"', html))
    assert described == {
        "figures with intervals",
        "F1 by label",
        "reliability diagram",
        "confusion matrix",
        "recall of names by origin",
    }


def test_figures_are_text_as_well_and_no_text_of_the_data_is(html):
    assert "1.000 [1.000, 1.000]" in html
    assert "+0.667" in html and "Korean" in html
    assert "secret" not in html


def test_both_colour_schemes_are_served(html):
    assert "prefers-color-scheme:dark" in html and "color-scheme:light dark" in html
