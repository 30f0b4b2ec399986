"""What the router is measured on is apart from what it knows, in both parts, and the figures count what they say."""

from appliance.specialists.router import Route, SpecialistScore
from appliance.specialists.router_examples import bundled_examples
from appliance.training.routing.evaluate import ABSTAINED, figures, report
from appliance.training.routing.requests import (
    ASSISTANT_NONE,
    INSTRUCTIONS,
    NONE,
    TEXTS,
    Request,
    read_instructions,
)

INSTRUCTIONS_READ = read_instructions(INSTRUCTIONS.read_text(encoding="utf-8"))


def route(specialist, score=0.9) -> Route:
    scores = (SpecialistScore(specialist or NONE, score),)
    return Route(specialist, score, "", None, (), scores)


def test_every_specialist_and_nobody_is_asked_for_in_both_parts():
    assert set(INSTRUCTIONS_READ) == {(name, part) for name in (*TEXTS, NONE) for part in ("development", "held_back")}
    assert set(TEXTS) | {NONE} == set(bundled_examples())
    assert min(map(len, INSTRUCTIONS_READ.values())) >= 5


def test_no_instruction_is_an_example_or_stands_in_both_parts():
    lines = [line.casefold() for listed in INSTRUCTIONS_READ.values() for line in listed]
    assert len(set(lines)) == len(lines)
    known = {text.casefold() for listed in bundled_examples().values() for text in listed}
    assert not known & set(lines)


def test_figures_count_right_wrong_and_declined():
    routed = [
        (Request("a", "phi-deid", "text"), route("phi-deid")),
        (Request("b", "phi-deid", "instruction"), route("assertion")),
        (Request("c", "assertion", "text"), route(None)),
        (Request("d", "assertion", "text"), route("assertion")),
        (Request("e", NONE, "instruction"), route(None)),
        (Request("f", ASSISTANT_NONE, "text"), route("assistant-intent")),
    ]
    found = figures(routed)
    assert (found["right"]["share"], found["wrong"]["share"], found["abstained"]["share"]) == (0.5, 0.25, 0.25)
    assert found["out_of_scope_abstained"]["share"] == 1.0
    assert found["matrix"]["phi-deid"]["assertion"] == 1
    assert found["matrix"][NONE][ABSTAINED] == 1
    assert found["right_by_kind"]["instruction"]["share"] == 0.0
    assert sum(sum(row.values()) for row in found["matrix"].values()) == len(routed)
    assert found["right"]["low"] < 0.5 < found["right"]["high"]


def test_report_has_a_row_for_each_and_the_shares():
    lines = report(figures([(Request("a", name, "text"), route(name)) for name in TEXTS]))
    assert sum(line.startswith("| ") for line in lines) == 1 + len(TEXTS) + 2
    assert any(line.startswith("right: 1.000") for line in lines)
