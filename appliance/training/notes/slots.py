"""What the slots of templates become: the cast of one note, and a function per slot.

Owns: `Case` (the patient, relatives, clinicians, facilities and dates that one note keeps mentioning) and `fill`, which
turns a template into pieces. `<a|b>` in a template chooses one; `{slot}` is replaced by pieces with their labels.

>>> fill("Seen by {doctor} <today|again>.", case)   # [Piece("Seen by "), Piece("Dr. "), Piece("Okafor", "NAME"), ...]
"""

from __future__ import annotations

import random
import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import date

from appliance.training.notes import dates, facilities, identifiers, invented, people, word_lists
from appliance.training.notes.people import Person
from appliance.training.notes.pieces import Piece
from appliance.training.notes.sources import Sources

_CHOICE = re.compile(r"<([^<>\n]*\|[^<>]*)>")
_SLOT = re.compile(r"\{(\w+)\}")
Pieces = list[Piece]


@dataclass(frozen=True, slots=True)
class Case:
    """The cast of one note."""

    rng: random.Random
    sources: Sources
    patient: Person
    relatives: tuple[Person, ...]
    clinicians: tuple[Person, ...]
    hospital: str
    short_hospital: str
    city: str
    visit: date
    age: int
    birth: date
    record: str

    @classmethod
    def draw(cls, rng: random.Random, sources: Sources) -> Case:
        """A new cast; about one patient in nine is ninety or older."""
        visit = dates.draw_visit(rng)
        age = (
            rng.randint(90, 104)
            if rng.random() < 0.11
            else rng.choice((rng.randint(0, 17), *(rng.randint(18, 89),) * 4))
        )
        patient = people.draw_person(rng, sources)
        relatives = tuple(people.draw_person(rng, sources) for _ in range(2))
        clinicians = tuple(people.draw_person(rng, sources) for _ in range(3))
        hospital = facilities.organisation(rng, sources, "hospital form")
        short = "".join(w[0] for w in re.findall(r"[A-Za-z]+", hospital) if w[0].isupper())
        city = rng.choice(sources.places)
        birth = dates.draw_birth(rng, visit, age)
        return cls(
            rng, sources, patient, relatives, clinicians, hospital, short, city, visit, age, birth, identifiers.mrn(rng)
        )

    @property
    def domain(self) -> str:
        """A host name made of the hospital's name."""
        return re.sub(r"[^a-z]", "", self.hospital.lower())[:14] or "clinic"


def _city(case: Case) -> Pieces:
    rng = case.rng
    city = case.city if rng.random() < 0.5 else rng.choice(case.sources.places)
    roll = rng.random()
    if roll < 0.2:
        return [Piece(f"{city}, {rng.choice(word_lists.place_words()['us state'])}", "LOCATION")]
    if roll < 0.27:
        return [Piece(f"{city} County", "LOCATION")]
    return [Piece(city, "LOCATION")]


def _zip(case: Case) -> Pieces:
    code = f"{case.rng.randrange(501, 99951):05}" + (
        f"-{case.rng.randrange(10000):04}" if case.rng.random() < 0.3 else ""
    )
    return [Piece(code, "LOCATION")]


def _hospital(case: Case) -> Pieces:
    if case.rng.random() < 0.2 and len(case.short_hospital) > 2:
        return [Piece(case.short_hospital, "ORGANIZATION")]
    name = (
        case.hospital if case.rng.random() < 0.6 else facilities.organisation(case.rng, case.sources, "hospital form")
    )
    return [Piece(name, "ORGANIZATION")]


def _hospital_with_short(case: Case) -> Pieces:
    return [Piece(case.hospital, "ORGANIZATION"), Piece(" ("), Piece(case.short_hospital, "ORGANIZATION"), Piece(")")]


def _employer(case: Case) -> Pieces:
    if case.rng.random() < 0.12:
        return [Piece(case.rng.choice(word_lists.place_words()["employer known"]), "ORGANIZATION")]
    return [Piece(facilities.organisation(case.rng, case.sources, "employer form"), "ORGANIZATION")]


def _age(case: Case) -> Pieces:
    return [Piece(str(case.age), "AGE" if case.age >= 90 else None)]


