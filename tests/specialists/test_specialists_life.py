"""The life of a version in the registry: it answers nobody before it was approved and promoted, one call undoes a
promotion, and a process that dies anywhere in between leaves a registry in which every entry has its file.

Real files and a real database; the child that dies is killed by the kernel at each of its system calls in turn.
"""

import hashlib

import pytest

import migrations
from appliance.config import Home, SpecialistsConfig
from appliance.crypto import ecdsa
from appliance.errors import Conflict, ModelFileRefused, NotFound, SpecialistFileInvalid, SpecialistNotFound
from appliance.specialists.registry import TRUSTED_KEYS_MAX, Admission, Registry
from appliance.specialists.signature import trusted_key
from appliance.storage.database import open_database
from tests.audit.faults.tracing import Experiment, evenly, inject, occurrences_of, run_alone, traced_calls
from tests.audit.faults.zygote import Zygote
from tests.specialist_files import REAL_BASE, write_classifier

ANA = Admission("signature", by="user:7", person="account:ana", signature="{}", signer="Vendor Ltd")
KILLED = -9
CUT = ("pwrite64", "fdatasync", "fsync", "rename", "unlink")
SAMPLE = 12


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    migrations.upgrade(home.root)
    return home


@pytest.fixture
def engine(home):
    engine = open_database(home.database, mode="rw")
    yield engine
    engine.dispose()


@pytest.fixture
def registry(engine, home):
    return Registry(engine, home)


@pytest.fixture
def content(tmp_path):
    def of(version="0.1.0", **changes):
        path = write_classifier(tmp_path / "made" / "triage.gguf", version=version, **({"base": REAL_BASE} | changes))
        return path.read_bytes()

    return of


def admitted(registry, content, *versions):
    for version in versions:
        registry.admit(content(version), ANA)


def live(registry, content, *versions):
    admitted(registry, content, *versions)
    for version in versions:
        registry.approve("triage", version, by="user:8")
        registry.promote("triage", version, by="user:8")


def states(registry):
    return {entry.manifest.version: entry.state for entry in registry.versions("triage")}


def files(home):
    return {path.name for path in home.specialists.iterdir()}


def test_an_admitted_file_answers_nobody_before_it_was_approved_and_promoted(registry, content):
    entry = registry.admit(content(), ANA)
    assert (entry.state, entry.admitted, entry.row.signer) == ("awaiting_approval", "signature", "Vendor Ltd")
    assert registry.list() == ()
    with pytest.raises(Conflict, match="awaiting approval"):
        registry.promote("triage", "0.1.0", by="user:8")
    approved = registry.approve("triage", "0.1.0", by="user:8")
    assert (approved.state, approved.row.approved_by) == ("approved", "user:8")
    assert registry.list() == ()
    assert registry.promote("triage", "0.1.0", by="user:9").state == "active"
    assert registry.get("triage").row.promoted_by == "user:9"


def test_a_version_is_approved_once_and_promoted_once(registry, content):
    live(registry, content, "0.1.0")
    with pytest.raises(Conflict, match="not waiting"):
        registry.approve("triage", "0.1.0", by="user:9")
    with pytest.raises(Conflict, match="is active"):
        registry.promote("triage", "0.1.0", by="user:9")
    assert registry.get("triage").row.approved_by == "user:8"


def test_going_back_follows_the_promotions_to_nothing(registry, content):
    live(registry, content, "0.1.0", "0.2.0", "0.3.0")
    assert states(registry) == {"0.1.0": "retired", "0.2.0": "retired", "0.3.0": "active"}
    for gone, back in (("0.3.0", "0.2.0"), ("0.2.0", "0.1.0")):
        left, now = registry.rollback("triage")
        assert (left.manifest.version, left.state, now.manifest.version) == (gone, "retired", back)
    left, now = registry.rollback("triage")
    assert (left.manifest.version, now) == ("0.1.0", None)
    with pytest.raises(SpecialistNotFound):
        registry.rollback("triage")
    assert registry.promote("triage", "0.2.0", by="user:8").state == "active"


def test_a_version_promoted_again_does_not_lead_in_a_circle(registry, content):
    live(registry, content, "0.1.0", "0.2.0")
    registry.promote("triage", "0.1.0", by="user:8")
    went = []
    while registry.list():
        _, now = registry.rollback("triage")
        went.append(now.manifest.version if now else None)
    assert went == ["0.2.0", "0.1.0", None]


def test_an_earlier_version_may_be_removed_and_the_way_back_closes_over_it(registry, home, content):
    live(registry, content, "0.1.0", "0.2.0", "0.3.0")
    removed = registry.remove("triage", "0.2.0")
    assert removed.path.name not in files(home) and len(files(home)) == 2
    _, now = registry.rollback("triage")
    assert now.manifest.version == "0.1.0"


def test_the_active_version_cannot_be_removed(registry, home, content):
    live(registry, content, "0.1.0")
    with pytest.raises(Conflict, match="answers requests"):
        registry.remove("triage", "0.1.0")
    assert states(registry) == {"0.1.0": "active"} and len(files(home)) == 1
    for version in ("9.9.9", ""):
        with pytest.raises(SpecialistNotFound):
            registry.remove("triage", version)


