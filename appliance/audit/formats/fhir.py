"""FHIR R4 `AuditEvent`, in the pattern of IHE BALP: one resource a record, as newline-delimited JSON or in a Bundle.

    to_line(record)                    # b'{"resourceType":"AuditEvent",…}\\n'
    resource(record)["outcome"]        # "0", "4", "8" or "12"

Codes come from one table (`CODES`), by the name of the event; what is not in it gets the code of an application's
activity. The resource follows the BALP pattern (a client or user who asked, the server that did it, the exchange as a
transaction) and claims no BALP profile, because what happens here is no FHIR interaction. `entity.detail` carries the
record's place in the log, so that it can be matched with a receipt. Contents never enter a resource.

FHIR strings hold no control characters: texts are written by `entry.visible`, which is reversible.
"""

from __future__ import annotations

import ipaddress
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

from appliance import __version__
from appliance.audit.formats.entry import (
    UNREADABLE,
    ExportedRecord,
    ascii_json,
    sentence,
    sorted_attributes,
    value_text,
    visible,
)
from appliance.types import Outcome

DCM = "http://dicom.nema.org/resources/ontology/DCM"
_HL7 = "http://terminology.hl7.org/CodeSystem/"
REST, RESTFUL = _HL7 + "audit-event-type", "http://hl7.org/fhir/restful-interaction"
ENTITY_TYPE, OBJECT_ROLE, SOURCE_TYPE = _HL7 + "audit-entity-type", _HL7 + "object-role", _HL7 + "security-source-type"
PARTICIPATION = _HL7 + "v3-ParticipationType"
BALP_ENTITY = "https://profiles.ihe.net/ITI/BALP/CodeSystem/BasicAuditEntityType"


@dataclass(frozen=True, slots=True)
class Codes:
    """How an event is coded: `action` is C, R, U, D or E (execute)."""

    type: str
    subtype: str | None
    action: str


