"""Check digits: published examples pass, every single-digit error of a passing number is caught, and no text at all
makes a check raise. Examples are from the standards' own documents or are well-known test numbers.
"""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.specialists.deid import checksums as sums

ALL = (
    sums.is_card,
    sums.is_npi,
    sums.is_dea,
    sums.is_vin,
    sums.is_iban,
    sums.is_routing_number,
    sums.is_nhs_number,
    sums.is_ip_address,
)


@pytest.mark.parametrize(
    ("check", "text"),
    [
        (sums.is_card, "4111 1111 1111 1111"),
        (sums.is_card, "378282246310005"),
        (sums.is_card, "5555-5555-5555-4444"),
        (sums.is_npi, "1234567893"),
        (sums.is_dea, "AB1234563"),
        (sums.is_dea, "f91234563"),
        (sums.is_vin, "1M8GDM9AXKP042788"),
        (sums.is_vin, "1hgcm82633a004352"),
        (sums.is_iban, "GB82 WEST 1234 5698 7654 32"),
        (sums.is_iban, "DE89370400440532013000"),
        (sums.is_routing_number, "021000021"),
        (sums.is_nhs_number, "943 476 5919"),
        (sums.is_ip_address, "2001:db8::8a2e:370:7334"),
        (sums.is_ip_address, "192.0.2.17"),
    ],
)
def test_published_examples_pass(check, text):
    assert check(text)


@pytest.mark.parametrize(
    ("check", "number"),
    [
        (sums.is_card, "4111111111111111"),
        (sums.is_npi, "1234567893"),
        (sums.is_vin, "1M8GDM9AXKP042788"),
        (sums.is_iban, "GB82WEST12345698765432"),
        (sums.is_routing_number, "021000021"),
        (sums.is_nhs_number, "9434765919"),
    ],
)
def test_every_single_wrong_digit_is_caught(check, number):
    for place, character in enumerate(number):
        if not character.isdigit():
            continue
        for other in "0123456789".replace(character, ""):
            assert not check(number[:place] + other + number[place + 1 :]), (place, other)


def test_a_wrong_check_digit_of_a_dea_number_is_caught():
    assert [digit for digit in "0123456789" if sums.is_dea("AB123456" + digit)] == ["3"]


@given(st.text(max_size=40))
def test_no_text_makes_a_check_raise(text):
    for check in ALL:
        assert check(text) in (True, False)


@given(st.text(alphabet="٠١٢٣٤٥٦٧٨٩０１２³", min_size=9, max_size=19))
def test_digits_of_other_scripts_never_pass(text):
    assert not any(check(text) for check in ALL)


def test_degenerate_numbers_are_refused():
    assert not sums.is_routing_number("000000000")
    assert not sums.is_nhs_number("1111111111")
    assert not sums.is_card("0000 0000 0000 0000")


def test_calendar_knows_short_months_and_leap_years():
    assert sums.is_calendar_day(2, 29)
    assert sums.is_calendar_day(2, 29, 2000)
    assert not sums.is_calendar_day(2, 29, 1900)
    assert not sums.is_calendar_day(4, 31)
    assert not sums.is_calendar_day(13, 1)
    assert not sums.is_calendar_day(0, 1)
