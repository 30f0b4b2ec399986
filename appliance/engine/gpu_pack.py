"""GPU packs: what one says of itself, and whether this program and this machine can use it. Loads nothing.

    verdict = examine(Path("/opt/cloister/current/gpu"), Program.installed(), Machine.here())
    verdict.pack or verdict.why                     # a pack that may be loaded, or why there is none

    python -m appliance.engine.gpu_pack FOLDER      # says the same; exit status 1: it cannot be used, 2: there is none

A pack is a folder of libraries beside the program, named and hashed in its `pack.json` (README.md, "GPU packs"). They
run in the process that loads them, so they are used only unaltered, where nobody else can write, and from the very
llama.cpp that the program has. `llamacpp.py` loads them, from this folder and no other.
"""

from __future__ import annotations

import hashlib
import os
import re
import stat
import sys
from collections.abc import Iterable
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Literal

import msgspec

FORMAT = "cloister-gpu-pack/1"
MANIFEST = "pack.json"
GGML_API = 2  # GGML_BACKEND_API_VERSION of the llama.cpp that pyproject.toml names
_MANIFEST_BYTES_MAX, _FILES_MAX, _FILE_BYTES_MAX = 64 * 1024, 32, 4 * 1024**3
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.+-]{0,99}")
_VERSION = re.compile(r"\b[0-9]{3,4}(?:\.[0-9]{1,4}){0,2}\b")
_NVIDIA = (Path("/proc/driver/nvidia/version"), Path("/sys/module/nvidia/version"))
_LIBRARY_FOLDERS = (
    "/usr/lib/x86_64-linux-gnu",
    "/usr/lib/aarch64-linux-gnu",
    "/usr/lib64",
    "/usr/lib",
    "/usr/local/lib",
)
_VULKAN_DRIVERS = ("/usr/share/vulkan/icd.d", "/etc/vulkan/icd.d", "/usr/local/share/vulkan/icd.d")

Kind = Literal["cuda", "vulkan"]


