"""Guaranteed here: a specialist file reads back as it was written, the same input writes the same bytes, format 1 is
frozen (vectors), and whatever a file contains, reading it ends with a value or with `SpecialistFileInvalid`.

Hypothesis cuts and flips a real file; the named cases are the ways in which a file can lie about itself."""

import json
import struct
import tracemalloc
from pathlib import Path

import gguf
import msgspec
import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import SpecialistFileInvalid
from appliance.specialists.file_format import (
    AdapterWeights,
    SpecialistFile,
    decode_specialist,
    read_specialist,
    write_specialist,
)
from appliance.specialists.gguf_metadata import parse_gguf
from appliance.specialists.manifest import (
    Base,
    Calibration,
    Evaluation,
    Manifest,
    Source,
    decode_manifest,
    encode_manifest,
)
from appliance.types import Head, Task

VECTORS = Path(__file__).parent / "vectors"

MANIFEST = Manifest(
    id="tiny-tagger",
    version="1.2.3",
    task=Task.TAG,
    name="Tiny tagger",
    summary="A vector of the format.",
    labels=("NAME", "DATE"),
    base=Base(name="tiny", weights_sha256="ab" * 32, vocabulary_sha256="cd" * 32),
    feature_version=1,
    calibration=Calibration(recall_bias=0.5),
    licence="Apache-2.0",
    sources=(Source(name="nothing", licence="CC0-1.0", attribution="nobody"),),
    recipe_sha256="ef" * 32,
    evaluation=(Evaluation(name="none", dataset="none", items=1, metrics={"f1": 0.5}, command="true"),),
    created="2026-01-31",
)


def ramp(*shape: int, layout: type = np.float32) -> np.ndarray:
    return (np.arange(np.prod(shape)).reshape(shape) / 8 - 1).astype(layout)


HEAD = Head("token", 2, ramp(3, 6, 4), ramp(4), ramp(4, 5), ramp(5))
ADAPTER = AdapterWeights(
    8.0,
    {
        "blk.0.attn_q": (ramp(2, 4, layout=np.float16), ramp(4, 2, layout=np.float16)),
        "blk.1.ffn_up": (ramp(2, 4), ramp(8, 2)),
    },
)


WITHOUT_LABELS = {
    Task.ANSWER: (
        "tiny-answerer.gguf",
        msgspec.structs.replace(
            MANIFEST,
            id="tiny-answerer",
            task=Task.ANSWER,
            labels=(),
            feature_version=0,
            window_tokens=96,
            calibration=Calibration(temperature=1.5, recall_bias=-0.25, abstain_below=0.5),
        ),
        Head("token", 0, None, None, ramp(4, 2), ramp(2)),
    ),
    Task.EMBED: (
        "tiny-embedder.gguf",
        msgspec.structs.replace(
            MANIFEST, id="tiny-embedder", task=Task.EMBED, labels=(), feature_version=0, calibration=Calibration()
        ),
        Head("none", 0, None, None, None, None),
    ),
}


@pytest.fixture(scope="module")
def written(tmp_path_factory: pytest.TempPathFactory) -> bytes:
    path = tmp_path_factory.mktemp("file") / "tiny-tagger.gguf"
    write_specialist(path, MANIFEST, HEAD, ADAPTER)
    return path.read_bytes()


def same(one: np.ndarray | None, other: np.ndarray | None) -> bool:
    return one is not None and other is not None and one.dtype == other.dtype and np.array_equal(one, other)


def test_a_file_reads_back_as_written(written: bytes) -> None:
    file = decode_specialist(written)
    assert file.manifest == MANIFEST
    assert (file.head.kind, file.head.feature_count, file.has_adapter, file.size) == ("token", 2, True, len(written))
    assert same(file.head.conv_weight, HEAD.conv_weight)
    assert same(file.head.conv_bias, HEAD.conv_bias)
    assert same(file.head.out_weight, HEAD.out_weight)
    assert same(file.head.out_bias, HEAD.out_bias)
    names = [tensor.name for tensor in parse_gguf(written).tensors]
    assert names == [f"blk.{layer}.weight.lora_{half}" for layer in ("0.attn_q", "1.ffn_up") for half in "ab"]


@pytest.mark.parametrize("name", sorted(path.stem for path in VECTORS.glob("*.gguf")))
def test_a_vector_of_format_1_reads_as_its_description_says(name: str) -> None:
    file = read_specialist(VECTORS / f"{name}.gguf", bytes_max=1 << 20)
    expected = json.loads((VECTORS / f"{name}.json").read_text())
    assert description(file) == expected


def test_there_is_a_vector_of_every_task_but_classify() -> None:
    assert {path.stem for path in VECTORS.glob("*.gguf")} == {"tiny-tagger", "tiny-answerer", "tiny-embedder"}


