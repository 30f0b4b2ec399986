"""Values of structured slots: dates, telephone and record numbers, licences, accounts. Made up, in realistic shapes.

label, draw = read_numbers()["phone"]
draw(chance)                                        # "(413) 555-0187"
write_date(day, date_format(chance, "any"))         # "4th of March 2021"
"""

from __future__ import annotations

import random
import string
from collections.abc import Callable, Sequence
from datetime import date
from functools import partial
from pathlib import Path

SHAPES = Path(__file__).with_name("shapes.txt")
Draw = Callable[[random.Random], str]

_MONTH_FIRST = (
    "{m:02}/{d:02}/{y}", "{m}/{d}/{y}", "{m}/{d}/{yy:02}", "{m:02}-{d:02}-{y}", "{B} {d}, {y}", "{b} {d}, {y}",
    "{b}. {d}, {y}", "{B} {d}{th}, {y}", "{m:02}/{d:02}/{yy:02}", "{m}.{d}.{yy:02}",
)  # fmt: skip
_DAY_FIRST = (
    "{d} {B} {y}", "{d:02} {b} {y}", "{d:02}-{b}-{y}", "{d:02}-{bu}-{yy:02}", "{d:02}/{m:02}/{y}", "{d}{th} {B} {y}",
    "{d:02}.{m:02}.{y}", "{d:02}{bu}{y}", "{y}-{m:02}-{d:02}", "{d}{th} of {B} {y}", "{y}/{m:02}/{d:02}",
)  # fmt: skip
_WITHOUT_YEAR = (
    "{m}/{d}", "{m:02}/{d:02}", "{B} {d}", "{b} {d}", "{B} {d}{th}", "{d} {B}", "{d}-{b}", "{d}{th} of {B}",
)  # fmt: skip
_WITHOUT_DAY = ("{B} {y}", "{b} {y}", "{m:02}/{y}", "{m}/{y}", "{B} of {y}")
_FORMATS: dict[str, tuple[str, ...]] = {
    "us": _MONTH_FIRST,
    "uk": _DAY_FIRST,
    "any": (*_MONTH_FIRST, *_DAY_FIRST),
    "md": _WITHOUT_YEAR,
    "my": _WITHOUT_DAY,
    "month": ("{B}",),
    "long": ("{B} {d}, {y}",),
    "iso": ("{y}-{m:02}-{d:02}",),
    "hl7": ("{y}{m:02}{d:02}",),
    "num": ("{m:02}/{d:02}/{y}",),
}
DATE_STYLES = frozenset(_FORMATS)


def date_format(chance: random.Random, style: str) -> str:
    """One way of writing dates; a note mostly keeps to one."""
    return chance.choice(_FORMATS[style])


def write_date(day: date, form: str) -> str:
    """`day` in one of the forms of `date_format`."""
    ordinal = "th" if 10 <= day.day % 100 <= 20 else {1: "st", 2: "nd", 3: "rd"}.get(day.day % 10, "th")
    month = day.strftime("%b")
    names = {"B": day.strftime("%B"), "b": month, "bu": month.upper(), "th": ordinal}
    return form.format(d=day.day, m=day.month, y=day.year, yy=day.year % 100, **names)


def shaped(chance: random.Random, pattern: str) -> str:
    """`9` becomes any digit, `8` one from 2 to 9, `?` a letter, `^` a hexadecimal digit; all else stands."""
    letters = "ABCDEFGHJKLMNPRSTUVWXYZ"
    drawn = {"9": string.digits, "8": "23456789", "?": letters, "^": "0123456789abcdef"}
    return "".join(chance.choice(drawn[sign]) if sign in drawn else sign for sign in pattern)


def with_luhn(digits: str) -> str:
    """The digits and their Luhn check digit.

    >>> with_luhn("7992739871")
    '79927398713'
    """
    total = 0
    for place, sign in enumerate(reversed(digits)):
        value = int(sign) * (2 if place % 2 == 0 else 1)
        total += value - 9 if value > 9 else value
    return f"{digits}{-total % 10}"


