"""Who may do what in the life of a specialist, and what the log says of it: nobody approves or promotes what they
installed or taught, nothing comes in that nobody vouches for without a decision and its reason, every step leaves one
record before it and one after, and a refusal changes nothing.

The registry, its database and the files are real; the log is in memory, so that a record can be made to fail.
"""

import asyncio
import io
import zipfile

import pytest

import migrations
from appliance.config import Home
from appliance.crypto import ecdsa
from appliance.errors import (
    ApplianceError,
    AuditUnavailable,
    Conflict,
    EngineUnavailable,
    InvalidRequest,
    ModelFileRefused,
    PermissionDenied,
    SecondPersonNeeded,
    SignatureInvalid,
    SignerUntrusted,
    SpecialistFileInvalid,
    SpecialistNotFound,
)
from appliance.service import specialist_life as life
from appliance.service.specialist_life import Upload
from appliance.service.specialists import list_cards, list_versions, show_card
from appliance.specialists.registry import Registry
from appliance.storage.database import open_database
from appliance.types import Outcome, Principal
from tests.service.service_fakes import MemoryLog
from tests.specialist_files import REAL_BASE, write_classifier, write_tagger

ADMIN = frozenset({"admin"})
ANA, BOSS = Principal("user:1", "ana", "user", ADMIN), Principal("user:2", "boss", "user", ADMIN)
MACHINE = Principal("local:uid-0", "local:uid-0", "local", frozenset({"admin", "user"}))
OTHER_MACHINE = Principal("local:uid-7", "local:uid-7", "local", frozenset({"admin", "user"}))
ANAS_KEY = Principal("api-key:9", "Ana/deploy", "api_key", ADMIN, frozenset({"specialist.install"}))
USER = Principal("user:4", "ute", "user", frozenset({"user"}))
PRIVATE = ecdsa.generate()