ACTIVITY, LOG_USED, EXPORT, AUTHENTICATION, ALERT = "110100", "110101", "110106", "110114", "110113"
DISPLAY = {
    ACTIVITY: "Application Activity",
    LOG_USED: "Audit Log Used",
    EXPORT: "Export",
    ALERT: "Security Alert",
    AUTHENTICATION: "User Authentication",
    "110120": "Application Start",
    "110121": "Application Stop",
    "110122": "Login",
    "110123": "Logout",
    "110129": "Security Configuration",
    "110131": "Software Configuration",
    "110133": "Audit Recording Stopped",
    "110134": "Audit Recording Started",
    "110136": "Security Roles Changed",
    "110137": "User security Attributes Changed",
    "110150": "Application",
    "110153": "Source Role ID",
    "rest": "Restful Operation",
    "operation": "operation",
}
# By name, or by the part before the first dot. Security alerts are what changes who may do what (DICOM PS3.15).
CODES = {
    "specialist.run": Codes("rest", "operation", "E"),
    "specialist.deidentify": Codes("rest", "operation", "E"),
    "specialist.embed": Codes("rest", "operation", "E"),
    "specialist.find": Codes("rest", "operation", "E"),
    "specialist.route": Codes("rest", "operation", "E"),
    "specialist.evaluate": Codes("rest", "operation", "E"),
    "specialist.list": Codes(ACTIVITY, None, "R"),
    "specialist.show": Codes(ACTIVITY, None, "R"),
    "specialist.versions": Codes(ACTIVITY, None, "R"),
    "specialist.verify": Codes(ACTIVITY, None, "R"),
    "specialist.export": Codes(EXPORT, None, "R"),
    "specialist.loaded": Codes(ACTIVITY, None, "E"),
    "specialist": Codes(ALERT, "110131", "U"),
    "model.list": Codes(ALERT, "110131", "R"),
    "model.show": Codes(ALERT, "110131", "R"),
    "model.verified": Codes(ALERT, "110131", "R"),
    "model.exported": Codes(EXPORT, None, "R"),
    "model": Codes(ALERT, "110131", "U"),
    "model.generate": Codes("rest", "operation", "E"),
    "conversation.list": Codes("rest", "operation", "R"),
    "conversation.show": Codes("rest", "operation", "R"),
    "conversation.create": Codes("rest", "operation", "C"),
    "conversation.change": Codes("rest", "operation", "U"),
    "conversation.answer": Codes("rest", "operation", "E"),
    "conversation.delete": Codes("rest", "operation", "D"),
    "teaching.table": Codes("rest", "operation", "E"),
    "teaching.read": Codes(ALERT, "110131", "R"),
    "teaching": Codes(ALERT, "110131", "E"),
    "signer.list": Codes(ALERT, "110129", "R"),
    "signer": Codes(ALERT, "110129", "U"),
    "answer": Codes("rest", "operation", "E"),
    "guard.decided": Codes("rest", "operation", "E"),
    "guard.shown": Codes(ALERT, "110129", "R"),
    "guard": Codes(ALERT, "110129", "U"),
    "review": Codes("rest", "operation", "E"),
    "appliance.started": Codes(ACTIVITY, "110120", "E"),
    "appliance.stopped": Codes(ACTIVITY, "110121", "E"),
    "appliance": Codes(ACTIVITY, None, "E"),
    "session.sign_in": Codes(AUTHENTICATION, "110122", "E"),
    "session.sign_out": Codes(AUTHENTICATION, "110123", "E"),
    "session": Codes(AUTHENTICATION, None, "E"),
    "account.created": Codes(ALERT, "110137", "C"),
    "account.list": Codes(ALERT, "110137", "R"),
    "account": Codes(ALERT, "110137", "U"),
    "api_key.created": Codes(ALERT, "110137", "C"),
    "api_key.list": Codes(ALERT, "110137", "R"),
    "api_key": Codes(ALERT, "110137", "U"),
    "request": Codes(ALERT, None, "E"),
    "setup": Codes(ALERT, "110136", "E"),
    "change": Codes(ALERT, "110137", "U"),
    "keys": Codes(ALERT, "110129", "U"),
    "audit.export": Codes(EXPORT, None, "R"),
    "audit.loss_declared": Codes(ALERT, "110134", "C"),
    "audit.paused": Codes(ALERT, "110133", "E"),
    "audit.resumed": Codes(ALERT, "110134", "E"),
    "audit": Codes(LOG_USED, None, "R"),
    "genesis": Codes(ALERT, "110134", "C"),
    "start": Codes(ALERT, "110134", "E"),
    "stop": Codes(ALERT, "110133", "E"),
    "epoch": Codes(ALERT, "110134", "C"),
    "clock": Codes(ALERT, None, "E"),
    "key": Codes(ALERT, "110129", "U"),
    "hold.list": Codes(ALERT, "110129", "R"),
    "hold": Codes(ALERT, "110129", "U"),
    "retention.list": Codes(ALERT, "110129", "R"),
    "retention.run": Codes(ALERT, None, "D"),
    "retention": Codes(ALERT, "110129", "U"),
    "support": Codes(EXPORT, None, "R"),
    "certificate": Codes(ALERT, "110129", "U"),
    "egress": Codes(ALERT, None, "E"),
    "capacity": Codes(ACTIVITY, None, "E"),
    "backup.list": Codes(ALERT, None, "R"),
    "backup.pruned": Codes(ALERT, None, "D"),
    "backup.restored": Codes(ALERT, "110134", "C"),
    "backup": Codes(EXPORT, None, "R"),
    "tombstone": Codes(ALERT, None, "D"),
    "purge": Codes(ALERT, None, "D"),
    "shred": Codes(ALERT, None, "D"),
    "erased": Codes(ALERT, None, "D"),
    "erasure.list": Codes(ALERT, None, "R"),
    "erasure": Codes(ALERT, None, "D"),
}
DEFAULT = Codes(ACTIVITY, None, "E")
_OUTCOMES: dict[str, str] = {
    Outcome.ACCEPTED: "0",
    Outcome.COMPLETED: "0",
    Outcome.CANCELLED: "4",
    Outcome.REFUSED: "4",
    Outcome.FAILED: "8",
}
# Failures that left a service unavailable: "major" in the words of the value set.
_MAJOR_ERRORS = ("audit_unavailable", "audit_paused", "audit_quarantined", "engine_unavailable")
_MAJOR_EVENTS = ("audit.paused", "key.distrust")
_PEOPLE = ("user:", "local:")


def to_line(record: ExportedRecord) -> bytes:
    """One resource and a line break (application/fhir+ndjson)."""
    return ascii_json(resource(record)).encode("ascii") + b"\n"


def bundle_parts(origin: str) -> tuple[bytes, bytes]:
    """What stands before and after the entries of a Bundle of type collection."""
    head = ascii_json(
        {"resourceType": "Bundle", "type": "collection", "identifier": _identifier(origin, "log", origin)}
    )
    return head[:-1].encode("ascii") + b',"entry":[\n', b"]}\n"


def bundle_entry(record: ExportedRecord) -> bytes:
    """One entry of a Bundle, without the comma between entries."""
    url = f"urn:uuid:{_uuid(record.record_id)}"
    return ascii_json({"fullUrl": url, "resource": resource(record)}).encode("ascii")


def resource(record: ExportedRecord) -> dict[str, Any]:
    """The AuditEvent of a record."""
    codes = codes_of(record.event)
    fields: dict[str, Any] = {
        "resourceType": "AuditEvent",
        "id": record.record_id,
        "type": _coding(codes.type),
    }
    if codes.subtype:
        fields["subtype"] = [_coding(codes.subtype)]
    fields |= {"action": codes.action, "recorded": record.time}
    outcome = outcome_of(record)
    if outcome:
        fields["outcome"] = outcome
    return fields | {
        "outcomeDesc": visible(sentence(record)),
        "agent": _agents(record),
        "source": _source(record),
        "entity": _entities(record),
    }


