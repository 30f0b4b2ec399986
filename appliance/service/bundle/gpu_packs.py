"""GPU packs as they travel: one archive with libraries and what they say of themselves (`engine/gpu_pack.py`).

    path = write_pack(folder, manifest, out)            # cloister-gpu-cuda-0.3.36-x86_64.tar.gz
    read_pack(path).kind                                # "cuda"; InvalidRequest if a byte of it is not as it says

`.ci/gpu-pack` builds the libraries and calls this:

    python -m appliance.service.bundle.gpu_packs FOLDER OUT --kind cuda --toolkit 13.0.88 --library libggml-cuda.so …
"""

from __future__ import annotations

import argparse
import gzip
import hashlib
import io
import platform
import sys
import tarfile
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO

import msgspec

from appliance.engine.gpu_pack import FORMAT, GGML_API, MANIFEST, Kind, PackFile, PackManifest, decode_manifest
from appliance.errors import InvalidRequest

_REBUILD = "make it again: make gpu-pack-cuda or make gpu-pack-vulkan"
_NOTICE_BYTES_MAX = 1024 * 1024
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class ReadPack:
    """An archive whose every byte was looked at. `notices`: the licence texts in it."""

    manifest: PackManifest
    notices: tuple[str, ...]


def describe(folder: Path, names: Sequence[str]) -> tuple[PackFile, ...]:
    """Size and hash of files of a folder."""
    described = []
    for name in names:
        with (folder / name).open("rb") as file:
            digest = hashlib.file_digest(file, "sha256").hexdigest()
        described.append(PackFile(name, (folder / name).stat().st_size, digest))
    return tuple(described)


def write_pack(folder: Path, manifest: PackManifest, out: Path) -> Path:
    """The archive, in `out`. The same files give the same bytes. Raises `InvalidRequest`."""
    content = msgspec.json.format(msgspec.json.encode(manifest), indent=1) + b"\n"
    if decode_manifest(content) is None:
        raise InvalidRequest("these files make no GPU pack", hint="look at their names, sizes and the driver's version")
    path = out / f"cloister-gpu-{manifest.kind}-{manifest.llama_cpp_python}-{platform.machine()}.tar.gz"
    with (
        path.open("wb") as file,
        gzip.GzipFile("", "wb", 6, file, mtime=0) as packed,
        tarfile.open(fileobj=packed, mode="w|", format=tarfile.PAX_FORMAT) as archive,  # type: ignore[arg-type]
    ):
        archive.addfile(_member(MANIFEST, len(content)), io.BytesIO(content))
        for entry in (*manifest.libraries, *manifest.notices):
            with (folder / entry.name).open("rb") as source:
                archive.addfile(_member(entry.name, entry.size), source)
    return path


def read_pack(path: Path) -> ReadPack:
    """Read an archive whole. Raises `InvalidRequest` for one that is damaged, or holds more or less than it says."""
    notices = []
    try:
        with tarfile.open(path, mode="r|gz") as archive:
            first = archive.next()
            content = archive.extractfile(first).read() if first and first.name == MANIFEST else b""  # type: ignore[union-attr]
            manifest = decode_manifest(content)
            if manifest is None:
                raise InvalidRequest(f"{path} is no GPU pack of this release", hint=_REBUILD)
            missing = {entry.name: entry for entry in (*manifest.libraries, *manifest.notices)}
            texts = {entry.name for entry in manifest.notices}
            while (member := archive.next()) is not None:
                entry = missing.pop(member.name, None)
                opened = archive.extractfile(member) if member.isreg() else None
                if entry is None or opened is None or member.size != entry.size:
                    raise InvalidRequest(f"{path} holds {member.name}, which is not as it says", hint=_REBUILD)
                head = _check_hash(path, entry, opened)  # type: ignore[arg-type]
                if entry.name in texts:
                    notices.append(head.decode(errors="replace"))
    except (OSError, EOFError, tarfile.TarError) as error:
        raise InvalidRequest(f"{path} cannot be read as a GPU pack: {type(error).__name__}", hint=_REBUILD) from None
    if missing:
        raise InvalidRequest(f"{path} lacks {min(missing)}", hint=_REBUILD)
    return ReadPack(manifest, tuple(notices))


def told(manifest: PackManifest) -> str:
    """A pack in one line."""
    needs = f", needs NVIDIA's driver {manifest.driver_min} or later" if manifest.driver_min else ""
    kinds = f", for {' '.join(manifest.architectures)}" if manifest.architectures else ""
    made = f"{manifest.kind} {manifest.toolkit}".strip()
    return f"{made}{kinds}, for llama-cpp-python {manifest.llama_cpp_python}{needs}"


def _check_hash(path: Path, entry: PackFile, opened: BinaryIO) -> bytes:
    """Raises if the bytes are not those of the entry; returns the first of them."""
    digest, head = hashlib.sha256(), b""
    while piece := opened.read(_PIECE):
        digest.update(piece)
        head = head or piece[:_NOTICE_BYTES_MAX]
    if digest.hexdigest() != entry.sha256:
        raise InvalidRequest(f"{path} holds {entry.name} with another hash than it says", hint=_REBUILD)
    return head


def _member(name: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(name)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


def main(arguments: Sequence[str]) -> None:
    """Pack what `.ci/gpu-pack` built."""
    parser = argparse.ArgumentParser()
    parser.add_argument("folder", type=Path)
    parser.add_argument("out", type=Path)
    for name in ("--kind", "--toolkit", "--llama", "--ggml"):
        parser.add_argument(name, required=True)
    parser.add_argument("--driver-min", default="")
    for name in ("--architecture", "--library", "--notice"):
        parser.add_argument(name, action="append", default=[])
    asked = parser.parse_args(arguments)
    kind: Kind = "cuda" if asked.kind == "cuda" else "vulkan"
    manifest = PackManifest(
        FORMAT,
        kind,
        asked.llama,
        asked.ggml,
        GGML_API,
        asked.toolkit,
        asked.driver_min,
        tuple(asked.architecture),
        describe(asked.folder, asked.library),
        describe(asked.folder, asked.notice),
    )
    path = write_pack(asked.folder, manifest, asked.out)
    print(f"{path}: {told(read_pack(path).manifest)}; {path.stat().st_size / 2**20:.0f} MiB")


if __name__ == "__main__":
    main(sys.argv[1:])
