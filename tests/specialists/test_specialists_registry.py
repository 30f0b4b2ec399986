"""The registry: an installed file is copied, pinned by its hash and found again by another process; one version per id
answers and the way back is one call; a file that was changed, is not listed or is malformed is refused and leaves
nothing behind. Real files in a data folder of the test's own.
"""

import hashlib
import stat

import numpy as np
import pytest

from appliance.config import Home, SpecialistsConfig
from appliance.errors import Conflict, HomeError, ModelFileRefused, SpecialistFileInvalid, SpecialistNotFound
from appliance.specialists.file_format import write_specialist
from appliance.specialists.manifest import Base, Manifest
from appliance.specialists.registry import Registry
from appliance.storage.database import open_database, writing
from appliance.storage.tables import app_metadata
from appliance.types import Head, Task


@pytest.fixture
def home(tmp_path):
    home = Home(tmp_path / "home")
    for folder in home.folders():
        folder.mkdir(parents=True, exist_ok=True)
    return home


@pytest.fixture
def engine(home):
    engine = open_database(home.database, mode="create")
    with writing(engine) as connection:
        app_metadata.create_all(connection)
    yield engine
    engine.dispose()


@pytest.fixture
def registry(engine, home):
    return Registry(engine, home)


def write(path, version="0.1.0", specialist_id="phi-deid", weight=0.5):
    labels = ("NAME", "DATE")
    manifest = Manifest(
        id=specialist_id,
        version=version,
        task=Task.TAG,
        name="De-identification",
        summary="",
        labels=labels,
        base=Base(name="minilm", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
        licence="Apache-2.0",
        created="2026-01-01",
    )
    columns = 1 + 2 * len(labels)
    head = Head(
        "token", 0, None, None, np.full((384, columns), weight, dtype=np.float32), np.zeros(columns, dtype=np.float32)
    )
    path.parent.mkdir(parents=True, exist_ok=True)
    write_specialist(path, manifest, head, None)
    return path


def installed_files(home):
    return sorted(path.name for path in home.specialists.iterdir())


def test_installed_file_is_named_by_its_hash_and_read_only(registry, home, tmp_path):
    path = write(tmp_path / "a.gguf")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    entry = registry.install(path, trust="administrator", installed_by="user:7")
    assert entry.sha256 == digest
    assert installed_files(home) == [f"{digest}.gguf"]
    assert stat.S_IMODE(entry.path.stat().st_mode) == 0o400
    assert entry.path.read_bytes() == path.read_bytes()
    assert entry.installed_by == "administrator:user:7"
    assert (entry.ref.id, entry.ref.version, entry.ref.task) == ("phi-deid", "0.1.0", Task.TAG)


def test_another_registry_on_the_same_home_finds_it(registry, engine, home, tmp_path):
    entry = registry.install(write(tmp_path / "a.gguf"), trust="administrator")
    again = Registry(engine, home)
    assert again.list() == (entry,)
    assert again.get("phi-deid") == entry
    adapter = again.get("phi-deid").adapter()
    assert adapter.key == entry.sha256
    assert adapter.head.out_weight.shape == (384, 5)


def test_unknown_specialist_is_named(registry):
    with pytest.raises(SpecialistNotFound, match="nobody"):
        registry.get("nobody")
    with pytest.raises(SpecialistNotFound):
        registry.disable("nobody")
    assert registry.list() == ()


def test_newer_version_answers_and_the_older_is_one_call_away(registry, tmp_path):
    registry.install(write(tmp_path / "a.gguf"), trust="administrator")
    registry.install(write(tmp_path / "b.gguf", "0.2.0", weight=0.7), trust="administrator")
    assert registry.get("phi-deid").manifest.version == "0.2.0"
    assert len(registry.list()) == 1
    registry.activate("phi-deid", "0.1.0")
    assert registry.get("phi-deid").manifest.version == "0.1.0"
    assert {entry.manifest.version for entry in registry.versions("phi-deid")} == {"0.1.0", "0.2.0"}
    with pytest.raises(SpecialistNotFound, match=r"9\.9\.9"):
        registry.activate("phi-deid", "9.9.9")


def test_disabled_specialist_is_gone_until_it_is_activated(registry, tmp_path):
    registry.install(write(tmp_path / "a.gguf"), trust="administrator")
    registry.disable("phi-deid")
    assert registry.list() == ()
    with pytest.raises(SpecialistNotFound):
        registry.get("phi-deid")
    assert registry.activate("phi-deid", "0.1.0").active


def test_installing_the_same_file_again_changes_nothing(registry, home, tmp_path):
    path = write(tmp_path / "a.gguf")
    first = registry.install(path, trust="administrator")
    assert registry.install(path, trust="administrator") == first
    assert len(installed_files(home)) == 1


def test_installing_again_restores_a_file_that_was_damaged(registry, tmp_path):
    path = write(tmp_path / "a.gguf")
    entry = registry.install(path, trust="administrator")
    entry.path.chmod(0o600)
    entry.path.write_bytes(b"damaged")
    registry.install(path, trust="administrator")
    assert registry.get("phi-deid").adapter().key == entry.sha256


def test_other_content_under_the_same_version_is_refused(registry, home, tmp_path):
    registry.install(write(tmp_path / "a.gguf"), trust="administrator")
    with pytest.raises(Conflict, match=r"phi-deid 0\.1\.0"):
        registry.install(write(tmp_path / "b.gguf", weight=0.7), trust="administrator")
    assert len(installed_files(home)) == 1


@pytest.mark.parametrize("damage", ["changed", "truncated", "removed"])
def test_file_that_is_no_longer_the_installed_one_is_refused_when_opened(registry, engine, home, tmp_path, damage):
    entry = registry.install(write(tmp_path / "a.gguf"), trust="administrator")
    content = bytearray(entry.path.read_bytes())
    entry.path.unlink()
    if damage == "changed":
        content[-1] ^= 1
        entry.path.write_bytes(content)
    elif damage == "truncated":
        entry.path.write_bytes(content[:-1])
    with pytest.raises(ModelFileRefused):
        Registry(engine, home).get("phi-deid").adapter()


def test_changed_version_cannot_be_activated(registry, engine, home, tmp_path):
    old = registry.install(write(tmp_path / "a.gguf"), trust="administrator")
    registry.install(write(tmp_path / "b.gguf", "0.2.0"), trust="administrator")
    old.path.chmod(0o600)
    old.path.write_bytes(b"other")
    again = Registry(engine, home)
    with pytest.raises(ModelFileRefused):
        again.activate("phi-deid", "0.1.0")
    assert again.get("phi-deid").manifest.version == "0.2.0"


@pytest.mark.parametrize("content", [b"", b"GGUF", b"not a model at all", b"GGUF" + b"\xff" * 64])
def test_malformed_file_is_refused_and_leaves_nothing(registry, home, tmp_path, content):
    path = tmp_path / "bad.gguf"
    path.write_bytes(content)
    with pytest.raises(SpecialistFileInvalid):
        registry.install(path, trust="administrator")
    assert installed_files(home) == []
    assert registry.list() == ()


def test_missing_and_oversized_files_are_refused(engine, home, tmp_path):
    small = Registry(engine, home, SpecialistsConfig(file_bytes_max=1024))
    with pytest.raises(ModelFileRefused, match="cannot read"):
        small.install(tmp_path / "none.gguf", trust="administrator")
    with pytest.raises(ModelFileRefused, match="larger than 1024"):
        small.install(write(tmp_path / "a.gguf"), trust="administrator")


def test_bundled_file_needs_its_hash_in_the_list(registry, tmp_path):
    path = write(tmp_path / "bundled" / "phi-deid" / "phi-deid.gguf")
    with pytest.raises(ModelFileRefused, match="SHA256SUMS"):
        registry.install(path, trust="bundled")
    sums = tmp_path / "bundled" / "SHA256SUMS"
    sums.write_text(f"{'0' * 64}  phi-deid/phi-deid.gguf\n")
    with pytest.raises(ModelFileRefused, match="does not list"):
        registry.install(path, trust="bundled")
    sums.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  phi-deid/phi-deid.gguf\n")
    assert registry.install(path, trust="bundled").installed_by == "bundled:system"


def test_bundled_file_does_not_displace_a_later_version_nor_a_decision_to_disable(registry, tmp_path):
    bundled = tmp_path / "bundled" / "phi-deid"
    paths = [write(bundled / "one.gguf", "0.1.0"), write(bundled / "three.gguf", "0.3.0")]
    lines = [f"{hashlib.sha256(path.read_bytes()).hexdigest()}  phi-deid/{path.name}\n" for path in paths]
    (tmp_path / "bundled" / "SHA256SUMS").write_text("".join(lines))
    registry.install(write(tmp_path / "own.gguf", "0.2.0"), trust="administrator")
    assert not registry.install(paths[0], trust="bundled").active
    assert registry.get("phi-deid").manifest.version == "0.2.0"
    registry.disable("phi-deid")
    assert not registry.install(paths[1], trust="bundled").active
    assert registry.list() == ()


def test_folder_that_cannot_be_written_is_named(registry, home, tmp_path):
    home.specialists.rmdir()
    with pytest.raises(HomeError, match="specialists"):
        registry.install(write(tmp_path / "a.gguf"), trust="administrator")
    assert registry.list() == ()