@pytest.fixture
def registry(tmp_path):
    home = Home(tmp_path / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    engine = open_database(home.database, mode="rw")
    yield Registry(engine, home)
    engine.dispose()


@pytest.fixture
def log():
    return MemoryLog()


@pytest.fixture
def content(tmp_path):
    def of(version="0.1.0", **changes):
        values = {"base": REAL_BASE, "version": version} | changes
        return write_classifier(tmp_path / "made" / "triage.gguf", **values).read_bytes()

    return of


def signed(content, private=PRIVATE):
    return Upload(content, life.signature_of(content, "triage.gguf", private))


def do(work):
    return asyncio.run(work)


async def loads(_adapter):
    return None


def trusted(registry, log):
    do(life.trust(registry, log, BOSS, "Vendor Ltd", ecdsa.public_of(PRIVATE)))
    log.events.clear()


def installed(registry, log, content, by=ANA):
    card = do(life.install(registry, log, by, Upload(content, reason="pilot-ward-3")))
    log.events.clear()
    return card


def refused(work, kind, registry, log):
    """The registry is as it was, and the log holds one record before and one after that says why."""
    before = registry.every_version()
    with pytest.raises(kind) as caught:
        do(work)
    assert registry.every_version() == before
    if log.events:
        assert log.outcomes() == [Outcome.ACCEPTED, Outcome.REFUSED]
        assert log.events[-1].attributes["error"] == caught.value.code
    return caught.value


def test_a_file_with_a_trusted_signature_waits_for_approval(registry, log, content):
    trusted(registry, log)
    card = do(life.install(registry, log, ANA, signed(content())))
    assert (card["state"], card["admitted"], card["signed"]) == ("awaiting_approval", "signature", True)
    assert (card["signer"], card["installed_by"], card["approved_by"]) == ("Vendor Ltd", "user:1", None)
    assert log.outcomes() == [Outcome.ACCEPTED, Outcome.COMPLETED]
    said = log.events[-1].attributes
    assert (said["specialist"], said["specialist_version"], said["signer"]) == ("triage", "0.1.0", "Vendor Ltd")
    assert said["sha256"] == card["sha256"]


@pytest.mark.parametrize("clash", ["another task", "a model's name"])
def test_whoever_asks_for_a_name_goes_on_getting_what_it_gave(registry, log, content, tmp_path, clash):
    if clash == "another task":
        installed(registry, log, content())
        wanted = write_tagger(tmp_path / "triage.gguf", base=REAL_BASE, version="0.2.0").read_bytes()
    else:
        (Home(tmp_path / "home").models / "library").mkdir()
        (Home(tmp_path / "home").models / "library" / "triage.json").write_text("{}")
        wanted = content()
    work = life.install(registry, log, ANA, Upload(wanted, reason="pilot-ward-3"))
    assert "another id" in refused(work, Conflict, registry, log).hint


def test_a_file_that_nobody_vouches_for_needs_a_decision_with_its_reason(registry, log, content):
    stranger = signed(content())
    for upload in (Upload(content()), stranger):
        log.events.clear()
        error = refused(life.install(registry, log, ANA, upload), SignerUntrusted, registry, log)
        assert error.hint
    log.events.clear()
    card = do(life.install(registry, log, ANA, Upload(stranger.content, stranger.signature, "pilot-ward-3")))
    assert (card["admitted"], card["signed"], card["signer"]) == ("decision", False, None)
    assert card["reason"] == log.events[-1].attributes["reason"] == "pilot-ward-3"
    assert do(life.verify(registry, log, ANA, "triage", "0.1.0"))["verified"] == "decision"


def test_a_reason_is_a_code_and_only_an_administrator_may_give_one(registry, log, content):
    refused(
        life.install(registry, log, ANA, Upload(content(), reason="Dr. Weber said so")), InvalidRequest, registry, log
    )
    refused(life.install(registry, log, ANAS_KEY, Upload(content(), reason="pilot")), PermissionDenied, registry, log)
    assert log.events == []


def test_no_reason_admits_a_signature_that_is_wrong(registry, log, content):
    trusted(registry, log)
    good, other = signed(content()), content(favourite="routine")
    tampered = good.content.replace(b'"summary":"for tests"', b'"summary":"for nurse"')
    assert tampered != good.content
    for upload in (Upload(other, good.signature, "pilot"), Upload(good.content, b"{}", "pilot")):
        log.events.clear()
        refused(life.install(registry, log, ANA, upload), SignatureInvalid, registry, log)
    log.events.clear()
    refused(life.install(registry, log, ANA, Upload(tampered, good.signature)), SignatureInvalid, registry, log)


@pytest.mark.parametrize(
    ("change", "kind"),
    [
        (lambda of: of(base=REAL_BASE.__class__(name="x", weights_sha256="1" * 64, vocabulary_sha256="2" * 64)),
         ModelFileRefused),
        (lambda of: of().replace(b'"unclear"', b'"unc","e"'), SpecialistFileInvalid),
        (lambda of: of()[:-200], SpecialistFileInvalid),
        (lambda of: b"not a model", SpecialistFileInvalid),
    ],
    ids=["another base", "labels", "truncated", "foreign"],
)  # fmt: skip
def test_bad_files_are_refused_even_with_a_reason(registry, log, content, change, kind):
    refused(life.install(registry, log, ANA, Upload(change(content), reason="pilot")), kind, registry, log)


@pytest.mark.parametrize(
    ("installer", "approver"),
    [(ANA, ANA), (ANAS_KEY, ANA), (MACHINE, MACHINE), (MACHINE, OTHER_MACHINE)],
    ids=["herself", "through her API key", "at the machine", "under another name of the operating system"],
)
@pytest.mark.parametrize("step", ["approve", "promote"])
def test_nobody_approves_or_promotes_what_they_installed(registry, log, content, installer, approver, step):
    trusted(registry, log)
    do(life.install(registry, log, installer, signed(content())))
    if step == "promote":
        do(life.approve(registry, log, BOSS, "triage", "0.1.0"))
    log.events.clear()
    if step == "approve":
        work = life.approve(registry, log, approver, "triage", "0.1.0")
    else:
        work = life.promote(registry, log, approver, "triage", "0.1.0", load=loads)
    error = refused(work, SecondPersonNeeded, registry, log)
    assert "another person" in str(error)


def test_nobody_approves_what_they_taught(registry, log, content):
    both = Principal("user:4", "ute", "user", frozenset({"user", "admin"}))
    card = do(life.admit_taught(registry, log, both, content(), {"job": "a1"}))
    assert (card["admitted"], card["state"]) == ("taught", "awaiting_approval")
    assert (log.events[-1].attributes["job"], log.events[-1].event) == ("a1", "specialist.install")
    log.events.clear()
    refused(life.approve(registry, log, both, "triage", "0.1.0"), SecondPersonNeeded, registry, log)
    assert do(life.approve(registry, log, BOSS, "triage", "0.1.0"))["approved_by"] == "user:2"
    assert do(life.verify(registry, log, BOSS, "triage", "0.1.0"))["verified"] == "taught"


def test_installing_somebody_elses_file_again_does_not_make_it_ones_own(registry, log, content):
    installed(registry, log, content(), by=ANA)
    installed(registry, log, content(), by=BOSS)
    refused(life.approve(registry, log, ANA, "triage", "0.1.0"), SecondPersonNeeded, registry, log)
    assert do(life.approve(registry, log, BOSS, "triage", "0.1.0"))["state"] == "approved"


def test_the_whole_life_and_its_records(registry, log, content):
    for version in ("0.1.0", "0.2.0"):
        installed(registry, log, content(version))
        assert do(life.approve(registry, log, BOSS, "triage", version))["state"] == "approved"
        card = do(life.promote(registry, log, BOSS, "triage", version, load=loads))
        assert (card["state"], card["promoted_by"]) == ("active", "user:2")
    assert do(show_card(registry, log, USER, "triage"))["version"] == "0.2.0"
    assert [card["state"] for card in do(list_cards(registry, log, USER))] == ["active"]
    done = do(life.rollback(registry, log, ANA, "triage"))
    assert (done["retired"]["version"], done["active"]["version"]) == ("0.2.0", "0.1.0")
    assert do(life.remove(registry, log, ANA, "triage", "0.2.0"))["version"] == "0.2.0"
    assert [card["version"] for card in do(list_versions(registry, log, USER, "triage"))] == ["0.1.0"]
    changing = [
        event for event in log.events if event.event.split(".")[1] in ("approve", "promote", "rollback", "remove")
    ]
    pairs = list(zip(changing[::2], changing[1::2], strict=True))
    assert [(one.event, one.outcome, other.event, other.outcome) for one, other in pairs] == [
        (f"specialist.{step}", Outcome.ACCEPTED, f"specialist.{step}", Outcome.COMPLETED)
        for step in ("approve", "promote", "rollback", "remove")
    ]
    assert pairs[2][1].attributes["restored_sha256"] == done["active"]["sha256"]


def test_going_back_from_the_first_version_leaves_none(registry, log, content):
    installed(registry, log, content())
    do(life.approve(registry, log, BOSS, "triage", "0.1.0"))
    do(life.promote(registry, log, BOSS, "triage", "0.1.0", load=loads))
    assert do(life.rollback(registry, log, ANA, "triage"))["active"] is None
    log.events.clear()
    refused(life.rollback(registry, log, ANA, "triage"), SpecialistNotFound, registry, log)


def test_what_the_engine_refuses_never_answers(registry, log, content):
    installed(registry, log, content())
    do(life.approve(registry, log, BOSS, "triage", "0.1.0"))
    log.events.clear()

    async def refuses(_adapter):
        raise ModelFileRefused("it does not fit")

    async def dies(_adapter):
        raise EngineUnavailable("the worker died")

    refused(life.promote(registry, log, BOSS, "triage", "0.1.0", load=refuses), ModelFileRefused, registry, log)
    with pytest.raises(EngineUnavailable):
        do(life.promote(registry, log, BOSS, "triage", "0.1.0", load=dies))
    assert log.outcomes()[-1] == Outcome.FAILED and registry.list() == ()


def test_users_do_not_administer_and_strangers_to_the_registry_are_named(registry, log, content):
    installed(registry, log, content())
    steps = (
        life.install(registry, log, USER, Upload(content("0.2.0"), reason="x")),
        life.approve(registry, log, USER, "triage", "0.1.0"),
        life.promote(registry, log, USER, "triage", "0.1.0", load=loads),
        life.rollback(registry, log, USER, "triage"),
        life.remove(registry, log, USER, "triage", "0.1.0"),
        life.export(registry, log, USER, "triage", "0.1.0"),
        life.trust(registry, log, USER, "me", ecdsa.public_of(PRIVATE)),
        life.distrust(registry, log, USER, "me"),
    )
    for step in steps:
        refused(step, PermissionDenied, registry, log)
    assert log.events == []
    refused(life.approve(registry, log, BOSS, "nobody", "1.0.0"), SpecialistNotFound, registry, log)
    log.events.clear()
    refused(life.remove(registry, log, BOSS, "triage", "9.9.9"), SpecialistNotFound, registry, log)


def steps_of(registry, log, content):
    return {
        "install": lambda: life.install(registry, log, ANA, Upload(content("0.2.0"), reason="pilot")),
        "approve": lambda: life.approve(registry, log, BOSS, "triage", "0.1.0"),
        "promote": lambda: life.promote(registry, log, BOSS, "triage", "0.1.0", load=loads),
        "remove": lambda: life.remove(registry, log, ANA, "triage", "0.1.0"),
        "verify": lambda: life.verify(registry, log, ANA, "triage", "0.1.0"),
        "export": lambda: life.export(registry, log, ANA, "triage", "0.1.0"),
        "trust": lambda: life.trust(registry, log, BOSS, "Vendor", ecdsa.public_of(PRIVATE)),
        "keys": lambda: life.list_keys(registry, log, ANA),
        "versions": lambda: list_versions(registry, log, USER),
    }


@pytest.mark.parametrize("step", list(steps_of(None, None, None)))
def test_what_cannot_be_recorded_is_neither_done_nor_shown(registry, content, step):
    installed(registry, MemoryLog(), content())
    if step == "promote":
        do(life.approve(registry, MemoryLog(), BOSS, "triage", "0.1.0"))
    before = registry.every_version()
    log = MemoryLog(frozenset(range(10)))
    with pytest.raises(AuditUnavailable):
        do(steps_of(registry, log, content)[step]())
    assert registry.every_version() == before
    assert registry.trusted_keys() == ()


def test_a_file_that_was_changed_does_not_verify_and_is_not_handed_out(registry, log, content):
    installed(registry, log, content())
    path = registry.version("triage", "0.1.0").path
    path.chmod(0o600)
    path.write_bytes(path.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelFileRefused, match="another SHA-256"):
        do(life.verify(registry, log, ANA, "triage", "0.1.0"))
    assert log.events[-1].outcome == Outcome.FAILED
    with pytest.raises(ModelFileRefused):
        do(life.export(registry, log, ANA, "triage", "0.1.0"))


def test_a_signature_verifies_until_its_key_is_distrusted(registry, log, content):
    trusted(registry, log)
    do(life.install(registry, log, ANA, signed(content())))
    assert do(life.verify(registry, log, USER, "triage", "0.1.0"))["verified"] == "signature"
    do(life.distrust(registry, log, BOSS, "Vendor Ltd"))
    with pytest.raises(SignerUntrusted):
        do(life.verify(registry, log, USER, "triage", "0.1.0"))
    assert registry.version("triage", "0.1.0").state == "awaiting_approval"


def test_what_is_exported_can_be_installed_elsewhere(registry, log, content):
    trusted(registry, log)
    upload = signed(content())
    do(life.install(registry, log, ANA, upload))
    name, archive = do(life.export(registry, log, BOSS, "triage", "0.1.0"))
    with zipfile.ZipFile(io.BytesIO(archive)) as read:
        assert (name, read.namelist()) == ("triage-0.1.0.zip", ["triage-0.1.0.gguf", "triage-0.1.0.gguf.sig"])
        assert read.read("triage-0.1.0.gguf") == upload.content
        assert read.read("triage-0.1.0.gguf.sig") == upload.signature
    assert do(life.export(registry, log, BOSS, "triage", "0.1.0"))[1] == archive


def test_a_second_key_of_the_same_name_is_refused(registry, log):
    trusted(registry, log)
    refused(life.trust(registry, log, BOSS, "Vendor Ltd", ecdsa.public_of(ecdsa.generate())), Conflict, registry, log)
    log.events.clear()
    with pytest.raises(ApplianceError) as refusal:
        do(life.distrust(registry, log, BOSS, "nobody"))
    assert refusal.value.code == "not_found"