def _aged(case: Case) -> Pieces:
    rng = case.rng
    if case.age >= 90:
        age = dates.old_age(rng) if rng.random() < 0.3 else _age(case)
        if rng.random() < 0.06:
            return [Piece("woman in her " if case.patient.female else "man in his "), Piece("90s", "AGE")]
    else:
        age = _age(case)
    tail = rng.choice(("-year-old", "-year-old", " year old", "yo", " y/o", " y.o.", "-yr-old", " yr old"))
    sex = rng.choice(("female", "woman", "F", "lady") if case.patient.female else ("male", "man", "M", "gentleman"))
    return [*age, Piece(f"{tail} {sex}")]


def _relative(case: Case) -> Person:
    return case.rng.choice(case.relatives)


def _clinician(case: Case) -> Person:
    return case.rng.choice(case.clinicians)


def _near(case: Case, days: int = 400) -> date:
    return dates.near(case.rng, case.visit, days)


def _number(low: float, high: float, digits: int = 0) -> Callable[[Case], Pieces]:
    def draw(case: Case) -> Pieces:
        value = case.rng.uniform(low, high)
        return [Piece(f"{value:.{digits}f}")]

    return draw


def _labelled(label: str, make: Callable[[random.Random], str]) -> Callable[[Case], Pieces]:
    return lambda case: [Piece(make(case.rng), label)]


def _name(make: Callable[[Person, random.Random], Pieces], who: Callable[[Case], Person]) -> Callable[[Case], Pieces]:
    return lambda case: make(who(case), case.rng)


def _part(part: str, who: Callable[[Case], Person]) -> Callable[[Case], Pieces]:
    return lambda case: [Piece(getattr(who(case), part), "NAME")]


def _patient(case: Case) -> Person:
    return case.patient


def _dictation_initials(case: Case) -> Pieces:
    first, second = case.clinicians[0].initials(), case.clinicians[1].initials()
    joint = case.rng.choice(("/", ":", "/", " / "))
    second = second.lower() if case.rng.random() < 0.6 else second
    return [Piece(first.upper(), "NAME"), Piece(joint), Piece(second, "NAME")]


def _staff_initials(case: Case) -> Pieces:
    """Who did it, by two or three letters, as charts and labels are signed."""
    letters = _clinician(case).initials().upper()
    dotted = ".".join(letters) + "."
    return [Piece(case.rng.choice((letters, letters, letters, dotted, letters.lower())), "NAME")]


def _code(name: str, rng: random.Random) -> str:
    """What an organisation is called in a system's messages: its initials, now and then with a letter more."""
    words = [word for word in re.split(r"[^\w]+", name) if word and word[0].isupper()]
    code = "".join(word[0] for word in words)
    return code + (rng.choice("HMCX") if len(code) < 3 else "")


def _pronoun(female: str, male: str) -> Callable[[Case], Pieces]:
    return lambda case: [Piece(female if case.patient.female else male)]


def _listed_or(case: Case, slot: str, invent: Callable[[], str]) -> str:
    """A known word of the slot, or as often one that nobody has seen before."""
    return invent() if case.rng.random() < 0.5 else case.rng.choice(word_lists.vocabulary()[slot])


def _amount(case: Case) -> Pieces:
    rng = case.rng
    value = rng.choice((rng.uniform(1, 100), rng.uniform(100, 10_000), rng.uniform(10_000, 900_000)))
    return [
        Piece(
            rng.choice(
                (
                    f"${value:,.2f}",
                    f"${value:,.0f}",
                    f"{value:,.2f} USD",
                    f"EUR {value:,.2f}",
                    f"£{value:,.0f}",
                    f"{value:.2f}",
                )
            )
        )
    ]


def _dose(case: Case) -> Pieces:
    number = case.rng.choice(
        "1 2.5 5 10 12.5 20 25 40 50 75 81 90 100 125 200 250 300 325 400 500 600 800 1000".split()
    )
    return [Piece(f"{number} {case.rng.choice(('mg', 'mg', 'mg', 'mcg', 'units', 'mL'))}")]


def _vitals(case: Case) -> Pieces:
    rng = case.rng
    systolic, diastolic = rng.randint(84, 198), rng.randint(44, 112)
    return [Piece(f"{systolic}/{diastolic}")]


def _families(case: Case) -> tuple[str, ...]:
    """Family names of one origin: an eponym is as likely to come from anywhere as a patient."""
    return case.sources.origins[case.rng.choice(sorted(case.sources.origins))].family