@pytest.mark.parametrize("task", [Task.ANSWER, Task.EMBED])
def test_the_same_input_writes_the_bytes_of_the_vectors_without_labels(task: Task, tmp_path: Path) -> None:
    name, manifest, head = WITHOUT_LABELS[task]
    write_specialist(tmp_path / name, manifest, head, None)
    assert (tmp_path / name).read_bytes() == (VECTORS / name).read_bytes()


def test_an_answers_head_has_two_outputs_and_stands_over_tokens(tmp_path: Path) -> None:
    _, manifest, _ = WITHOUT_LABELS[Task.ANSWER]
    for head in (
        Head("token", 0, None, None, ramp(4, 3), ramp(3)),
        Head("pooled", 0, None, None, ramp(4, 2), ramp(2)),
        Head("none", 0, None, None, None, None),
    ):
        with pytest.raises(SpecialistFileInvalid):
            write_specialist(tmp_path / "wrong.gguf", manifest, head, None)


def test_the_same_input_writes_the_bytes_of_the_vector(written: bytes) -> None:
    assert written == (VECTORS / "tiny-tagger.gguf").read_bytes()


def description(file: SpecialistFile) -> dict[str, object]:
    head = {
        name: None if values is None else values.tolist()
        for name, values in (
            ("conv_weight", file.head.conv_weight),
            ("conv_bias", file.head.conv_bias),
            ("out_weight", file.head.out_weight),
            ("out_bias", file.head.out_bias),
        )
    }
    return {
        "sha256": file.sha256,
        "manifest": json.loads(encode_manifest(file.manifest)),
        "head": {"kind": file.head.kind, "feature_count": file.head.feature_count} | head,
        "has_adapter": file.has_adapter,
    }


def test_a_head_over_the_bare_base_needs_no_tensors(tmp_path: Path) -> None:
    manifest = msgspec.structs.replace(MANIFEST, task=Task.CLASSIFY, feature_version=0)
    path = tmp_path / "head.gguf"
    write_specialist(path, manifest, Head("pooled", 0, None, None, ramp(4, 2), ramp(2)), None)
    assert not read_specialist(path, bytes_max=1 << 20).has_adapter


@given(st.data())
def test_any_truncation_is_refused(written: bytes, data: st.DataObject) -> None:
    cut = data.draw(st.integers(0, len(written) - 1))
    with pytest.raises(SpecialistFileInvalid):
        decode_specialist(written[:cut])


@given(st.data())
def test_any_flipped_byte_is_read_or_refused_but_nothing_else(written: bytes, data: st.DataObject) -> None:
    position = data.draw(st.integers(0, len(written) - 1))
    changed = bytearray(written)
    changed[position] ^= data.draw(st.integers(1, 255))
    try:
        decode_specialist(bytes(changed))
    except SpecialistFileInvalid as error:
        assert str(error)


@given(st.binary(max_size=400))
def test_any_bytes_after_the_magic_number_are_refused(content: bytes) -> None:
    with pytest.raises(SpecialistFileInvalid):
        decode_specialist(b"GGUF\x03\0\0\0" + content)


def test_claimed_lengths_allocate_nothing() -> None:
    huge = struct.pack("<Q", 2**62)
    key = struct.pack("<Q", 1) + b"k"
    lies = [
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + huge,
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<II", 9, 6) + huge,
        b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + key + struct.pack("<II", 9, 8) + struct.pack("<Q", 60_000),
        b"GGUF" + struct.pack("<IQQ", 3, 2**62, 0),
        b"GGUF" + struct.pack("<IQQ", 3, 0, 2**62),
        b"GGUF" + struct.pack("<IQQ", 3, 1, 0) + key + struct.pack("<IQQIQ", 2, 2**62, 2**62, 0, 0),
    ]
    for lie in lies:
        tracemalloc.start()
        with pytest.raises(SpecialistFileInvalid):
            decode_specialist(lie)
        peak = tracemalloc.get_traced_memory()[1]
        tracemalloc.stop()
        assert peak < 200_000


def test_nested_arrays_are_refused() -> None:
    nested = struct.pack("<IIQ", 9, 9, 1) + struct.pack("<IQ", 9, 1) * 1000
    content = b"GGUF" + struct.pack("<IQQ", 3, 0, 1) + struct.pack("<Q", 1) + b"k" + nested
    with pytest.raises(SpecialistFileInvalid, match="not supported"):
        parse_gguf(content)


