"""Values that follow an ordinary word without "no." or "#" ("claim CLM-2201", "band T659"), as rules.

The word alone announces nothing ("policy", "group 12345 patients"), so the value must look like a code: letters and
digits mixed, or digits too many or too grouped for a count; and it is no date and no dose.

>>> text = "policy AB/20117/9 covers group therapy"
>>> [text[span.start : span.end] for rule in ANNOUNCED_RULES for span in rule.spans(text)]
['AB/20117/9']
"""

# ruff: noqa: E501 - a rule is one line of its table: an expression broken in two is hard to check
from __future__ import annotations

import re

from appliance.specialists.deid.lexicon import COMMON_WORDS
from appliance.specialists.deid.rules import LIKELY, RECORD_VALUE, Check, Rule, has_digits, in_context, shaped

_DATE = re.compile(r"\d{1,2}[-/.]\d{1,2}[-/.](?:\d{4}|\d{2})|\d{4}[-/.]\d{1,2}[-/.]\d{1,2}|\d{1,2}[-/]\d{4}")
_DOSE = re.compile(
    r"[\d.,/-]+(?:mg|mcg|ug|g|kg|ml|l|units?|iu|meq|mmol|mm|cm|hz|bpm|yo|yr|h|hr|d|wk|st|nd|rd|th|x)", re.IGNORECASE
)
_UNIT_AFTER = re.compile(r"\s?(?:mg|mcg|units?|ml|mm|cm|%|[a-z]+s\b)", re.IGNORECASE)
_INSURANCE = re.compile(
    r"\b(?:subscriber|member|policy(?:holder)?|insur\w{2,6}|plan|payer|carrier|id)\b", re.IGNORECASE
)
_CARRIER_VALUE = rf"(?:\d{{4}}(?: \d{{4}}){{1,5}}(?: \d{{1,3}})?|{RECORD_VALUE})"


def _code(digits: int, plain_digits: int) -> Check:
    """Letters and digits (or digits in groups) with at least `digits`, or a plain number of `plain_digits`."""

    def is_code(match: re.Match[str]) -> bool:
        value = match["id"]
        count = sum(character.isdigit() for character in value)
        if _DATE.fullmatch(value) or _DOSE.fullmatch(value):
            return False
        if value.isdigit():
            after = match.string[match.end("id") : match.end("id") + 16]
            return count >= plain_digits and not _UNIT_AFTER.match(after)
        return count >= digits and (any(character.isalpha() for character in value) or count >= digits + 2)

    return is_code


def _is_insured_group(match: re.Match[str]) -> bool:
    """ "group 12394" is a number of insurance only where insurance is spoken of."""
    if not _code(4, 4)(match):
        return False
    before = match.string[max(0, match.start() - 80) : match.start()]
    return not match["id"].isdigit() or _INSURANCE.search(before) is not None


def _is_user(match: re.Match[str]) -> bool:
    return match["id"].casefold() not in COMMON_WORDS and not _DOSE.fullmatch(match["id"])


ANNOUNCED_RULES: tuple[Rule, ...] = (
    in_context("ACCOUNT", r"claims?|invoice|guarantor|encounter|billing", RECORD_VALUE, _code(4, 7)),
    in_context("HEALTH_PLAN", r"polic(?:y|ies)(?:holder)?|certificate of insurance|scheme", RECORD_VALUE, _code(5, 7)),
    in_context("HEALTH_PLAN", r"group|grp", RECORD_VALUE, _is_insured_group),
    in_context("MRN", r"(?:(?:wrist|id|name|patient|hospital)[ -]?)?(?:band|bracelet)", RECORD_VALUE, _code(5, 6)),
    in_context("DEVICE", r"ser", RECORD_VALUE, _code(4, 6)),
    in_context("DEVICE", r"(?:(?:asset|property|equipment|inventory|biomed|pump|device|monitor) )?tag", RECORD_VALUE, _code(3, 5)),
    in_context("OTHER_ID", r"(?:m\.?e\.?|medical examiner(?:'s)?|coroner(?:'s)?|police|court|incident|crime)\s(?:case|report|file)", RECORD_VALUE, has_digits(3)),
    in_context("OTHER_ID", r"(?:(?:study|trial|research) )?(?:subject|participant|volunteer|enrollee|screening)", RECORD_VALUE, _code(4, 6)),
    in_context("OTHER_ID", r"rx(?=\.?\s?(?:#|no\b|num|:\s?\d))|prescription(?=\s?(?:#|no\b|num))", RECORD_VALUE, _code(5, 5)),
    in_context("OTHER_ID", r"tracking|consignment|waybill|fedex|ups|usps|dhl", _CARRIER_VALUE, _code(8, 8)),
    shaped("OTHER_ID", r"(?<![A-Z0-9])(?P<id>1Z[A-Z0-9]{16})(?![A-Z0-9])", has_digits(8)),
    shaped("OTHER_ID", r"\b(?:user(?: ?name| ?id)?|log(?:in|on)(?: id)?|uid)[\s:=]{1,3}(?P<id>[A-Z][A-Z._]{1,24}\d{1,6})(?![\w@-])", _is_user),
    shaped("OTHER_ID", r"\b(?:user ?name|user ?id|log(?:in|on)(?: id)?|uid)\s?[:=]\s?(?P<id>[A-Z][A-Z0-9._-]{2,31})(?![\w@])", _is_user),
    in_context("LICENSE", r"gmc|nmc(?: pin)?|gdc|hcpc|gphc|ahpra|medical council|board of medicine|state board|medical board", RECORD_VALUE, _code(5, 6)),
    shaped("SSN", r"\blast[ -]?(?:4|four)(?: digits)?[\s:#=(]{1,3}(?:is |are |of )?(?P<id>\d{4})(?![\d/:.,-]|\s?(?:mg|days?|weeks?|months?|hours?))", certainty=LIKELY),
)  # fmt: skip
