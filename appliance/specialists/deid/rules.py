"""One rule of the pattern layer, and the two ways to write its expression. No rule lives here.

A rule is an expression with one group `id` (the characters to redact), a label, and how sure it is. `certain` means
a check digit, a context word or an unmistakable shape: such a match wins over the model. `likely` means a shape that
other things can have: the model's label wins where it covers the match.

Python's `re` backtracks, so every quantifier is bounded and neighbouring parts cannot match the same characters;
the tests run each rule against long hostile strings.

>>> rule = in_context("MRN", r"mrn", RECORD_VALUE)
>>> [match["id"] for match in rule.expression.finditer("MRN: 00-123-45, seen today")]
['00-123-45']
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

from appliance.types import Span

CERTAIN, LIKELY = 1.0, 0.8
UNNAMED = 0.9  # surely a telephone or fax number, but no word says which: only between these two the model decides
Check = Callable[[re.Match[str]], bool]

# A record number: letters, digits and single separators between them. How many digits it needs is the rule's check,
# because a lookahead for "a digit somewhere" would scan ahead at every start.
RECORD_VALUE = r"[A-Z0-9](?:[A-Z0-9]|[-./_](?=[A-Z0-9])){2,31}"
# Or groups of two or three digits with spaces, at least three of them ("12 34 56").
SPACED_DIGITS = r"\d{2,3}(?: \d{2,3}){2,4}(?![\d/:.-])"
_NUMBER_WORD = r"(?:\s{0,2}(?:(?:no|nos|num|nbr|number|numbers|id|ident|identifier|code|record)\b\.?|#|№)){0,2}"
_GAP = r"[\s:#=\-–—|*\"'\[(]{0,6}(?:(?:is|was|of)\s{1,3})?"


@dataclass(frozen=True, slots=True)
class Rule:
    """What to look for, what it is, how sure a match is, and the condition an expression cannot state."""

    label: str
    expression: re.Pattern[str]
    check: Check | None = None
    certainty: float = CERTAIN

    def spans(self, text: str) -> Iterator[Span]:
        """Every accepted match, left to right."""
        for match in self.expression.finditer(text):
            if self.check is None or self.check(match):
                start, end = match.span("id")
                yield Span(start, end, self.label, self.certainty)


def shaped(
    label: str, pattern: str, check: Check | None = None, certainty: float = CERTAIN, *, any_case: bool = True
) -> Rule:
    """A rule for a shape that stands by itself; `pattern` has a group `id`."""
    return Rule(label, re.compile(pattern, re.IGNORECASE if any_case else re.NOFLAG), check, certainty)


def in_context(label: str, words: str, value: str, check: Check | None = None) -> Rule:
    """A rule for a value that is only an identifier after one of `words` ("MRN: ", "account no. is ")."""
    pattern = rf"(?<![A-Z0-9])(?:{words})(?![A-Z])\.?{_NUMBER_WORD}{_GAP}(?P<id>{value})(?![A-Z0-9])"
    return Rule(label, re.compile(pattern, re.IGNORECASE), check)


def has_digits(count: int) -> Check:
    """Accepts a match whose `id` holds at least that many digits."""
    return lambda match: sum(character.isdigit() for character in match["id"]) >= count


def passes(test: Callable[[str], bool]) -> Check:
    """Accepts a match whose `id` passes a checksum."""
    return lambda match: test(match["id"])