SLOTS: Mapping[str, Callable[[Case], Pieces]] = {
    "patient": _name(people.mention, _patient),
    "patient_full": _name(people.full, _patient),
    "patient_listed": _name(people.listed, _patient),
    "patient_titled": _name(people.titled, _patient),
    "title_patient": _name(people.titled, _patient),
    "patient_first": _part("given", _patient),
    "patient_last": _part("family", _patient),
    "patient_nick": _part("nickname", _patient),
    "relative": _name(people.mention, _relative),
    "relative_full": _name(people.full, _relative),
    "relative_first": _part("given", _relative),
    "relative_last": _part("family", _relative),
    "dr": _name(people.doctor, _clinician),
    "doctor": _part("family", _clinician),
    "doctor_full": _name(people.full, _clinician),
    "doctor_first": _part("given", _clinician),
    "doctor_signed": _name(people.signed, _clinician),
    "doctor_listed": _name(people.listed, _clinician),
    "initials": _dictation_initials,
    "initial": lambda c: [Piece(_clinician(c).given[0], "NAME")],
    "staff_initials": _staff_initials,
    "hospital_code": lambda c: [Piece(_code(c.hospital, c.rng), "ORGANIZATION")],
    "brand": lambda c: [Piece(_listed_or(c, "brand", lambda: invented.brand(c.rng)))],
    "eponym": lambda c: [Piece(_listed_or(c, "eponym", lambda: invented.eponym(c.rng, _families(c))))],
    "placeeponym": lambda c: [Piece(_listed_or(c, "placeeponym", lambda: invented.eponym(c.rng, _families(c))))],
    "acronym": lambda c: [Piece(invented.acronym(c.rng))],
    "date": lambda c: dates.any_date(_near(c), c.rng),
    "visit": lambda c: dates.any_date(c.visit, c.rng),
    "visit_full": lambda c: dates.full_date(c.visit, c.rng),
    "dob": lambda c: dates.full_date(c.birth, c.rng),
    "full_date": lambda c: dates.full_date(_near(c, 2000), c.rng),
    "old_date": lambda c: dates.any_date(_near(c, 9000), c.rng),
    "month": lambda c: dates.month(_near(c), c.rng),
    "day": lambda c: dates.day_of_month(_near(c), c.rng),
    "range": lambda c: dates.date_range(_near(c), c.rng),
    "stamp": lambda c: dates.stamp(_near(c), c.rng),
    "hl7_date": lambda c: [
        Piece(
            f"{_near(c):%Y%m%d}" + c.rng.choice(("", "", f"{c.rng.randrange(24):02}{c.rng.randrange(60):02}00")), "DATE"
        )
    ],
    "hl7_dob": lambda c: [Piece(f"{c.birth:%Y%m%d}", "DATE")],
    "year": lambda c: [Piece(str(c.rng.randint(1955, 2026)))],
    "age": _age,
    "aged": _aged,
    "age90": lambda c: dates.old_age(c.rng),
    "young": lambda c: [Piece(str(c.rng.randint(1, 89)))],
    "city": _city,
    "city_only": lambda c: [Piece(c.rng.choice(c.sources.places), "LOCATION")],
    "county": lambda c: [Piece(f"{c.rng.choice(c.sources.places)} County", "LOCATION")],
    "address": lambda c: [Piece(facilities.address(c.rng, c.sources, c.city, lines=False), "LOCATION")],
    "address_block": lambda c: [Piece(facilities.address(c.rng, c.sources, c.city, lines=True), "LOCATION")],
    "town": lambda c: [Piece(facilities.town(c.rng, c.sources, c.city), "LOCATION")],
    "zip": _zip,
    "hospital": _hospital,
    "hospital_full": lambda c: [Piece(c.hospital, "ORGANIZATION")],
    "hospital_short": _hospital_with_short,
    "employer": _employer,
    "ward": lambda c: [Piece(facilities.unit(c.rng, c.sources), "ORGANIZATION")],
    "phone": _labelled("PHONE", identifiers.phone),
    "extension": _labelled("PHONE", identifiers.extension),
    "fax": _labelled("FAX", identifiers.phone),
    "email": lambda c: [Piece(identifiers.email(c.rng, c.patient.given, c.patient.family, c.domain), "EMAIL")],
    "email_doctor": lambda c: [
        Piece(identifiers.email(c.rng, c.clinicians[0].given, c.clinicians[0].family, c.domain), "EMAIL")
    ],
    "ssn": _labelled("SSN", identifiers.ssn),
    "ssn4": _labelled("SSN", lambda r: identifiers.shaped(r, "####")),
    "mrn": lambda c: [Piece(c.record if c.rng.random() < 0.7 else identifiers.mrn(c.rng), "MRN")],
    "plan": _labelled("HEALTH_PLAN", identifiers.health_plan),
    "account": _labelled("ACCOUNT", identifiers.account),
    "iban": _labelled("ACCOUNT", identifiers.iban),
    "card": _labelled("ACCOUNT", identifiers.card),
    "card_masked": _labelled("ACCOUNT", identifiers.masked_card),
    "routing": _labelled("ACCOUNT", identifiers.routing),
    "npi": _labelled("LICENSE", identifiers.npi),
    "dea": lambda c: [Piece(identifiers.dea(c.rng, _clinician(c).family), "LICENSE")],
    "license": _labelled("LICENSE", identifiers.license_number),
    "plate": _labelled("VEHICLE", identifiers.plate),
    "vin": _labelled("VEHICLE", identifiers.vin),
    "serial": _labelled("DEVICE", identifiers.device_serial),
    "url": lambda c: [Piece(identifiers.url(c.rng, c.patient.family, c.domain), "URL")],
    "ip": _labelled("IP", identifiers.ip),
    "biometric": _labelled("BIOMETRIC", identifiers.biometric),
    "other_id": _labelled("OTHER_ID", identifiers.other_id),
    "passport": _labelled("OTHER_ID", identifiers.passport),
    "tax_id": _labelled("OTHER_ID", identifiers.tax_id),
    "he": _pronoun("she", "he"),
    "He": _pronoun("She", "He"),
    "his": _pronoun("her", "his"),
    "His": _pronoun("Her", "His"),
    "him": _pronoun("her", "him"),
    "sex": _pronoun("F", "M"),
    "bp": _vitals,
    "hr": _number(48, 138),
    "rr": _number(10, 32),
    "temp": _number(96.4, 103.8, 1),
    "spo2": _number(84, 100),
    "n": _number(1, 12),
    "nn": _number(10, 99),
    "nnn": _number(100, 999),
    "x1": _number(0, 15, 1),
    "x2": _number(0, 5, 2),
    "dose": _dose,
    "freq": lambda c: [
        Piece(
            c.rng.choice(
                (
                    "daily",
                    "BID",
                    "TID",
                    "q6h",
                    "q8h prn",
                    "at bedtime",
                    "twice a day",
                    "once weekly",
                    "every other day",
                    "q4-6h as needed",
                    "QHS",
                    "x 7 days",
                    "for 10 days",
                )
            )
        )
    ],
    "amount": _amount,
    "level": lambda c: [
        Piece(c.rng.choice(("C4-C5", "C6", "T4", "T10-T11", "T12", "L1", "L2-L3", "L4-5", "L5-S1", "S1", "C1-2")))
    ],
    "score": lambda c: [Piece(f"{c.rng.randint(0, 10)}/10")],
    "time": lambda c: [
        Piece(
            c.rng.choice(
                (
                    f"{c.rng.randrange(24):02}:{c.rng.randrange(60):02}",
                    f"{c.rng.randrange(24):02}{c.rng.randrange(60):02}",
                    f"{c.rng.randint(1, 12)}:{c.rng.randrange(60):02} {c.rng.choice(('AM', 'PM', 'am', 'pm'))}",
                    f"{c.rng.randint(1, 12)} p.m.",
                )
            )
        )
    ],
}


def fill(template: str, case: Case) -> Pieces:
    """The template as pieces."""
    rng = case.rng
    while _CHOICE.search(template):
        template = _CHOICE.sub(lambda match: rng.choice(match[1].split("|")), template)
    return fill_slots(template, case)


def fill_slots(template: str, case: Case) -> Pieces:
    """Like `fill`, for prose in which `<` and `|` mean themselves."""
    words = word_lists.vocabulary()
    pieces: Pieces = []
    at = 0
    for match in _SLOT.finditer(template):
        if match.start() > at:
            pieces.append(Piece(template[at : match.start()]))
        slot = match[1]
        if slot in SLOTS:
            pieces += SLOTS[slot](case)
        else:
            pieces.append(Piece(case.rng.choice(words[slot])))
        at = match.end()
    if at < len(template):
        pieces.append(Piece(template[at:]))
    return pieces
