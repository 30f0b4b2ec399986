"""Guaranteed: the site page says of each protection whether it is in order, since when, and what to do if not; figures
of a model appear only where that file was measured, and else how to measure it; every value stays text."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime

import pytest
from fake_api import FakeApi
from fake_site import ago, two_models, unprotected, well_protected
from test_ui_escaping import HOSTILE, Reader, seen

from ui import site_views
from ui.client import Client, Refused, Visitor


def drawn(answer: dict) -> str:
    return " ".join(Reader(site_views.protection(answer, now=datetime.now(UTC))).text.split())


def test_each_age_and_each_finding_is_shown_with_a_remedy_only_where_one_is_needed() -> None:
    text = drawn(well_protected())
    for words in (
        "Time since a byte could leave 12 days", "Last tried 3 h ago", "Last backup 5 h ago",
        "Last rehearsed restore 2 days ago", "Certificate! See to it", "tcp refused: network is unreachable",
        "What to do: appliance tls create NAME",
    ):  # fmt: skip
        assert words.replace(" ", "") in text.replace(" ", ""), words
    assert text.count("What to do:") == 1 and text.count("In order") == 3


def test_what_never_ran_is_said_with_its_remedy() -> None:
    text = drawn(unprotected())
    assert text.count("never") >= 4 and text.count("What to do:") == 3
    assert "Time since a byte could leavenever tried" in text and "appliance recovery-kit create" in text


def test_an_open_way_and_a_failed_backup_are_not_shown_as_if_they_protected() -> None:
    answer = well_protected()
    answer["egress"] |= {"verdict": "open", "blocked_since": None, "ways": {"tcp": "left: 192.0.2.1:443"}}
    answer["backup"] = {"time": ago(hours=5), "succeeded": False, "error": "home_full"}
    answer["checks"][1] |= {"state": "fail"}
    text = drawn(answer)
    assert "Time since a byte could leavea way is open" in text and "left: 192.0.2.1:443" in text
    assert "Last backupfailed 5 h ago" in text and "! Not in order" in text


def test_a_last_test_that_is_too_old_tells_no_age() -> None:
    answer = well_protected()
    answer["egress"] |= {"time": ago(days=30), "blocked_since": None}
    text = drawn(answer)
    assert "Time since a byte could leavenot known" in text and "Last tried30 days ago" in text


def test_a_clock_that_was_set_back_makes_no_negative_age() -> None:
    answer = well_protected()
    answer["backup"]["time"] = ago(hours=-2)
    assert "Last backup0 s ago" in drawn(answer)


def test_figures_are_shown_with_when_and_with_which_file_or_how_to_measure() -> None:
    text = " ".join(Reader(site_views.capacity(two_models())).text.split())
    assert "4 people at once at reading speed" in text and "8 tokens per second" in text
    assert "21.5" in text and "9.0" in text and "2026-11-20 08:15:00 UTC on CPU, 16 threads; file 5b5b5b5b5b5b" in text
    assert "Not measured with this file yet" in text and "appliance doctor --capacity medgemma-4b" in text
    assert "appliance models import" in site_views.capacity({"data": []}).replace("&#45;", "-")


def test_a_gpu_that_was_not_used_is_said_aloud_beside_the_figures() -> None:
    answer = two_models()
    why = "it needs NVIDIA's driver 580 or later, and this machine has 535.183.01"
    answer["data"][0]["capacity"] |= {"device": f"CPU: the GPU pack is not used: {why}", "gpu_refused": why}
    drawn = " ".join(Reader(site_views.capacity(answer)).text.split())
    assert f"GPU not used {why}. The figures are those of the processor." in drawn and "UTC on CPU; file" in drawn
    assert "GPU" not in Reader(site_views.capacity(two_models())).text


@pytest.mark.parametrize("text", HOSTILE)
def test_hostile_values_of_the_site_stay_text(text: str) -> None:
    protection, capacity, calm = well_protected(), two_models(), two_models()
    calm["data"][0]["capacity"]["gpu_refused"] = "the driver is old"
    for check in protection["checks"]:
        check |= {"name": text, "found": text, "remedy": text}
    protection["egress"]["ways"] = {text: text, "tcp": text}
    capacity["data"][0] |= {"model": text, "sha256": text, "command": text}
    capacity["data"][0]["capacity"] |= {"device": text, "gpu_refused": text}
    now = datetime.now(UTC)
    pairs = (
        (site_views.protection(protection, now=now), site_views.protection(well_protected(), now=now)),
        (site_views.capacity(capacity), site_views.capacity(calm)),
    )
    for hostile, plain in pairs:
        read = Reader(hostile)
        assert [tag for tag, _ in read.elements] == [tag for tag, _ in Reader(plain).elements]
        assert seen(text) in read.text and "\n" not in hostile and hostile.startswith("<section")


def test_both_are_asked_of_the_api_and_refused_to_those_whose_site_it_is_not() -> None:
    fake = FakeApi()

    def visitor(name: str) -> Visitor:
        return Client(fake.app).visitor(cookie=fake.open_session(name), address=None)

    assert asyncio.run(visitor("a.stone").protection())["recovery_kit"] is True
    assert asyncio.run(visitor("a.stone").capacity())["data"][0]["model"] == "qwen3-4b"
    with pytest.raises(Refused, match="may not do this"):
        asyncio.run(visitor("m.keller").protection())
    with pytest.raises(Refused, match="may not do this"):
        asyncio.run(visitor("m.keller").capacity())
