"""Guaranteed: the line on top of the audit pages reassures only when something is kept outside and is recent."""

from __future__ import annotations

import pytest
from fake_audit import new_exposure
from test_ui_escaping import AUDITOR, Reader

from ui import audit_views, views


@pytest.mark.parametrize(
    ("changed", "level", "says"),
    [
        ({}, "is-good", "In order: the newest checkpoint outside this machine is 34 s old"),
        ({"age_s": None, "anchored_size": 0, "sinks": []}, "is-warn", "Not protected outside: no checkpoint has left"),
        ({"age_s": None, "alarm": True}, "is-bad", "Alarm: no checkpoint has left this machine yet"),
        ({"age_s": 400.0, "alarm": True}, "is-bad", "Alarm: the newest checkpoint outside this machine is 7 min old"),
    ],
)
def test_the_line_on_top_says_how_far_the_log_is_protected(changed: dict, level: str, says: str) -> None:
    drawn = Reader(audit_views.standing(new_exposure() | changed))
    assert level in str(drawn.elements[0][1])
    assert says in " ".join(drawn.text.split())
    assert f'class="exposure {level}"' in audit_views.exposure_card(new_exposure() | changed)


@pytest.mark.parametrize(
    ("name", "gone", "shown"),
    [("m.keller", False, "user:7 · m.keller"), (None, True, "user:7 · no longer here"), (None, False, "user:7")],
)
def test_records_show_who_an_actor_is_beside_the_id_of_the_log(name: str | None, gone: bool, shown: str) -> None:
    record = {"seq": 3, "record_id": "ab" * 16, "time": "2026-11-23T18:00:00+00:00", "event": "specialist.run"}
    record |= {"outcome": "completed", "actor": "user:7", "actor_name": name, "actor_gone": gone, "exchange_id": ""}
    record |= {"attributes": {}, "has_content": False, "content": None}
    for drawn in (
        views.records({"data": [record]}, number=1),
        audit_views.found_records([record], running=False),
        audit_views.record(record, exposure=None, user=AUDITOR),
    ):
        text = " ".join(Reader(drawn).text.split())
        assert shown in text and ("·" in text) == (shown != "user:7")
