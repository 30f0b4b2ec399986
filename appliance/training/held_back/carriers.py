"""Notes of real style without identifiers, from the held-back side of the carrier collections. Reads two files.

A carrier is used only if nothing in it looks like an identifier: rows that speak of anybody or of a day are dropped,
not repaired, because a mark forgotten here would be counted as a model's mistake.
"""

from __future__ import annotations

import csv
import re
from pathlib import Path

from appliance.training.partition import partition

_SOURCES = (
    ("aci_train.csv", "encounter_id", "note"),
    ("mts_dialog_train.csv", "ID", "section_text"),
    ("mts_dialog_valid.csv", "ID", "section_text"),
)
CHARACTERS_MIN = 60
CHARACTERS_MAX = 6000
_MONTHS = (
    "January|February|March|April|June|July|August|September|October|November|December"
    "|Jan|Feb|Mar|Apr|Jun|Jul|Aug|Sept?|Oct|Nov|Dec"
)
_SUSPECT = re.compile(
    rf"\b(?:Dr|Mr|Mrs|Ms|Miss|Doctor|Nurse|Prof)\b\.?|\b(?:{_MONTHS})\b|\d{{1,2}}/\d{{1,4}}\b(?!\s*(?:mg|mm|strength|pain))"
    r"|\d{3}-\d{4}|\b9\d-year|@|\b(?:Hospital|Clinic|Center|Centre|Medical|University|School|County|Street|Avenue|Store|Department)\b"
    r"|\b[A-Z]\.\s?[A-Z]\.|\bABC\w?\b|\bXYZ\b|\bMay\s(?:\d|of\b)|\bin May\b",
)
# A word with a capital inside a sentence: a drug, an eponym - or a name. Only the words below are known harmless.
_CAPITALISED = re.compile(r"(?<=[a-z,;] )[A-Z][a-z]+")
_HARMLESS = frozenset(
    """Tylenol Advil Motrin Aleve Ibuprofen Lipitor Zocor Crestor Norvasc Lasix Coumadin Plavix Prozac Zoloft
    Lexapro Paxil Celexa Xanax Ativan Valium Klonopin Ambien Neurontin Lyrica Vicodin Percocet Norco Ultram
    Flexeril Lortab Zantac Pepcid Prilosec Nexium Protonix Synthroid Lantus Humalog Novolog Glucophage Metformin
    Aspirin Albuterol Advair Flonase Singulair Zyrtec Claritin Allegra Benadryl Sudafed Caucasian African
    American Hispanic Asian Monday Tuesday Wednesday Thursday Friday Saturday Sunday Alzheimer Parkinson Crohn
    Foley Doppler Holter Babinski Romberg Lasegue Baker Tinel Phalen Spurling Lachman Mc Murray Ace Bactrim
    Keflex Augmentin Cipro Levaquin Zithromax Accutane Depakote Lithium Seroquel Zyprexa Risperdal Abilify
    Wellbutrin Effexor Cymbalta Topamax Imitrex Botox Medrol Prednisone Physical Therapy She He The No Right
    Left Bilateral Patient Review Systems""".split()
)


def read_carriers(data: Path) -> list[str]:
    """The usable carriers in the order of their files."""
    folder = data / "clinical_note_carriers"
    texts: list[str] = []
    for name, key, column in _SOURCES:
        with (folder / name).open(encoding="utf-8-sig", newline="") as file:
            texts.extend(row[column].strip() for row in csv.DictReader(file) if partition(row[key]) == "held_back")
    return [text for text in dict.fromkeys(texts) if is_clean(text)]


def is_clean(text: str) -> bool:
    """Whether nothing in `text` could be an identifier; doubt counts as one."""
    if not CHARACTERS_MIN <= len(text) <= CHARACTERS_MAX or _SUSPECT.search(text):
        return False
    return all(word in _HARMLESS for word in _CAPITALISED.findall(text))
