"""Every record is an AuditEvent that R4 takes: the tables below are written by hand from hl7.org/fhir/R4/auditevent.

Elements, how often they occur, and the codes that the value sets hold; whatever the tables do not name is refused.
"""

import dataclasses
import json
import re

import pytest
from audit_records import HOSTILE, LONG, formula_cells, has_raw_danger, record_of, records
from hypothesis import given

from appliance.audit.formats.entry import restored
from appliance.audit.formats.fhir import DCM, bundle_entry, bundle_parts, codes_of, resource, to_line
from appliance.service.event_names import EVENTS

HL7 = "http://terminology.hl7.org/CodeSystem/"
STRING, CODE, BOOLEAN = "string", "code", "boolean"
CODING = {"system": (1, 1, "uri"), "code": (1, 1, CODE), "display": (0, 1, STRING)}
CONCEPT = {"coding": (0, None, CODING), "text": (0, 1, STRING)}
IDENTIFIER = {"system": (0, 1, "uri"), "value": (1, 1, STRING)}
REFERENCE = {"identifier": (0, 1, IDENTIFIER), "display": (0, 1, STRING)}
AUDIT_EVENT = {
    "resourceType": (1, 1, CODE),
    "id": (0, 1, "id"),
    "type": (1, 1, CODING),
    "subtype": (0, None, CODING),
    "action": (0, 1, CODE),
    "recorded": (1, 1, "instant"),
    "outcome": (0, 1, CODE),
    "outcomeDesc": (0, 1, STRING),
    "agent": (
        1,
        None,
        {
            "type": (0, 1, CONCEPT),
            "who": (0, 1, REFERENCE),
            "requestor": (1, 1, BOOLEAN),
            "network": (0, 1, {"address": (0, 1, STRING), "type": (0, 1, CODE)}),
        },
    ),
    "source": (1, 1, {"site": (0, 1, STRING), "observer": (1, 1, REFERENCE), "type": (0, None, CODING)}),
    "entity": (
        0,
        None,
        {
            "what": (0, 1, REFERENCE),
            "type": (0, 1, CODING),
            "role": (0, 1, CODING),
            "name": (0, 1, STRING),
            "detail": (0, None, {"type": (1, 1, STRING), "valueString": (1, 1, STRING)}),
        },
    ),
}
PATTERNS = {
    "uri": r"\S+",
    "id": r"[A-Za-z0-9\-.]{1,64}",
    CODE: r"[^\s]+(\s[^\s]+)*",
    STRING: "[\r\n\t -\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]+",
    "instant": r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z",
}
DICOM_TYPES = {"110100", "110101", "110106", "110113", "110114"}
DICOM_SUBTYPES = {"110120", "110121", "110122", "110123", "110129", "110131", "110133", "110134", "110136", "110137"}
VALUES = {
    ("type", HL7 + "audit-event-type"): {"rest"},
    ("type", DCM): DICOM_TYPES,
    ("subtype", DCM): DICOM_SUBTYPES,
    ("subtype", "http://hl7.org/fhir/restful-interaction"): {"operation"},
    ("agent.type.coding", DCM): {"110150", "110153"},
    ("agent.type.coding", HL7 + "v3-ParticipationType"): {"IRCP"},
    ("source.type", HL7 + "security-source-type"): {"4"},
    ("entity.type", HL7 + "audit-entity-type"): {"1", "2"},
    ("entity.type", "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"): {"XrequestId"},
    ("entity.role", HL7 + "object-role"): {"1", "13"},
}
CODES = {"action": set("CRUDE"), "outcome": {"0", "4", "8", "12"}, "agent.network.type": set("12345")}


def check(value, shape, path=""):
    """Fails where `value` is not of `shape`."""
    assert not set(value) - set(shape), f"{path}: {set(value) - set(shape)}"
    for name, (least, most, kind) in shape.items():
        place = f"{path}.{name}".lstrip(".")
        assert name in value or not least, f"{place} is missing"
        if name not in value:
            continue
        found = value[name] if most is None else [value[name]]
        assert isinstance(found, list) and found, f"{place} is empty"
        for item in found:
            if isinstance(kind, dict):
                check(item, kind, place)
                if kind is CODING:
                    assert item["code"] in VALUES[place, item["system"]], f"{place}: {item}"
            elif kind == BOOLEAN:
                assert isinstance(item, bool)
            else:
                assert isinstance(item, str) and re.fullmatch(PATTERNS[kind], item), f"{place}: {item!r}"
                assert item in CODES.get(place, {item}), f"{place}: {item}"


