"""Guaranteed: the Identifiers page says of every workspace which policy holds and for whom, and of what finds them how
often it errs, with the interval of each rate; without it, what that means and what to do; every value stays text."""

from __future__ import annotations

import pytest
from fake_guard import MEASURED
from test_ui_escaping import HOSTILE, Reader

from ui import identifiers_views
from ui.figures import error_rate

RULES = {"policies": {"cardiology": "mask", "default": "allow", "icu": "block"}, "members": {"ana": "cardiology"}}
EVERYTHING = {"workspace": "default", "policy": "allow", "rules": RULES, "measured": MEASURED}


def seen(html: str) -> str:
    return " ".join(Reader(html).text.split())


def test_every_workspace_is_listed_with_its_policy_in_words_and_its_people_the_default_first():
    text = seen(identifiers_views.rules(EVERYTHING))
    assert text.index("defaultAllow Nothing is looked for.everybody else") < text.index("cardiologyMask")
    assert "who asked sees their own words.ana" in text and text.endswith("is refused.nobody")


def test_whoever_may_not_see_all_sees_their_own():
    text = seen(identifiers_views.rules(EVERYTHING | {"rules": None, "policy": "block"}))
    assert "The policy that holds for you" in text and "Block A question or an answer that holds one" in text


def test_error_rates_are_what_is_missing_and_their_intervals_are_turned_round():
    missed = error_rate("recall", "Missed", MEASURED["evaluations"][0]["metrics"])
    assert (missed.title, missed.shown, missed.interval) == ("Missed", "1.7 %", "1.3 to 2.2")
    over = error_rate("over_redaction", "In vain", MEASURED["evaluations"][1]["metrics"], of_itself=True)
    assert (over.shown, over.interval) == ("1.6 %", "0.4 to 5.7")
    text = seen(identifiers_views.measured(EVERYTHING))
    assert "Identifiers that are missed1.7 %1.3 to 2.2" in text
    assert "Texts in which at least one is missed23.6 %not stated" in text
    assert "Speed" not in text and "Misses happen." in text


def test_without_anything_that_finds_them_the_page_says_what_that_means():
    text = seen(identifiers_views.measured(EVERYTHING | {"measured": None}))
    assert "every policy but Allow refuses all questions" in text and "phi-deid" in text


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: ascii(text[:20]))
def test_hostile_names_stay_text(text):
    rules = {"policies": {text: text, "default": text}, "members": {text: text}}
    figures = MEASURED | {"specialist": text, "limits": text, "version": text}
    answer = {"workspace": text, "policy": text, "rules": rules, "measured": figures}
    drawn = identifiers_views.rules(answer) + identifiers_views.measured(answer)
    for html in (drawn, identifiers_views.rules(answer | {"rules": None})):
        read = Reader(html)
        assert {tag for tag, _ in read.elements}.isdisjoint({"script", "img", "style"})
        assert not [name for _, attributes in read.elements for name, _ in attributes if name.startswith("on")]