def _card(chance: random.Random) -> str:
    prefix = chance.choice(("4", "51", "52", "55"))
    digits = with_luhn(prefix + shaped(chance, "9" * (15 - len(prefix))))
    return chance.choice((" ", "-", "")).join(digits[place : place + 4] for place in range(0, 16, 4))


def _iban(chance: random.Random) -> str:
    """With the two check digits of ISO 7064."""
    bodies = {"DE": "9" * 18, "GB": "????" + "9" * 14, "NL": "????" + "9" * 10, "FR": "9" * 23}
    country, body = chance.choice(tuple(bodies.items()))
    account = shaped(chance, body)
    number = "".join(str(int(sign, 36)) for sign in f"{account}{country}00")
    iban = f"{country}{98 - int(number) % 97:02}{account}"
    return iban if chance.random() < 0.4 else " ".join(iban[place : place + 4] for place in range(0, len(iban), 4))


def _npi(chance: random.Random) -> str:
    body = shaped(chance, "199999999")
    return with_luhn("80840" + body)[5:]


def _dea(chance: random.Random) -> str:
    digits = [int(sign) for sign in shaped(chance, "999999")]
    check = (digits[0] + digits[2] + digits[4] + 2 * (digits[1] + digits[3] + digits[5])) % 10
    return chance.choice("ABFM") + shaped(chance, "?") + "".join(map(str, digits)) + str(check)


def _routing(chance: random.Random) -> str:
    digits = [int(sign) for sign in shaped(chance, "02999999")]
    weights = (3, 7, 1, 3, 7, 1, 3, 7)
    check = -sum(digit * weight for digit, weight in zip(digits, weights, strict=True)) % 10
    return "".join(map(str, [*digits, check]))


def _nhs(chance: random.Random) -> str:
    """Ten digits, the last of which makes the weighted sum a multiple of eleven."""
    while True:
        digits = shaped(chance, "899999999")
        check = -sum(int(sign) * (10 - place) for place, sign in enumerate(digits)) % 11
        if check < 10:
            return f"{digits[:3]} {digits[3:6]} {digits[6:]}{check}"


def _vin(chance: random.Random) -> str:
    """Seventeen signs with the check digit in ninth place."""
    values = {sign: int(sign) for sign in string.digits}
    values |= dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), 1, 2, 3, 4, 5, 7, 9, *range(2, 10)), strict=True))
    weights = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
    body = chance.choice(("1HG", "5NP", "WBA", "2T1", "JTD", "3FA")) + shaped(chance, "??99?09?099999")
    check = sum(values[sign] * weight for sign, weight in zip(body, weights, strict=True)) % 11
    return body[:8] + ("X" if check == 10 else str(check)) + body[9:]


_CHECKED: dict[str, tuple[str, Draw]] = {
    "nhs": ("MRN", _nhs),
    "npi": ("LICENSE", _npi),
    "dea": ("LICENSE", _dea),
    "vin": ("VEHICLE", _vin),
    "iban": ("ACCOUNT", _iban),
    "card": ("ACCOUNT", _card),
    "routing": ("ACCOUNT", _routing),
}


def read_numbers(path: Path = SHAPES) -> dict[str, tuple[str, Draw]]:
    """Per slot its label and how to draw a value: the shapes of the file, and those with check digits."""
    drawn = dict(_CHECKED)
    for line in path.read_text(encoding="utf-8").splitlines():
        if line and not line.startswith("#"):
            names, shapes = line.split(": ", 1)
            slot, label = names.split()
            drawn[slot] = label, partial(_any_shape, shapes.split(" | "))
    return drawn


def _any_shape(shapes: Sequence[str], chance: random.Random) -> str:
    return shaped(chance, chance.choice(shapes))
