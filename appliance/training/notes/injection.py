"""Identifiers where a real sentence has room for them: "the patient" becomes a name, "today" gains a date.

Owns: the places in carrier prose and what may stand there. Returns prose with slots, to be filled by `slots`.

>>> inject("The patient saw her cardiologist last week.", random.Random(4), share=1.0)
'{patient} saw her cardiologist {doctor_signed} on {date}.'
"""

from __future__ import annotations

import random
import re
from functools import partial

_KIN = (
    "wife|husband|daughter|son|mother|father|sister|brother|niece|nephew|aunt|uncle|partner|friend|caregiver"
    "|grandmother|grandson|cousin|mom|dad"
)
_CLINICIAN = (
    "primary care physician|primary care provider|primary care doctor|PCP|cardiologist|neurologist|oncologist|surgeon"
    "|urologist|dermatologist|nephrologist|rheumatologist|pulmonologist|endocrinologist|gastroenterologist"
    "|psychiatrist|podiatrist|orthopedist|physical therapist|obstetrician|pediatrician|family doctor"
)

_PLACES: tuple[tuple[re.Pattern[str], tuple[str, ...]], ...] = (
    (re.compile(r"\b[Tt]he patient's\b(?! name)"), ("{patient}'s", "{patient_last}'s", "{patient_first}'s")),
    (re.compile(r"\b[Tt]he patient\b(?!')"), ("{patient}", "{patient_titled}", "{patient_first}", "{patient_full}")),
    (
        re.compile(r"(?:(?<=^)|(?<=\. ))(?:He|She)\b(?=[ ][a-z]+s )"),
        ("{patient_titled}", "{patient_last}", "{patient_first}"),
    ),
    (re.compile(r"(?<=^)Patient\b"), ("{patient_titled}", "{patient_last}", "{patient_full}")),
    (
        re.compile(rf"\b((?:[Hh]is|[Hh]er|[Tt]he patient's) (?:{_KIN}))\b(?![-'’])"),
        (r"\1 {relative_first}", r"\1, {relative_full},", r"\1 ({relative_first}, {phone})"),
    ),
    (
        re.compile(rf"\b((?:his|her|the|a) (?:{_CLINICIAN}))\b(?![-'’/])"),
        (r"\1, Dr. {doctor},", r"\1 {doctor_signed}", r"\1 Dr. {doctor_full}"),
    ),
    (
        re.compile(r"\b(?:in|at|to) (?:the|an outside) (?:emergency room|emergency department|ER|hospital|clinic)\b"),
        ("at {hospital}", "at {hospital} in {city_only}"),
    ),
    (re.compile(r"\b(today)\b(?=[.,])"), (r"\1, {date}", r"\1 ({visit})", "on {visit}")),
    (
        re.compile(r"\b(?:yesterday|last week|last month|a week ago|a month ago|two weeks ago)\b"),
        ("on {date}", "in {month}"),
    ),
    (
        re.compile(r"\b(?:\d+|two|three|four|several) (?:days|weeks|months|years) ago\b"),
        ("on {date}", "in {month}", "on {old_date}"),
    ),
    (re.compile(r"\b[1-8]\d(?=-year-old)"), ("{age90}", "{young}", "{young}")),
    (re.compile(r"\blives alone\b"), ("lives alone in {city}", "lives alone at {address}")),
    (re.compile(r"\blives with\b"), ("lives in {city} with", "lives at {address} with")),
    (re.compile(r"\bworks? as an?\b"), ("works at {employer} as a",)),
)


def inject(prose: str, rng: random.Random, share: float) -> str:
    """The prose with about `share` of its fitting places taken by a slot."""
    for place, fillings in _PLACES:
        prose = place.sub(partial(_filled, fillings, rng, share), prose)
    return prose


def _filled(fillings: tuple[str, ...], rng: random.Random, share: float, match: re.Match[str]) -> str:
    return match.expand(rng.choice(fillings)) if rng.random() < share else match[0]
