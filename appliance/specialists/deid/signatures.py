"""Initials in the footer of a dictated note, as rules: "JO/mk", "D: ... T: ... by ETL". Names of a few letters.

Letters alone are too little: a pair needs its own line or a dictation word on it, a single set of initials needs the
word that signs ("transcribed by"), and what is a degree, a title or a clinical abbreviation is no initials.

>>> text = "Transcribed by KDW"
>>> [text[span.start : span.end] for rule in SIGNATURE_RULES for span in rule.spans(text)]
['KDW']
"""

from __future__ import annotations

import re

from appliance.specialists.deid.clinical_words import ABBREVIATIONS, CREDENTIALS_EXTRA, DEPARTMENTS
from appliance.specialists.deid.lexicon import CREDENTIALS, TITLES
from appliance.specialists.deid.rules import Rule, shaped

NEAR = 200  # how far around a pair in capitals the words of a dictation footer are looked for
_DICTATION = re.compile(r"dictat|transcri|\bjob\b|\b[DT]:|\bDD:|\bDT:|signed", re.IGNORECASE)
_NO_INITIALS = TITLES | CREDENTIALS | CREDENTIALS_EXTRA | ABBREVIATIONS | DEPARTMENTS | {"am", "pm", "cc", "na"}


def _are_initials(match: re.Match[str]) -> bool:
    return not any(part.casefold() in _NO_INITIALS for part in re.split(r"[/:]", match["id"]))


def _are_dictators(match: re.Match[str]) -> bool:
    around = match.string[max(0, match.start() - NEAR) : match.end() + NEAR]
    return _are_initials(match) and _DICTATION.search(around) is not None


_ALONE = r"(?m:[ \t]*$)"
SIGNATURE_RULES: tuple[Rule, ...] = (
    shaped("NAME", rf"(?m:^)[ \t]{{0,40}}(?P<id>[A-Z]{{2,3}}[/:][a-z]{{2,3}}){_ALONE}", _are_initials, any_case=False),
    shaped("NAME", rf"(?<=[ \t])(?P<id>[A-Z]{{2,3}}[/:][a-z]{{2,3}}){_ALONE}", _are_dictators, any_case=False),
    shaped("NAME", rf"(?m:^)[ \t]{{0,40}}(?P<id>[A-Z]{{2,3}}[/:][A-Z]{{2,3}}){_ALONE}", _are_dictators, any_case=False),
    shaped(
        "NAME",
        r"\b(?i:transcribed|typed|dictated|scribed|transcriptionist|transcriber|initials|entered|keyed)"
        r"(?i:[ ]by)?[ \t:]{1,3}(?P<id>[A-Z]{2,4})(?![A-Za-z0-9'-]|[ ][A-Z][a-z])",
        _are_initials,
        any_case=False,
    ),
)