class PackFile(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """A file of a pack."""

    name: str
    size: int
    sha256: str


class PackManifest(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """`pack.json`. `libraries` in the order in which they are loaded: the one that llama.cpp asks for comes last."""

    format: str
    kind: Kind
    llama_cpp_python: str
    ggml: str
    ggml_api: int
    toolkit: str
    driver_min: str  # of NVIDIA's driver; empty: any
    architectures: tuple[str, ...]
    libraries: tuple[PackFile, ...]
    notices: tuple[PackFile, ...] = ()


@dataclass(frozen=True, slots=True)
class Program:
    """The llama.cpp that a pack has to belong to. `ggml` None: not asked, because the library is not loaded here."""

    llama_cpp_python: str
    ggml: str | None = None

    @classmethod
    def installed(cls, ggml: str | None = None) -> Program:
        try:
            return cls(version("llama-cpp-python"), ggml)
        except PackageNotFoundError:
            return cls("", ggml)


@dataclass(frozen=True, slots=True)
class Machine:
    """What there is of drivers. `nvidia`: the version of NVIDIA's, empty without one."""

    nvidia: str
    vulkan_loader: bool
    vulkan_driver: bool

    @classmethod
    def here(cls) -> Machine:
        return cls(
            nvidia=next((found for path in _NVIDIA if (found := driver_version(_text(path)))), ""),
            vulkan_loader=any((Path(folder) / "libvulkan.so.1").exists() for folder in _LIBRARY_FOLDERS),
            vulkan_driver=any(any(Path(folder).glob("*.json")) for folder in _VULKAN_DRIVERS),
        )


@dataclass(frozen=True, slots=True)
class Pack:
    """A pack that may be loaded: its libraries by path, in their order."""

    kind: Kind
    libraries: tuple[Path, ...]
    manifest: PackManifest

    def __str__(self) -> str:
        return f"{self.kind} {self.manifest.toolkit}, for llama-cpp-python {self.manifest.llama_cpp_python}"


@dataclass(frozen=True, slots=True)
class PackVerdict:
    """A pack, or why there is none to be used and what to do; both empty: none is installed."""

    pack: Pack | None
    why: str = ""
    remedy: str = ""


class _Unfit(Exception):
    """What is wrong with a pack, and what to do."""


def examine(folder: Path, program: Program, machine: Machine) -> PackVerdict:
    """Whether the pack in `folder` belongs to the program, is what it says, and finds the driver it needs."""
    try:
        manifest = _read_manifest(folder)
        if manifest is None:
            return PackVerdict(None)
        _check_program(manifest, program)
        _check_machine(manifest, machine)
        for file in (*manifest.libraries, *manifest.notices):
            _check_file(folder, file)
    except _Unfit as unfit:
        why, remedy = unfit.args
        return PackVerdict(None, why, remedy)
    libraries = tuple(folder / file.name for file in manifest.libraries)
    return PackVerdict(Pack(manifest.kind, libraries, manifest))


def decode_manifest(content: bytes) -> PackManifest | None:
    """The manifest, if it is one of this format and its names are names of files."""
    try:
        manifest = msgspec.json.decode(content, type=PackManifest)
    except msgspec.DecodeError:
        return None
    files = (*manifest.libraries, *manifest.notices)
    names = {file.name for file in files}
    fit = (
        manifest.format == FORMAT
        and 1 <= len(manifest.libraries) <= _FILES_MAX
        and len(names) == len(files) <= _FILES_MAX
        and all(_NAME.fullmatch(name) and name != MANIFEST for name in names)
        and all(0 < file.size <= _FILE_BYTES_MAX for file in files)
        and (manifest.driver_min == "" or _VERSION.fullmatch(manifest.driver_min) is not None)
    )
    return manifest if fit else None


def driver_version(text: str) -> str:
    """The version in what NVIDIA's kernel module says of itself, as in `… Kernel Module for x86_64  580.65.06 …`."""
    line = text.split("\n", 1)[0]
    dotted = [found for found in _VERSION.findall(line) if "." in found]
    return dotted[0] if dotted else ""


def older(found: str, needed: str) -> bool:
    """Compared part by part: 570.133 is older than 580."""
    return [int(part) for part in found.split(".")] < [int(part) for part in needed.split(".")]


def _read_manifest(folder: Path) -> PackManifest | None:
    path = folder / MANIFEST
    try:
        with path.open("rb") as file:
            content = file.read(_MANIFEST_BYTES_MAX + 1)
    except FileNotFoundError:
        return None
    except OSError as error:
        raise _Unfit(f"its {MANIFEST} cannot be read: {error.strerror}", f"look at the rights of {folder}") from None
    manifest = decode_manifest(content) if len(content) <= _MANIFEST_BYTES_MAX else None
    if manifest is None:
        raise _Unfit(f"its {MANIFEST} is damaged or of a later release", "install the bundle again")
    _check_closed(folder)
    _check_closed(path)
    return manifest


def _check_program(manifest: PackManifest, program: Program) -> None:
    ours, its = program.llama_cpp_python, manifest.llama_cpp_python
    if its == ours and manifest.ggml_api == GGML_API and program.ggml in (None, manifest.ggml):
        return
    ggml = "" if program.ggml is None else f" (ggml {program.ggml})"
    raise _Unfit(
        f"it was made for llama-cpp-python {its} (ggml {manifest.ggml}, interface {manifest.ggml_api}), "
        f"and this program has {ours}{ggml}",
        "install the pack that was made with this release",
    )


def _check_machine(manifest: PackManifest, machine: Machine) -> None:
    if manifest.kind == "cuda" and not machine.nvidia:
        raise _Unfit("NVIDIA's driver is not loaded on this machine", "install the driver and start the machine again")
    if manifest.kind == "cuda" and manifest.driver_min and older(machine.nvidia, manifest.driver_min):
        raise _Unfit(
            f"it needs NVIDIA's driver {manifest.driver_min} or later, and this machine has {machine.nvidia}",
            "update the driver and start the machine again",
        )
    if manifest.kind == "vulkan" and not machine.vulkan_loader:
        raise _Unfit("libvulkan.so.1 is not on this machine", "apt-get install -y libvulkan1")
    if manifest.kind == "vulkan" and not machine.vulkan_driver:
        raise _Unfit(
            "this machine has no driver for Vulkan", "install the one of the GPU's maker, or mesa-vulkan-drivers"
        )


def _check_file(folder: Path, file: PackFile) -> None:
    path = folder / file.name
    _check_closed(path)
    try:
        with path.open("rb") as opened:
            size = os.fstat(opened.fileno()).st_size
            same = size == file.size and hashlib.file_digest(opened, "sha256").hexdigest() == file.sha256
    except OSError as error:
        raise _Unfit(f"{file.name} cannot be read: {error.strerror}", "install the bundle again") from None
    if not same:
        raise _Unfit(f"{file.name} is not the file that was packed: its hash differs", "install the bundle again")


def _check_closed(path: Path) -> None:
    """What is loaded runs: nobody but its owner may be able to exchange it."""
    try:
        mode = path.lstat().st_mode
    except OSError as error:
        raise _Unfit(f"{path.name} cannot be read: {error.strerror}", "install the bundle again") from None
    if stat.S_ISLNK(mode):
        raise _Unfit(f"{path.name} is a link", "install the bundle again")
    if mode & 0o022:
        raise _Unfit(f"others may write to {path}", f"chmod -R go-w {path}")


def _text(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(4096).decode(errors="replace")
    except OSError:
        return ""


def main(arguments: Iterable[str]) -> int:
    """One line for a person, and a status for install.sh."""
    (folder,) = arguments
    verdict = examine(Path(folder), Program.installed(), Machine.here())
    if verdict.pack is not None:
        print(verdict.pack)
        return 0
    if not verdict.why:
        print(f"there is no GPU pack in {folder}")
        return 2
    print(f"{verdict.why}; {verdict.remedy}")
    return 1


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
