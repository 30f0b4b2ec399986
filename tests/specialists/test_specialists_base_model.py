"""Guaranteed here: only files with the pinned hashes become the base model, a failed attempt leaves nothing behind,
a finished one is kept, and the converted file holds the weights and the vocabulary in llama.cpp's terms.

A BERT of two layers with random weights is made on the spot and pinned by its own hashes: no network."""

import hashlib
import zipfile
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest
from safetensors.numpy import save_file

from appliance.config import Home
from appliance.errors import BaseModelUnavailable, ModelFileRefused
from appliance.specialists.base_conversion import convert, tensor_names
from appliance.specialists.base_fetch import ensure_base_model, take_from_archive
from appliance.specialists.base_model import BertShape, Pinned, StorageType, open_base_model
from appliance.specialists.storage_choice import processor_flags, storage_for

SHAPE = BertShape(layers=2, heads=2)
STATES, INNER = 32, 64
VOCABULARY = ("[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "dr", "##s", "[", "]")


def random_weights() -> dict[str, np.ndarray]:
    rng = np.random.default_rng(3)
    sizes = {"word_embeddings": len(VOCABULARY), "position_embeddings": 16, "token_type_embeddings": 2}
    weights = {}
    for theirs, ours in tensor_names(SHAPE):
        rows = {"ffn_up": INNER}.get(ours.split(".")[-2], STATES)
        columns = {"ffn_down": INNER}.get(ours.split(".")[-2], STATES)
        shape = (sizes.get(theirs.split(".")[1], rows), columns)
        flat = theirs.endswith("bias") or "norm" in ours
        weights[theirs] = rng.standard_normal(shape[:1] if flat else shape).astype(np.float32)
    return weights


@pytest.fixture(scope="module")
def bundle(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("bundle")
    save_file(random_weights(), folder / "model.safetensors")
    (folder / "vocab.txt").write_text("\n".join(VOCABULARY) + "\n", encoding="utf-8")
    return folder


@pytest.fixture
def pinned(bundle: Path) -> Pinned:
    weights, vocabulary = (bundle / name for name in ("model.safetensors", "vocab.txt"))
    return Pinned(
        folder="tiny",
        name="tiny",
        hub_repository="nobody/tiny",
        wheel="tiny",
        shape=SHAPE,
        weights_bytes=weights.stat().st_size,
        weights_sha256=hashlib.sha256(weights.read_bytes()).hexdigest(),
        vocabulary_bytes=vocabulary.stat().st_size,
        vocabulary_sha256=hashlib.sha256(vocabulary.read_bytes()).hexdigest(),
    )


@pytest.fixture
def home(tmp_path: Path) -> Home:
    place = Home(tmp_path / "home")
    place.models.mkdir(parents=True)
    return place


def altered(bundle: Path, folder: Path, name: str, content: bytes) -> Path:
    folder.mkdir()
    for path in bundle.iterdir():
        (folder / path.name).write_bytes(content if path.name == name else path.read_bytes())
    return folder


def test_a_bundle_becomes_a_registered_base_model(home: Home, bundle: Path, pinned: Pinned) -> None:
    said: list[str] = []
    base = ensure_base_model(home, bundle=bundle, progress=said.append, pinned=pinned)
    assert base == open_base_model(home, pinned)
    assert base.sha256 == hashlib.sha256(base.path.read_bytes()).hexdigest()
    assert (base.weights_sha256, base.storage) == (pinned.weights_sha256, storage_for(processor_flags()))
    assert sorted(path.name for path in base.path.parent.iterdir()) == ["base.gguf", "manifest.json", "vocab.txt"]
    assert len(said) == 2


@pytest.mark.parametrize("storage", [StorageType.F16, StorageType.Q8_0])
def test_a_base_model_is_registered_as_what_it_was_converted_to(
    home: Home, bundle: Path, pinned: Pinned, storage: StorageType
) -> None:
    base = ensure_base_model(home, bundle=bundle, pinned=pinned, storage=storage)
    assert (base.storage, open_base_model(home, pinned)) == (storage, base)
    assert base.sha256 == hashlib.sha256(base.path.read_bytes()).hexdigest()


def test_a_finished_base_model_is_not_fetched_again(home: Home, bundle: Path, pinned: Pinned, tmp_path: Path) -> None:
    first = ensure_base_model(home, bundle=bundle, pinned=pinned)
    assert ensure_base_model(home, bundle=tmp_path / "gone", pinned=pinned) == first


@pytest.mark.parametrize("name", ["model.safetensors", "vocab.txt"])
@pytest.mark.parametrize("change", ["flip", "longer", "shorter"])
def test_a_wrong_hash_is_refused_and_nothing_is_kept(
    home: Home, bundle: Path, pinned: Pinned, tmp_path: Path, name: str, change: str
) -> None:
    content = (bundle / name).read_bytes()
    changed = {"flip": content[:-1] + bytes([content[-1] ^ 1]), "longer": content + b"\n", "shorter": content[:-1]}
    wrong = altered(bundle, tmp_path / "wrong", name, changed[change])
    with pytest.raises(ModelFileRefused, match=name):
        ensure_base_model(home, bundle=wrong, pinned=pinned)
    assert [path for path in home.models.rglob("*") if path.is_file()] == []
    ensure_base_model(home, bundle=bundle, pinned=pinned)  # and the way is free


def test_an_incomplete_bundle_names_the_file_and_the_remedy(home: Home, pinned: Pinned, tmp_path: Path) -> None:
    with pytest.raises(BaseModelUnavailable, match=r"model\.safetensors") as caught:
        ensure_base_model(home, bundle=tmp_path, pinned=pinned)
    assert "--bundle" in str(caught.value.hint)


def test_an_interrupted_installation_is_repeated(home: Home, bundle: Path, pinned: Pinned) -> None:
    base = ensure_base_model(home, bundle=bundle, pinned=pinned)
    (base.path.parent / "manifest.json").unlink()
    with pytest.raises(BaseModelUnavailable):
        open_base_model(home, pinned)
    assert ensure_base_model(home, bundle=bundle, pinned=pinned) == base


@pytest.mark.parametrize("name", ["base.gguf", "vocab.txt"])
def test_a_file_changed_after_registration_is_refused(home: Home, bundle: Path, pinned: Pinned, name: str) -> None:
    base = ensure_base_model(home, bundle=bundle, pinned=pinned)
    with (base.path.parent / name).open("ab") as file:
        file.write(b"x")
    with pytest.raises(ModelFileRefused):
        open_base_model(home, pinned)


@pytest.mark.parametrize("content", [b"", b"{}", b"\xff", b'{"name": "\xff"}', b"[" * 5000])
def test_a_manifest_that_is_none_is_refused(home: Home, pinned: Pinned, content: bytes) -> None:
    (home.models / "tiny").mkdir()
    (home.models / "tiny" / "manifest.json").write_bytes(content)
    with pytest.raises(BaseModelUnavailable):
        open_base_model(home, pinned)


def test_only_the_two_files_are_taken_from_an_archive(bundle: Path, pinned: Pinned, tmp_path: Path) -> None:
    archive = tmp_path / "tiny.whl"
    with zipfile.ZipFile(archive, "w") as content:
        for name in ("model.safetensors", "vocab.txt"):
            content.write(bundle / name, f"tiny/model/{name}")
        content.writestr("../../escape.py", "x")
    target = tmp_path / "target"
    target.mkdir()
    take_from_archive(archive, target, pinned)
    assert sorted(path.name for path in tmp_path.rglob("*") if path.is_file() and path != archive) == [
        "model.safetensors",
        "vocab.txt",
    ]


def test_an_archive_with_files_of_another_size_is_refused(pinned: Pinned, tmp_path: Path) -> None:
    archive = tmp_path / "bomb.whl"
    with zipfile.ZipFile(archive, "w", zipfile.ZIP_DEFLATED) as content:
        content.writestr("model.safetensors", b"\0" * (pinned.weights_bytes + 1))
    with pytest.raises(ModelFileRefused, match="does not hold"):
        take_from_archive(archive, tmp_path, pinned)
    archive.write_bytes(b"PK\x03\x04 no archive")
    with pytest.raises(ModelFileRefused, match="cannot be unpacked"):
        take_from_archive(archive, tmp_path, pinned)


@pytest.mark.parametrize("storage", list(StorageType))
def test_the_converted_file_holds_every_weight(bundle: Path, tmp_path: Path, storage: StorageType) -> None:
    path = tmp_path / "base.gguf"
    convert(bundle / "model.safetensors", VOCABULARY, path, SHAPE, storage, name="tiny")
    stored = {tensor.name: tensor for tensor in gguf.GGUFReader(path).tensors}
    weights = random_weights()
    assert set(stored) == {ours for _, ours in tensor_names(SHAPE)}
    tolerance = {"f32": 0.0, "f16": 1e-3, "bf16": 1e-2, "q8_0": 2e-2, "q4_0": 0.3}[storage]
    for theirs, ours in tensor_names(SHAPE):
        values = gguf.quants.dequantize(stored[ours].data, stored[ours].tensor_type)
        np.testing.assert_allclose(values.reshape(weights[theirs].shape), weights[theirs], rtol=0, atol=tolerance * 3)


def test_tokens_are_written_as_llama_cpp_expects_them(bundle: Path, tmp_path: Path) -> None:
    path = tmp_path / "base.gguf"
    convert(bundle / "model.safetensors", VOCABULARY, path, SHAPE, StorageType.F32, name="tiny")
    fields = gguf.GGUFReader(path).fields
    expected = ["[PAD]", "[unused0]", "[UNK]", "[CLS]", "[SEP]", "[MASK]", "\u2581dr", "s", "\u2581[", "\u2581]"]
    assert fields["tokenizer.ggml.tokens"].contents() == expected
    assert fields["tokenizer.ggml.token_type"].contents() == [3, 5, 3, 3, 3, 3, 1, 1, 1, 1]
    assert fields["tokenizer.ggml.bos_token_id"].contents() == 3
    assert fields["bert.attention.head_count"].contents() == 2


def test_weights_of_another_shape_are_refused(bundle: Path, tmp_path: Path) -> None:
    deeper = BertShape(layers=3, heads=2)
    with pytest.raises(ModelFileRefused, match="3-layer"):
        convert(bundle / "model.safetensors", VOCABULARY, tmp_path / "x", deeper, StorageType.F32, name="tiny")
    with pytest.raises(ModelFileRefused, match="tokens"):
        convert(bundle / "model.safetensors", VOCABULARY[:-1], tmp_path / "x", SHAPE, StorageType.F32, name="tiny")


def test_the_manifest_is_readable_by_people_and_programs(home: Home, bundle: Path, pinned: Pinned) -> None:
    base = ensure_base_model(home, bundle=bundle, pinned=pinned)
    manifest = msgspec.json.decode((base.path.parent / "manifest.json").read_bytes())
    assert manifest["gguf_sha256"] == base.sha256
    assert manifest["storage"] == base.storage.value
