"""Check digits of identifiers that carry one: is this string of the right shape the real thing or just a number?

Each function takes the text as it was written (spaces and hyphens allowed) and answers yes or no; none raises.
Only ASCII digits and letters count, so that digits of other scripts never pass by accident.

>>> is_card("4111 1111 1111 1111"), is_npi("1234567893"), is_iban("GB82 WEST 1234 5698 7654 32")
(True, True, True)
"""

from __future__ import annotations

import ipaddress

NPI_PREFIX = "80840"  # ISO card issuer prefix of United States health identifiers, part of the NPI's check sum
VIN_WEIGHTS = (8, 7, 6, 5, 4, 3, 2, 10, 0, 9, 8, 7, 6, 5, 4, 3, 2)
VIN_VALUES = dict(zip("ABCDEFGHJKLMNPRSTUVWXYZ", (*range(1, 9), *range(1, 6), 7, 9, *range(2, 10)), strict=True))
IBAN_LENGTH_MIN, IBAN_LENGTH_MAX = 15, 34
SEPARATORS = str.maketrans("", "", " -.\u00a0\u2011\u2013\t\n\r")


def compact(text: str) -> str:
    """Upper case, without the separators people put into numbers."""
    return text.translate(SEPARATORS).upper()


def digits_of(text: str) -> list[int] | None:
    """The digits of a number, or None where anything else than separators stands between them."""
    plain = compact(text)
    return [ord(character) - 48 for character in plain] if plain.isascii() and plain.isdigit() else None


def luhn(digits: list[int]) -> bool:
    """ISO/IEC 7812: every second digit from the right doubled, digits summed, divisible by ten."""
    doubled = [digit * 2 - 9 if digit > 4 else digit * 2 for digit in digits[-2::-2]]
    return (sum(digits[::-2]) + sum(doubled)) % 10 == 0


def is_card(text: str) -> bool:
    """A payment card number: 13 to 19 digits, an issuer's first digit, Luhn."""
    digits = digits_of(text)
    return digits is not None and 13 <= len(digits) <= 19 and digits[0] in (2, 3, 4, 5, 6) and luhn(digits)


def is_npi(text: str) -> bool:
    """A United States National Provider Identifier: ten digits from 1 or 2, Luhn over 80840 and itself."""
    digits = digits_of(text)
    if not digits or len(digits) != 10 or digits[0] not in (1, 2):
        return False
    return luhn([int(character) for character in NPI_PREFIX] + digits)


def is_dea(text: str) -> bool:
    """A United States Drug Enforcement Administration number: two characters, six digits, a check digit."""
    plain = compact(text)
    if len(plain) != 9 or not plain.isascii() or not plain[0].isalpha() or not plain[1].isalnum():
        return False
    digits = digits_of(plain[2:])
    if digits is None:
        return False
    return (sum(digits[0:6:2]) + 2 * sum(digits[1:6:2])) % 10 == digits[6]


def is_vin(text: str) -> bool:
    """A North American vehicle identification number: 17 characters without I, O, Q and a check character."""
    plain = compact(text)
    if len(plain) != 17 or plain.isdigit() or plain.isalpha():
        return False
    total = 0
    for character, weight in zip(plain, VIN_WEIGHTS, strict=True):
        value = ord(character) - 48 if character in "0123456789" else VIN_VALUES.get(character)
        if value is None:
            return False
        total += value * weight
    return plain[8] == "0123456789X"[total % 11]


def is_iban(text: str) -> bool:
    """An international bank account number: country, check digits, account; ISO 7064 mod 97-10."""
    plain = compact(text)
    if not IBAN_LENGTH_MIN <= len(plain) <= IBAN_LENGTH_MAX or not plain.isascii() or not plain.isalnum():
        return False
    if not plain[:2].isalpha() or not plain[2:4].isdigit():
        return False
    return int("".join(str(int(character, 36)) for character in plain[4:] + plain[:4])) % 97 == 1


def is_routing_number(text: str) -> bool:
    """A United States bank routing (ABA) number: nine digits weighted 3, 7, 1; never all zeros."""
    digits = digits_of(text)
    if not digits or len(digits) != 9 or not any(digits):
        return False
    return sum(digit * weight for digit, weight in zip(digits, (3, 7, 1) * 3, strict=True)) % 10 == 0


def is_nhs_number(text: str) -> bool:
    """A number of the National Health Service of England: ten digits, mod 11; never one digit repeated."""
    digits = digits_of(text)
    if not digits or len(digits) != 10 or len(set(digits)) == 1:
        return False
    remainder = 11 - sum(digit * weight for digit, weight in zip(digits, range(10, 1, -1), strict=False)) % 11
    return remainder % 11 == digits[9] and remainder != 10


def is_ip_address(text: str) -> bool:
    """An IPv4 or IPv6 address."""
    try:
        ipaddress.ip_address(text)
    except ValueError:
        return False
    return True


def is_calendar_day(month: int, day: int, year: int | None = None) -> bool:
    """Whether the month has such a day; without a year, February has 29."""
    leap = year is None or (year % 4 == 0 and (year % 100 != 0 or year % 400 == 0))
    lengths = (31, 29 if leap else 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31)
    return 1 <= month <= 12 and 1 <= day <= lengths[month - 1]
