"""Is a finding denied in a clinical sentence? Rules after NegEx (Chapman et al. 2001). Pure.

    denied("No fever or chills, but a cough.", "cough")     # False
    denied("No fever or chills, but a cough.", "chills")    # True

A trigger before the finding ("denies") or after it ("was ruled out") denies it, unless something between them ends its
reach: a conjunction, a full stop, a colon, a semicolon, or too many words. What looks like a trigger and is none ("not
only", "no change") and what leaves it open ("rule out") is read first and denies nothing. The triggers condense the
list that was published with NegEx; what was added was chosen on training and development sentences only.
"""

from __future__ import annotations

import re
from collections.abc import Iterator

REACH_WORDS_MAX = 12
REACH_AFTER_WORDS_MAX = 6
RULE_LOGIT = 20.0  # what the rules' opinion adds to or takes off the model's logit: they decide

_WHOM = r"(?:him |her |the patient |the pt )?"
_CAUSE = r"(?:cause|source|reason|etiology|origin|trigger event|possibilit(?:y|ies))s? (?:of|for)"
# Read in this order where they begin at the same word: what denies nothing, what ends a reach, what denies.
_OPEN = (
    r"no (?:\w+ )?(?:interval |significant )?(?:increase|change)|not (?:extend|cause|drain|only|necessarily)"
    rf"|not certain (?:if|whether)|gram negative|without difficulty|(?:not|be|being|been not) ruled {_WHOM}out"
    rf"|not been ruled {_WHOM}out|rule {_WHOM}out|r/o|evaluat\w+ for|history of present illness|no further"
)
_END = (
    rf"but|however|nevertheless|yet|though|although|still|aside from|except|apart from|secondary to|{_CAUSE}"
    r"|who|which|presents?|presented|remain(?:ed|s)|positive for|states|has|is|are|was|were"
)
_BEFORE = (
    r"absence of|cannot(?: see)?|checked for|declin(?:ed|es)|den(?:ied|ies|ying|y)|fail(?:s|ed)? to reveal|free of"
    rf"|negative for|never|no|not|non|not believe|rather than|unremarkable for|without|w/o|rule[sd] {_WHOM}out"
    rf"|(?:did|can|adequate to|sufficient to) rule {_WHOM}out|to exclude|excludes?|lack of|nor|neither"
)
_AFTER = (
    rf"unlikely|free|(?:was|is|are|were|have been|has been|been) ruled {_WHOM}out"
    r"|(?:(?:is|was|were|are|been) )?negative(?! for| deflection)"
    r"|(?:(?:is|was|were|are) )?absent|(?:(?:is|was|were|are) )?not (?:seen|present|identified|demonstrated)"
)
_BOTH = r"none|(?:(?:have|has|had|is|was|now|have been) )?resolved"
_MARK = re.compile(
    rf"\b(?:(?P<open>{_OPEN})|(?P<both>{_BOTH})|(?P<after>{_AFTER})|(?P<before>{_BEFORE})|(?P<end>{_END}))\b(?!['’])",
    re.IGNORECASE,
)
_STOP = re.compile(r"[.:;](?=\s|$)")


def opinion(sentence: str, finding: str) -> float:
    """What the rules add to a model's logit of "denied"."""
    return RULE_LOGIT if denied(sentence, finding) else -RULE_LOGIT


def denied(sentence: str, finding: str) -> bool:
    """Whether a trigger denies the finding at any of its places; one that is not in the sentence is not denied."""
    text = " ".join(sentence.split())
    marks = [(mark.start(), mark.end(), mark.lastgroup or "") for mark in _MARK.finditer(text)]
    return any(_denied_at(text, start, end, marks) for start, end in _places(text, finding))


def _places(text: str, finding: str) -> Iterator[tuple[int, int]]:
    words = [re.escape(word) for word in finding.split()]
    if words:
        for found in re.finditer(rf"(?<!\w){' '.join(words)}(?!\w)", text, re.IGNORECASE):
            yield found.span()


def _denied_at(text: str, start: int, end: int, marks: list[tuple[int, int, str]]) -> bool:
    for first, last, kind in marks:
        if kind in ("before", "both") and last <= start and _reaches(text, last, start, marks, REACH_WORDS_MAX):
            return True
        if kind in ("after", "both") and first >= end and _reaches(text, end, first, marks, REACH_AFTER_WORDS_MAX):
            return True
    return False


def _reaches(text: str, first: int, stop: int, marks: list[tuple[int, int, str]], words_max: int) -> bool:
    """Whether nothing between two places of the text ends the reach of a trigger."""
    between = text[first:stop]
    if len(between.split()) > words_max or _STOP.search(between):
        return False
    return not any(kind == "end" and first <= begin and end <= stop for begin, end, kind in marks)
