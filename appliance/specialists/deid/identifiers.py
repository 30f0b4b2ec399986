"""Numbers and addresses of the electronic kind, as rules: phones to passports, each with its context or check digit.

>>> [(span.label, span.start) for rule in IDENTIFIER_RULES for span in rule.spans("SSN: 078-05-1120")]
[('SSN', 5)]
"""

# ruff: noqa: E501 - a rule is one line of its table: an expression broken in two is hard to check
from __future__ import annotations

import re

from appliance.specialists.deid.checksums import (
    is_card,
    is_dea,
    is_iban,
    is_ip_address,
    is_nhs_number,
    is_npi,
    is_routing_number,
    is_vin,
)
from appliance.specialists.deid.lexicon import COMMON_WORDS
from appliance.specialists.deid.rules import (
    LIKELY,
    RECORD_VALUE,
    SPACED_DIGITS,
    Rule,
    has_digits,
    in_context,
    passes,
    shaped,
)

# Words that mean a number is meant; ordinary words ("group", "order") are a context only in front of one of these.
_ANNOUNCED = r"(?=\.?\s?(?:#|№|:|no\b|nos\b|num|nbr|id\b|code\b))"
VALUE = rf"(?:{SPACED_DIGITS}|{RECORD_VALUE})"
_VERSION_BEFORE = re.compile(r"(?:\bv|version|ver\.?|release|build|firmware|section|sw)[\s:]{0,2}$", re.IGNORECASE)
_TOP_LEVEL = (
    r"(?:com|org|net|edu|gov|mil|info|health|care|clinic|hospital|bank|io|co\.uk|org\.uk|nhs\.uk|ac\.uk|gov\.uk|"
    r"com\.au|org\.au|co\.nz|co\.in|ca|de|fr|eu|us)"
)


def _is_address_not_version(match: re.Match[str]) -> bool:
    before = match.string[max(0, match.start("id") - 12) : match.start("id")]
    return is_ip_address(match["id"]) and not _VERSION_BEFORE.search(before)


def _is_ipv6(match: re.Match[str]) -> bool:
    value = match["id"]
    return sum(character.isalnum() for character in value) >= 4 and is_ip_address(value)


def _is_spaced_nhs(match: re.Match[str]) -> bool:
    return is_nhs_number(match["id"])


def _is_plate(match: re.Match[str]) -> bool:
    """Four characters or more, and the letters are no word ("plate and 6 screws")."""
    letters = "".join(character for character in match["id"].casefold() if character.isalpha())
    size = sum(character.isalnum() for character in match["id"])
    return size >= 4 and letters not in COMMON_WORDS and _has_letter_and_digit(match)


def _has_letter_and_digit(match: re.Match[str]) -> bool:
    value = match["id"]
    return any(character.isalpha() for character in value) and any(character.isdigit() for character in value)


_ELECTRONIC: tuple[Rule, ...] = (
    # The local part may not be entered in its middle: without the look-behind a long word costs its square.
    shaped(
        "EMAIL",
        r"(?<![\w.+%'-])(?P<id>[\w.+%'-]{1,64}(?:@| @ ?|\s?[\[(]at[\])]\s?)(?:[A-Z0-9][A-Z0-9-]{0,62}\.){1,5}[A-Z]{2,24})(?![A-Z0-9])",
    ),
    shaped("URL", r"(?<![A-Z0-9])(?P<id>(?:https?|ftp|sftp)://[^\s<>\"'`|\\^{}]{1,2000}[^\s<>\"'`|\\^{}.,;:!?)\]])"),
    shaped("URL", r"(?<![A-Z0-9@.])(?P<id>www\.[A-Z0-9-]{1,63}(?:\.[A-Z0-9-]{1,63}){1,5}(?:[/?#][^\s<>\"',;)]{0,500}[^\s<>\"',;).])?)"),
    shaped(
        "URL",
        rf"(?<![A-Z0-9@._-])(?P<id>(?:[A-Z0-9][A-Z0-9-]{{1,62}}\.){{1,4}}{_TOP_LEVEL}(?:[/?][^\s<>\"',;)]{{0,500}}[^\s<>\"',;).])?)(?![A-Z0-9@-]|\.[A-Z])",
    ),
    shaped("IP", r"(?<![\d.])(?P<id>\d{1,3}(?:\.\d{1,3}){3})(?![\d]|\.\d)", _is_address_not_version),
    shaped("IP", r"(?<![\w:.])(?P<id>[0-9A-F]{0,4}(?::[0-9A-F]{0,4}){2,7})(?![\w:])", _is_ipv6),
    shaped("DEVICE", r"(?<![0-9A-F:\-])(?P<id>[0-9A-F]{2}(?:[:-][0-9A-F]{2}){5})(?![0-9A-F]|[:-][0-9A-F])"),
)  # fmt: skip