def test_who_holds_an_entry_keeps_its_version_through_a_promotion(registry, content):
    live(registry, content, "0.1.0")
    mine = registry.get("triage")
    live(registry, content, "0.2.0")
    assert mine.adapter().key == mine.sha256 != registry.get("triage").sha256


@pytest.mark.parametrize("step", ["approve", "promote", "rollback", "content"])
def test_a_file_that_was_changed_passes_no_step(registry, content, step):
    admitted(registry, content, "0.1.0")
    if step != "approve":
        registry.approve("triage", "0.1.0", by="user:8")
    if step == "rollback":
        registry.promote("triage", "0.1.0", by="user:8")
        live(registry, content, "0.2.0")
    before = states(registry)
    entry = registry.version("triage", "0.1.0")
    entry.path.chmod(0o600)
    entry.path.write_bytes(b"other")
    registry._adapters.clear()
    act = {
        "approve": lambda: registry.approve("triage", "0.1.0", by="user:8"),
        "promote": lambda: registry.promote("triage", "0.1.0", by="user:8"),
        "rollback": lambda: registry.rollback("triage"),
        "content": lambda: registry.content(entry),
    }
    with pytest.raises(ModelFileRefused):
        act[step]()
    assert states(registry) == before


def test_bad_files_are_refused_with_the_reason_and_leave_nothing(registry, engine, home, content):
    other_base = REAL_BASE.__class__(name="bge", weights_sha256="1" * 64, vocabulary_sha256="2" * 64)
    with pytest.raises(ModelFileRefused, match="another base model"):
        registry.admit(content(base=other_base), ANA)
    with pytest.raises(ModelFileRefused, match="nobody serves"):
        registry.admit(content(specialist_id="none"), ANA)
    good = content()
    with pytest.raises(SpecialistFileInvalid, match="labels need"):
        registry.admit(good.replace(b'"unclear"', b'"unc","e"'), ANA)
    with pytest.raises(ModelFileRefused, match="larger than"):
        Registry(engine, home, SpecialistsConfig(file_bytes_max=1024)).admit(good, ANA)
    assert (files(home), registry.every_version()) == (set(), ())


def test_other_bytes_under_a_version_are_refused(registry, content):
    admitted(registry, content, "0.1.0")
    with pytest.raises(Conflict, match=r"triage 0\.1\.0"):
        registry.admit(content(favourite="routine"), ANA)


def test_installing_again_changes_nobody_who_installed_it(registry, content):
    admitted(registry, content, "0.1.0")
    again = registry.admit(content(), Admission("decision", by="user:9", person="account:bob", reason="x"))
    assert (again.row.person, again.installed_by) == ("account:ana", "signature:user:7")


def test_keys_are_trusted_by_one_name_and_no_more_than_a_bound(registry):
    key = trusted_key("Vendor Ltd", ecdsa.public_of(ecdsa.generate()))
    assert registry.trust(key, by="user:8").added_by == "user:8"
    for same in (key, trusted_key("Other", key.public_pem)):
        with pytest.raises(Conflict, match="trusted already"):
            registry.trust(same, by="user:8")
    assert [row.key for row in registry.trusted_keys()] == [key]
    registry.distrust("Vendor Ltd")
    with pytest.raises(NotFound):
        registry.distrust("Vendor Ltd")
    assert registry.trusted_keys() == () and TRUSTED_KEYS_MAX < 1000


@pytest.fixture(scope="module")
def zygote():
    with Zygote() as zygote:
        yield zygote


def test_a_process_killed_at_any_call_leaves_a_registry_that_holds_together(zygote, home, content, tmp_path):
    """Admit, approve, promote, admit, approve, promote, roll back, remove: killed at a sample of the calls on the
    database and on the folder, each time followed by the whole life again in another process."""
    paths = []
    for version in ("0.1.0", "0.2.0"):
        path = tmp_path / f"{version}.gguf"
        path.write_bytes(content(version))
        paths.append(str(path))
    database = home.database
    watched = (database.parent, database, database.with_name(f"{database.name}-wal"), home.specialists)
    experiment = Experiment("specialist_life", (str(home.root), *paths), watched, tmp_path)
    calls = traced_calls(zygote, experiment, CUT)
    chosen = evenly(occurrences_of(calls, CUT), SAMPLE)
    assert len(chosen) == SAMPLE
    killed = 0
    for name, n in chosen:
        run = inject(zygote, experiment, f"{name}:signal=KILL", n)
        assert run.status in (KILLED, 0), f"{name} {n} ended with {run.status}"
        killed += run.status == KILLED
        engine = open_database(home.database, mode="rw")
        registry = Registry(engine, home)
        for entry in registry.every_version():
            assert entry.state in ("awaiting_approval", "approved", "active", "retired")
            assert hashlib.sha256(entry.path.read_bytes()).hexdigest() == entry.sha256, f"{name} {n}"
            assert entry.adapter().key == entry.sha256
        assert len(registry.list()) <= 1
        engine.dispose()
    assert killed >= SAMPLE // 2  # a later run has less to do than the first, so that some calls do not occur again
    assert run_alone(zygote, experiment).status == 0
