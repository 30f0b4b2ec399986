"""What a model's file says is read from its header, and a hostile or foreign file is refused with the reason; the
library admits a file as a whole or not at all, notices one that was changed, and what is exported can be carried in.
"""

import hashlib
import json
import shutil

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.config import GenerationConfig, Home, ModelsConfig
from appliance.engine.generation.model_file import NO_WRITERS, estimate, read_header
from appliance.errors import Conflict, HomeFull, ModelFileRefused, ModelNotFound, UnknownOption
from appliance.service.models import memory_of, read_facts
from appliance.specialists.language_models.catalogue import read_catalogue
from appliance.specialists.language_models.facts import ARCHITECTURES, quantization_of
from appliance.specialists.language_models.library import ModelLibrary, Origin, id_from
from tests.model_headers import LAYERS, SHARED_HEADS, VOCABULARY, WIDTH, write_model
from tests.specialist_files import write_tagger

ORIGIN = Origin(kind="file", file="tiny.gguf")


@pytest.fixture(scope="module")
def tiny(tmp_path_factory):
    return write_model(tmp_path_factory.mktemp("models") / "Tiny-Q8_0.gguf")


@pytest.fixture
def library(tmp_path):
    home = Home(tmp_path / "home")
    home.models.mkdir(parents=True)
    return ModelLibrary(home, ModelsConfig(disk_free_bytes_min=0), read_facts)


def files_of(library):
    return sorted(path.name for path in library.folder.iterdir())