_NATIONAL: tuple[Rule, ...] = (
    shaped("SSN", r"(?<![\w-])(?P<id>(?:\d{3}|[X*#]{3})[-–](?:\d{2}|[X*#]{2})[-–]\d{4})(?![\w-])"),
    in_context("SSN", r"ssn|s\.s\.n\.?|ss\s?#|ss no\.?|soc(?:ial)?\.? sec(?:urity)?\.?", r"\d{3}[\s.]?\d{2}[\s.]?\d{4}"),
    shaped(
        "SSN",
        r"\b(?:ssn|ss#|social(?: security)?(?: number| no\.?)?)[\s:,#(]{0,3}(?:(?:ending|ends?)(?: in| with)?|last (?:four|4)(?: digits)?(?: of)?)?"
        r"[\s:,#]{0,3}(?:is |are |in )?(?P<id>(?:[X*#]{3}[-\s]?[X*#]{2}[-\s]?)?\d{4})(?![\d/-])",
    ),
    shaped(
        "SSN",
        r"\blast (?:four|4)(?: digits)?(?: of)?(?: the| her| his| patient's)?\s?(?:ssn|ss#?|social(?: security)?(?: number)?)"
        r"[\s:,#(]{0,3}(?:is |are )?(?P<id>\d{4})(?!\d)",
    ),
    shaped("MRN", r"(?<![\d\-./+])(?P<id>\d{3} \d{3} \d{4})(?![\d\-/]|\.\d)", _is_spaced_nhs),
    in_context("MRN", r"nhs", r"\d{3}[\s-]?\d{3}[\s-]?\d{4}"),
    shaped("HEALTH_PLAN", r"(?<![\w-])(?P<id>[1-9][AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y][AC-HJKMNP-RT-Y0-9]\d-?[AC-HJKMNP-RT-Y]{2}\d{2})(?![\w-])"),
    in_context("OTHER_ID", r"passport", r"[A-Z]{0,2}\d{6,9}"),
    in_context("OTHER_ID", r"ein|tin|itin|tax(?:payer)?(?: id(?:entification)?)?|federal id", r"\d{2}-?\d{7}|9\d{2}-?\d{2}-?\d{4}"),
)  # fmt: skip

_LICENCES: tuple[Rule, ...] = (
    shaped("LICENSE", r"(?<![A-Z0-9])(?P<id>[ABCDEFGHJKLMPRSTUX][A-Z9]\d{7})(?![A-Z0-9])", passes(is_dea)),
    in_context("LICENSE", r"dea(?: reg(?:istration)?\.?)?", r"[A-Z]{1,2}\d?[- ]?\d{6,7}"),
    shaped("LICENSE", r"(?<![\d\-.])(?P<id>[12]\d{9})(?![\d\-]|\.\d)", passes(is_npi), LIKELY),
    in_context("LICENSE", r"npi", r"\d{10}"),
    in_context(
        "LICENSE",
        r"driver'?s?'? licen[cs]e|driving licen[cs]e|licen[cs]e|lic|dln|d\.l\.|dl(?=\s?[#:]| no| num)|drivers? lic|cdl|cert(?:ificate)?",
        VALUE,
        has_digits(4),
    ),
    shaped("VEHICLE", r"(?<![A-Z0-9])(?P<id>[A-HJ-NPR-Z0-9]{17})(?![A-Z0-9])", passes(is_vin)),
    in_context("VEHICLE", r"vin|vehicle identification", r"[A-HJ-NPR-Z0-9]{11,17}", _has_letter_and_digit),
    in_context(
        "VEHICLE",
        r"licen[cs]e plates?|number plates?|plates?|licen[cs]e tag|vehicle reg(?:istration)?|car reg(?:istration)?|reg(?:istration)? plate",
        r"(?:[A-Z]{1,4}[- ]?\d{1,4}(?:-?[A-Z]{1,3}| (?!(?:in|on|at|is|was|and|the|to|for|of|by|or|a|it|as|he|she)\b)[A-Z]{1,3})?|\d{1,4}[- ]?[A-Z]{1,4}(?:[- ]?\d{1,4})?|[A-Z]{2}\d{2} ?[A-Z]{3})",
        _is_plate,
    ),
)  # fmt: skip