def details(event):
    return {restored(item["type"]): restored(item["valueString"]) for item in event["entity"][0]["detail"]}


@given(records())
def test_any_record_is_a_valid_resource_in_one_clean_line(record):
    line = to_line(record).decode("ascii")
    assert line.count("\n") == 1 and not has_raw_danger(line[:-1]) and not formula_cells(line)
    event = json.loads(line)
    check(event, AUDIT_EVENT)
    assert sum(agent["requestor"] for agent in event["agent"]) == 1
    found = details(event)
    assert (found["seq"], found["leaf"]) == (str(record.seq), record.leaf.hex())


@pytest.mark.parametrize("text", HOSTILE + LONG, ids=lambda text: ascii(text[:20]))
def test_hostile_text_comes_back_wherever_it_stands(text):
    event = resource(record_of(actor=text, exchange_id=text, attributes={text: text, "address": text}))
    check(event, AUDIT_EVENT)
    if text:
        assert details(event)[f"attribute.{text}"] == text
        assert restored(event["agent"][0]["who"]["identifier"]["value"]) == text


@pytest.mark.parametrize("name", list(EVENTS))
def test_every_event_of_the_product_has_codes_of_its_own(name):
    record = record_of(event=name, public=EVENTS[name].record_class == "public")
    event = resource(record)
    check(event, AUDIT_EVENT)
    known = ("appliance", "engine", "system", "doctor", "capacity", "specialist", "heartbeat")
    assert codes_of(name).type != "110100" or name.startswith(known), "falls to the default"


@pytest.mark.parametrize(
    ("said", "outcome"),
    [
        ({"outcome": "accepted"}, "0"),
        ({"outcome": "completed"}, "0"),
        ({"outcome": "refused"}, "4"),
        ({"outcome": "cancelled"}, "4"),
        ({"outcome": "failed"}, "8"),
        ({"outcome": "failed", "attributes": {"error": "engine_unavailable"}}, "12"),
        ({"event": "audit.paused", "public": True}, "12"),
        ({"readable": False, "outcome": ""}, None),
    ],
)
def test_outcomes(said, outcome):
    assert resource(record_of(**said)).get("outcome") == outcome


def test_who_asked_what_did_it_and_for_whom():
    about = {"address": "10.0.0.7", "specialist": "phi-deid", "specialist_version": "1.1.0"}
    record = record_of(event="specialist.deidentify", exchange_id="ab12", attributes=about)
    event = resource(record)
    asked, server = event["agent"]
    assert asked["type"]["coding"][0]["code"] == "IRCP"
    assert asked["network"] == {"address": "10.0.0.7", "type": "2"}
    system = "https://clinic.example/audit/0b6f1c2d-0000-4000-8000-000000000001"
    assert asked["who"]["identifier"] == {"system": f"{system}/actor", "value": "user:7"}
    assert event["source"]["observer"]["identifier"] == server["who"]["identifier"]
    _, exchange, specialist = event["entity"]
    assert exchange["what"]["identifier"] == {"system": f"{system}/exchange", "value": "ab12"}
    assert specialist["name"] == "phi-deid@1.1.0"
    assert resource(record_of(actor="api-key:3"))["agent"][0]["type"]["coding"][0]["code"] == "110153"
    assert len(resource(record_of(public=True, actor="sequencer"))["agent"]) == 1


def test_no_content_and_no_subject_unless_the_caller_gives_it():
    record = record_of(content=b"a secret note")
    assert b"secret" not in to_line(record)
    told = resource(dataclasses.replace(record, subject="case 12"))
    check(told, AUDIT_EVENT)
    assert told["entity"][-1]["what"]["identifier"]["value"] == "case 12"


def test_a_bundle_is_a_collection_of_the_same_resources():
    before, after = bundle_parts("clinic.example/audit/x/e1")
    records_in = [record_of(7), record_of(8)]
    bundle = json.loads(before + b",\n".join(bundle_entry(record) for record in records_in) + after)
    assert (bundle["resourceType"], bundle["type"]) == ("Bundle", "collection")
    assert [entry["resource"] for entry in bundle["entry"]] == [resource(record) for record in records_in]
    assert all(re.fullmatch(r"urn:uuid:[0-9a-f-]{36}", entry["fullUrl"]) for entry in bundle["entry"])
    assert json.loads(before + after)["entry"] == []