def variant(path: Path, **changes: object) -> Path:
    """A file that llama.cpp would parse, with some keys or tensors changed (None: left out)."""
    values: dict[str, object] = {
        "general.type": "adapter",
        "adapter.type": "lora",
        "alpha": 8.0,
        "format": 1,
        "manifest": msgspec.json.encode(MANIFEST).decode(),
        "kind": "token",
        "features": 2,
        "out_shape": [6, 5],
        "out_weight": [0.0] * 30,
        "out_bias": [0.0] * 5,
        "tensors": {"blk.0.attn_q.weight.lora_a": ramp(2, 4), "blk.0.attn_q.weight.lora_b": ramp(4, 2)},
    } | changes
    writer = gguf.GGUFWriter(path, str(values.get("architecture", "bert")))
    for key in ("general.type", "adapter.type"):
        writer.add_string(key, str(values[key]))
    writer.add_float32("adapter.lora.alpha", values["alpha"])  # type: ignore[arg-type]
    writer.add_uint32("cloister.format", values["format"])  # type: ignore[arg-type]
    writer.add_string("cloister.manifest", str(values["manifest"]))
    writer.add_string("cloister.head.kind", str(values["kind"]))
    writer.add_uint32("cloister.head.feature_count", values["features"])  # type: ignore[arg-type]
    for name, kind in (("out_shape", "UINT32"), ("out_weight", "FLOAT32"), ("out_bias", "FLOAT32")):
        if values[name] is not None:
            element = gguf.GGUFValueType[str(values.get(f"{name}_type", kind))]
            writer.add_key_value(f"cloister.head.{name}", values[name], gguf.GGUFValueType.ARRAY, sub_type=element)
    for name, tensor in values["tensors"].items():  # type: ignore[attr-defined]
        writer.add_tensor(name, tensor)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def test_the_variant_without_changes_is_valid(tmp_path: Path) -> None:
    assert read_specialist(variant(tmp_path / "ok.gguf"), bytes_max=1 << 20).manifest == MANIFEST


PAIR = {"blk.0.attn_q.weight.lora_a": ramp(2, 4), "blk.0.attn_q.weight.lora_b": ramp(4, 2)}


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"architecture": "llama"}, "not a specialist"),
        ({"general.type": "model"}, "not a specialist"),
        ({"format": 2}, "format 2"),
        ({"manifest": "{}"}, "manifest"),
        ({"manifest": '{"format": 7}'}, "format 7"),
        ({"manifest": "[" * 5000}, "manifest"),
        ({"kind": "generate"}, "unknown kind"),
        ({"kind": "pooled"}, "cannot have a head"),
        ({"kind": "none"}, "do not agree"),
        ({"features": 0}, "word-shape"),
        ({"features": 2**32 - 1}, "word-shape"),
        ({"out_weight": [0.0] * 29}, "shape"),
        ({"out_weight": [float("nan")] * 30}, "finite"),
        ({"out_bias": [float("inf")] * 5}, "finite"),
        ({"out_weight_type": "FLOAT64"}, "not an array of float32"),
        ({"out_shape": None}, "missing"),
        ({"out_shape": [6, 5, 1]}, "more than 2"),
        ({"out_shape": [2**31, 2**31]}, "shape"),
        ({"out_shape": [5, 6], "out_bias": [0.0] * 6}, "outputs"),
        ({"alpha": float("nan")}, "alpha"),
        ({"alpha": -1.0}, "alpha"),
        ({"tensors": PAIR | {"output.weight": ramp(4, 4)}}, "does not belong"),
        ({"tensors": PAIR | {"blk.99.attn_q.weight.lora_a": ramp(2, 4)}}, "does not belong"),
        ({"tensors": {"blk.0.attn_q.weight.lora_a": ramp(2, 4)}}, "one half"),
        ({"tensors": PAIR | {"blk.0.attn_q.weight.lora_b": ramp(4, 3)}}, "do not fit"),
        ({"tensors": PAIR | {"blk.0.attn_q.weight.lora_b": ramp(4, 2, layout=np.float64)}}, "stored in the type"),
    ],
)
def test_a_file_that_contradicts_itself_is_refused(tmp_path: Path, changes: dict[str, object], message: str) -> None:
    path = variant(tmp_path / "bad.gguf", **changes)
    with pytest.raises(SpecialistFileInvalid, match=message):
        read_specialist(path, bytes_max=1 << 20)


def test_a_file_over_the_bound_is_not_parsed(tmp_path: Path) -> None:
    path = variant(tmp_path / "big.gguf")
    with pytest.raises(SpecialistFileInvalid, match="larger than 100 bytes"):
        read_specialist(path, bytes_max=100)


@pytest.mark.parametrize(
    ("field", "value"),
    [
        ("id", "../etc"),
        ("id", "bank-intent\n"),
        ("version", "1.0"),
        ("version", "1.0.0\n"),
        ("labels", ["NAME", "NAME"]),
        ("labels", []),
        ("created", "yesterday"),
        ("surprise", 1),
    ],
)
def test_a_manifest_with_a_bad_field_is_refused_by_name(field: str, value: object) -> None:
    text = json.dumps(msgspec.to_builtins(MANIFEST) | {field: value})
    with pytest.raises(SpecialistFileInvalid, match="manifest"):
        decode_manifest(text)