_MONEY: tuple[Rule, ...] = (
    shaped("ACCOUNT", r"(?<![A-Z0-9])(?P<id>[A-Z]{2}\d{2}(?: ?[A-Z0-9]{4}){2,7}(?: ?[A-Z0-9]{1,3})?)(?![A-Z0-9])", passes(is_iban)),
    shaped("ACCOUNT", r"(?<![\d\-.])(?P<id>[2-6]\d{3}(?:[ -]?\d{4}){2}[ -]?\d{1,7}|3\d{3}[ -]?\d{6}[ -]?\d{5})(?![\d\-]|\.\d)", passes(is_card)),
    shaped("ACCOUNT", r"(?<![\w*])(?P<id>(?:[X*]{4}[ -]?){2,3}\d{4})(?!\w)"),
    shaped("ACCOUNT", r"\b(?:card|visa|mastercard|amex|account|acct)\b[^.\n\d]{0,24}(?:ending(?: in| with)?|ends? (?:in|with)|last (?:four|4))[\s:]{1,2}(?P<id>\d{4})(?!\d)"),
    in_context("ACCOUNT", r"aba|rtn", r"\d{9}", passes(is_routing_number)),
    in_context("ACCOUNT", r"routing(?: transit)?|sort code", r"\d{9}|\d{2}-\d{2}-\d{2}"),
    in_context(
        "ACCOUNT",
        r"acc(?:oun)?t|csn|(?:guarantor|visit|encounter|enc|fin|har|claim|invoice|billing|bill|statement|check|loan|reference"
        rf"|ref|confirmation|transaction|order|authori[sz]ation|auth){_ANNOUNCED}",
        VALUE,
        has_digits(5),
    ),
)  # fmt: skip

_RECORDS: tuple[Rule, ...] = (
    in_context(
        "MRN",
        r"mrn|m\.r\.n\.?|mr\s?#|mr no|med(?:ical)?\.? rec(?:ord)?s?|accession|mpi|crn"
        rf"|(?:unit|chart|hospital|acc|specimen|case|patient|pt|pid|emr|epi|record|file){_ANNOUNCED}",
        VALUE,
        has_digits(4),
    ),
    in_context(
        "HEALTH_PLAN",
        r"member|subscriber|medicare|medicaid|beneficiary|mbi|hicn|insurance|health ?plan|rx ?(?:bin|grp|group|pcn)|tricare"
        r"|blue cross|bcbs|aetna|cigna|humana|kaiser|unitedhealthcare|uhc"
        rf"|(?:policy(?:holder)?|group|grp|ins|hic|plan|payer|enrollee|certificate|contract){_ANNOUNCED}",
        VALUE,
        has_digits(5),
    ),
    in_context(
        "DEVICE",
        rf"serial|s/n|sn|lot|udi|imei|asset|(?:device|implant|model|pacemaker|generator|catalog|ser|ref){_ANNOUNCED}",
        VALUE,
        has_digits(4),
    ),
    shaped("DEVICE", r"(?P<id>\(01\)\d{14}(?:\(\d{2}\)[A-Z0-9]{1,20}){0,4})(?![A-Z0-9(])"),
    in_context(
        "BIOMETRIC",
        r"(?:finger ?prints?|thumb ?print|retina(?:l)?(?: scan)?|iris(?: scan)?|voice ?prints?|face(?: |-)?(?:id|print|scan|template)|facial(?: recognition| scan)?|palm(?: print| scan)?|biometrics?|photo(?:graph)?s?|image|picture|dental records?|dna(?: profile| sample)?)(?: (?:template|scan|hash|file|capture|enrol?lment|record))?",
        VALUE,
        has_digits(4),
    ),
    shaped("BIOMETRIC", r"(?<![A-Z0-9])(?P<id>(?:IMG|DSC|DSCN|PHOTO|PIC|FACE|FP)[_-]?\d{3,10}(?:\.(?:jpe?g|png|heic|tiff?|bmp|dcm))?)(?![A-Z0-9])"),
    in_context(
        "OTHER_ID",
        r"national id|aadhaar|curp|cpf|nino|badge|docket|barcode"
        r"|(?:study|subject|participant|employee|student|registry|donor|trial|protocol|military|dod|service|inmate|user"
        rf"|ticket|tracking){_ANNOUNCED}",
        VALUE,
        has_digits(4),
    ),
)  # fmt: skip

IDENTIFIER_RULES: tuple[Rule, ...] = (*_ELECTRONIC, *_NATIONAL, *_LICENCES, *_MONEY, *_RECORDS)