def test_facts_are_those_of_the_header(tiny):
    facts = read_facts(tiny)
    assert (facts.architecture, facts.name, facts.licence) == ("llama", "Tiny of the tests", "Apache-2.0")
    assert (facts.context_tokens, facts.layers, facts.embedding, facts.vocabulary) == (2048, LAYERS, WIDTH, VOCABULARY)
    assert facts.quantization == "Q8_0" and facts.chat_template
    assert facts.parameters == 8 * WIDTH + WIDTH
    assert facts.weights_bytes == 8 * WIDTH // 32 * 34 + 4 * WIDTH
    assert facts.file_bytes == tiny.stat().st_size
    assert facts.cache_values_per_token == LAYERS * SHARED_HEADS * 2 * (WIDTH // 4)


def test_memory_shown_is_the_engine_s_estimate_for_one_conversation(library, tiny):
    entry = library.add(tiny, ORIGIN, added_by="a")
    config = GenerationConfig(step_tokens=64)
    memory = memory_of(config, entry)
    assert memory.weights == entry.manifest.facts.weights_bytes
    assert memory.cache == 2 * entry.manifest.facts.cache_values_per_token * 2048  # all that the model has
    assert memory == estimate(read_header(tiny), slots=1, context_tokens=2048, step_tokens=64)


@pytest.mark.parametrize(
    ("metadata", "words"),
    [
        ({"architecture": "bert"}, ("bert", "cannot generate")),
        ({"architecture": "no-such-thing"}, ("no-such-thing",)),
        ({"split__count": 3}, ("split",)),
        ({"general__type": "mmproj"}, ("mmproj",)),
        ({"llama__attention__key_length": 4_000_000_000}, ("key_length",)),
        ({"context": 0}, ("context_length",)),
    ],
)
def test_file_that_is_no_model_that_writes_is_refused_with_the_reason(tmp_path, metadata, words):
    path = write_model(tmp_path / "other.gguf", **metadata)
    with pytest.raises(ModelFileRefused) as refused:
        read_facts(path)
    assert all(word in refused.value.message for word in words)


def test_specialist_is_told_apart_from_a_model(tmp_path):
    with pytest.raises(ModelFileRefused) as refused:
        read_facts(write_tagger(tmp_path / "tagger.gguf"))
    assert "adapter" in refused.value.message and "specialists install" in refused.value.hint


def test_every_prefix_of_a_model_is_refused(tiny, tmp_path):
    content = tiny.read_bytes()
    path = tmp_path / "cut.gguf"
    for size in [0, 3, 4, 20, *range(24, len(content), 61), len(content) - 1]:
        path.write_bytes(content[:size])
        with pytest.raises(ModelFileRefused):
            read_facts(path)


@settings(max_examples=150, deadline=None)
@given(st.data())
def test_changed_header_is_read_or_refused_and_never_anything_else(tiny, tmp_path_factory, data):
    content = bytearray(tiny.read_bytes())
    for _ in range(data.draw(st.integers(1, 6))):
        content[data.draw(st.integers(0, min(len(content), 4000) - 1))] = data.draw(st.integers(0, 255))
    path = tmp_path_factory.getbasetemp() / "changed.gguf"
    path.write_bytes(content)
    try:
        read_facts(path)
    except ModelFileRefused:
        pass


def test_model_is_admitted_under_its_hash_and_named_after_its_file(library, tiny):
    seen = []
    entry = library.add(tiny, ORIGIN, added_by="local:uid-1", progress=lambda done, size: seen.append((done, size)))
    digest = hashlib.sha256(tiny.read_bytes()).hexdigest()
    assert (entry.id, entry.manifest.sha256, entry.manifest.licence) == ("tiny-q8_0", digest, "Apache-2.0")
    assert entry.path.read_bytes() == tiny.read_bytes() and entry.path.stat().st_mode & 0o777 == 0o400
    assert files_of(library) == sorted([f"{digest}.gguf", "tiny-q8_0.json"])
    assert seen[-1] == (tiny.stat().st_size, tiny.stat().st_size)
    assert library.list() == (entry,) and library.get("tiny-q8_0") == library.verify("tiny-q8_0") == entry


def test_adding_twice_changes_nothing_and_another_file_needs_another_name(library, tiny, tmp_path):
    first = library.add(tiny, ORIGIN, added_by="a")
    assert library.add(tiny, ORIGIN, added_by="b") == first
    other = write_model(tmp_path / "Tiny-Q8_0.gguf", seed=3)
    with pytest.raises(Conflict):
        library.add(other, ORIGIN, added_by="a")
    assert len(files_of(library)) == 2
    assert library.add(other, ORIGIN, added_by="a", model="tiny-3").manifest.sha256 != first.manifest.sha256


def test_file_with_another_hash_than_expected_is_refused_and_leaves_nothing(library, tiny):
    with pytest.raises(ModelFileRefused, match="SHA-256"):
        library.add(tiny, ORIGIN, added_by="a", sha256="0" * 64)
    assert files_of(library) == []


def test_model_that_does_not_fit_the_disk_is_refused_with_the_figures(tiny, tmp_path):
    home = Home(tmp_path / "home")
    home.models.mkdir(parents=True)
    with pytest.raises(HomeFull, match="MiB"):
        ModelLibrary(home, ModelsConfig(disk_free_bytes_min=2**62), read_facts).add(tiny, ORIGIN, added_by="a")
    with pytest.raises(ModelFileRefused, match="more than 2000"):
        ModelLibrary(home, ModelsConfig(file_bytes_max=2000), read_facts).add(tiny, ORIGIN, added_by="a")


def test_changed_file_is_noticed(library, tiny):
    entry = library.add(tiny, ORIGIN, added_by="a")
    entry.path.chmod(0o600)
    entry.path.write_bytes(tiny.read_bytes()[:-1] + b"\1")
    with pytest.raises(ModelFileRefused, match="another SHA-256"):
        library.verify(entry.id)
    with pytest.raises(ModelFileRefused):
        library.export(entry.id, library.folder.parent / "carried")
    assert not (library.folder.parent / "carried").exists()


def test_file_that_two_names_share_goes_with_the_second(library, tiny):
    for name in ("one", "two"):
        library.add(tiny, ORIGIN, added_by="a", model=name)
    library.remove("one")
    assert library.verify("two").path.exists()
    library.remove("two")
    assert files_of(library) == []
    with pytest.raises(ModelNotFound):
        library.get("two")


def test_crash_before_the_manifest_leaves_no_model_and_adding_again_adopts_the_file(library, tiny):
    entry = library.add(tiny, ORIGIN, added_by="a")
    (library.folder / "tiny-q8_0.json").unlink()
    assert library.list() == ()
    assert library.add(tiny, ORIGIN, added_by="a").path == entry.path


def test_exported_model_is_whole_and_says_where_it_came_from(library, tiny, tmp_path):
    library.add(tiny, Origin(kind="hub", file="x.gguf", repository="a/b", revision="c" * 40), added_by="a")
    target = tmp_path / "carried"
    library.export("tiny-q8_0", target)
    manifest = json.loads((target / "tiny-q8_0.json").read_text())
    assert manifest["origin"] == {"kind": "hub", "file": "x.gguf", "repository": "a/b", "revision": "c" * 40}
    assert (target / "SHA256SUMS").read_text() == f"{manifest['sha256']}  tiny-q8_0.gguf\n"
    with pytest.raises(UnknownOption, match="carried"):
        library.export("tiny-q8_0", target)
    shutil.rmtree(target)


@pytest.mark.parametrize("content", ["{}", "", '{"format": 2', "\x00" * 64])
def test_damaged_manifest_is_named_and_harms_no_other_model(library, tiny, tmp_path, content):
    damaged = library.add(tiny, ORIGIN, added_by="a")
    written = [write_model(tmp_path / name, seed=seed) for seed, name in enumerate(("b.gguf", "c.gguf"), 1)]
    other, third = (library.add(path, ORIGIN, added_by="a") for path in written)
    (library.folder / f"{damaged.id}.json").write_text(content)
    assert [entry.id for entry in library.list()] == [other.id, third.id]
    assert [f"{damaged.id}.json" in refusal.message for refusal in library.damaged()] == [True]
    with pytest.raises(ModelFileRefused, match=damaged.id):
        library.get(damaged.id)
    library.remove(third.id)
    assert damaged.path.exists(), "which file it named is not known any more"
    (library.folder / f"{damaged.id}.json").unlink()
    library.remove(other.id)
    assert list(library.folder.iterdir()) == []


@pytest.mark.parametrize(
    ("name", "made"),
    [("Qwen3-4B-Q4_K_M.gguf", "qwen3-4b-q4_k_m"), ("a b/C d.GGUF", "c-d"), ("Größe.gguf", "gr-e")],
)
def test_id_is_made_from_a_file_name(name, made):
    assert id_from(name) == made


@pytest.mark.parametrize("name", ["../up", "a/b", "", ".hidden", "UPPER", "x" * 97, "a\n"])
def test_name_that_would_be_a_path_is_no_model(library, tiny, name):
    with pytest.raises(ModelNotFound):
        library.get(name)
    if name:
        with pytest.raises(UnknownOption):
            library.add(tiny, ORIGIN, added_by="a", model=name)


def test_catalogue_offers_models_with_open_licences_small_ones_first():
    offers = read_catalogue()
    assert len(offers) >= 8 and {offer.kind for offer in offers} == {"assistant", "domain"}
    assert {offer.licence for offer in offers} <= {"Apache-2.0", "MIT"}
    assert [offer.file_gb for offer in offers] == sorted(offer.file_gb for offer in offers)
    assert all(offer.memory_gb > offer.file_gb for offer in offers)


def test_storage_is_named_after_the_file_or_after_most_of_its_bytes():
    assert quantization_of(7, {0: 5}) == "Q8_0" and quantization_of(None, {0: 5, 2: 50}) == "Q4_0"
    assert quantization_of(10_000, {1: 5}) == "F16"


def test_architectures_that_only_read_are_no_writers():
    assert {"llama", "qwen3", "gemma3", "phi3", "granite"} <= ARCHITECTURES - NO_WRITERS
    assert NO_WRITERS - {"jina-bert"} <= ARCHITECTURES  # each is one that the library knows
    assert not {"bert", "clip", "t5", "nomic-bert"} & (ARCHITECTURES - NO_WRITERS)