def codes_of(event: str) -> Codes:
    """The codes of an event, of its family, or the default."""
    return CODES.get(event) or CODES.get(event.partition(".")[0], DEFAULT)


def outcome_of(record: ExportedRecord) -> str | None:
    """0 success, 4 minor, 8 serious, 12 major failure; None where the record does not open."""
    if record.event in _MAJOR_EVENTS or record.attributes.get("error") in _MAJOR_ERRORS:
        return "12"
    return None if record.event == UNREADABLE else _OUTCOMES.get(record.outcome, "4")


def _agents(record: ExportedRecord) -> list[dict[str, Any]]:
    """Who asked, then the server that did it; where the log itself or the system acts there is only the server."""
    server = {
        "type": {"coding": [_coding("110150")]},
        "who": {"identifier": _identifier(record.origin, "log", record.origin), "display": f"Cloister {__version__}"},
        "requestor": not _has_requestor(record),
    }
    if not _has_requestor(record):
        return [server]
    human = record.actor.startswith(_PEOPLE)
    kind = {"system": PARTICIPATION, "code": "IRCP", "display": "information recipient"} if human else _coding("110153")
    asked: dict[str, Any] = {
        "type": {"coding": [kind]},
        "who": {"identifier": _identifier(record.origin, "actor", record.actor)},
        "requestor": True,
    }
    address = record.attributes.get("address")
    if isinstance(address, str) and address:
        asked["network"] = {"address": visible(address), "type": "2" if _is_ip(address) else "1"}
    return [asked, server]


def _has_requestor(record: ExportedRecord) -> bool:
    return record.kind == "sealed" and record.actor not in ("", "system")


def _source(record: ExportedRecord) -> dict[str, Any]:
    observer = {"identifier": _identifier(record.origin, "log", record.origin)}
    kind = {"system": SOURCE_TYPE, "code": "4", "display": "Application Server"}
    return {"site": visible(record.origin), "observer": observer, "type": [kind]}


def _entities(record: ExportedRecord) -> list[dict[str, Any]]:
    """The record in the log, then what it was about: the exchange, the specialist, and whom, if that was asked."""
    system_object = {"system": ENTITY_TYPE, "code": "2", "display": "System Object"}
    places = {"log": record.origin, "seq": str(record.seq), "record": record.record_id, "leaf": record.leaf.hex()}
    said = {f"attribute.{name}": value_text(value) for name, value in sorted_attributes(record).items()}
    entities: list[dict[str, Any]] = [
        {
            "what": {"identifier": _identifier(record.origin, "record", record.record_id)},
            "type": system_object,
            "role": {"system": OBJECT_ROLE, "code": "13", "display": "Security Resource"},
            "detail": [
                {"type": visible(name), "valueString": visible(value)}
                for name, value in (places | said).items()
                if value
            ],
        }
    ]
    if record.exchange_id:
        kind = {"system": BALP_ENTITY, "code": "XrequestId"}
        identifier = _identifier(record.origin, "exchange", record.exchange_id)
        entities.append({"what": {"identifier": identifier}, "type": kind})
    specialist = record.attributes.get("specialist")
    if isinstance(specialist, str) and specialist:
        version = value_text(record.attributes.get("specialist_version", ""))
        named = f"{specialist}@{version}" if version else specialist
        identifier = _identifier(record.origin, "specialist", named)
        entities.append({"what": {"identifier": identifier}, "type": system_object, "name": visible(named)})
    if record.subject:
        role = {"system": OBJECT_ROLE, "code": "1", "display": "Patient"}
        person = {"system": ENTITY_TYPE, "code": "1", "display": "Person"}
        identifier = _identifier(record.origin, "subject", record.subject)
        entities.append({"what": {"identifier": identifier}, "type": person, "role": role})
    return entities


def _identifier(origin: str, kind: str, value: str) -> dict[str, str]:
    """A name in this site's own namespace: the origin without its epoch, which changes after a restore."""
    site = origin.rpartition("/")[0] or origin
    return {"system": f"https://{quote(site, safe='/.-_~', errors='surrogatepass')}/{kind}", "value": visible(value)}


def _coding(code: str) -> dict[str, str]:
    system = {"rest": REST, "operation": RESTFUL}.get(code, DCM)
    return {"system": system, "code": code, "display": DISPLAY[code]}


def _is_ip(address: str) -> bool:
    try:
        ipaddress.ip_address(address)
    except ValueError:
        return False
    return True


def _uuid(record_id: str) -> str:
    pieces = (record_id[:8], record_id[8:12], record_id[12:16], record_id[16:20], record_id[20:])
    return "-".join(pieces)
