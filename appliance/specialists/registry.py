"""Which specialists are installed, which version of each answers, and that its file is still the one installed.

    registry = Registry(engine, config.home)
    entry = registry.install(path, trust="administrator", installed_by="user:7")
    registry.get("phi-deid").adapter()           # what the engine loads; refuses a file that was changed
    registry.activate("phi-deid", "0.1.0")       # back to the version before
    registry.disable("phi-deid")

Life of an installation: the bytes are read once, checked, hashed, written to `specialists/<sha256>.gguf` (mode 0400,
on stable storage), and only then named in the database. After a crash in between, a file without an entry lies in
the folder; installing again adopts it. One version per id is active; the others stay for the way back. A request
that started keeps the entry it got.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from appliance.config import Home, SpecialistsConfig
from appliance.errors import Conflict, ModelFileRefused, SpecialistNotFound
from appliance.specialists import store
from appliance.specialists.durable_files import disk_errors, write_durably
from appliance.specialists.file_format import SpecialistFile, decode_specialist
from appliance.specialists.manifest import Manifest, decode_manifest, encode_manifest, version_key
from appliance.storage.database import Engine
from appliance.types import Adapter, SpecialistRef

# Why a file was admitted. Bundled ones are pinned by a list of hashes that ships with the release.
Trust = Literal["bundled", "administrator"]
HASH_LIST = "SHA256SUMS"
HASH_LIST_BYTES_MAX = 64 * 1024
ADAPTERS_KEPT_MAX = 64
_FILE_MODE = 0o400


@dataclass(frozen=True, slots=True)
class SpecialistEntry:
    """One installed version: what its file says of itself, where the file lies, and who let it in."""

    manifest: Manifest
    path: Path
    sha256: str
    size_bytes: int
    active: bool
    installed_ms: int
    installed_by: str
    _open: Callable[[SpecialistEntry], Adapter] = field(repr=False, compare=False)

    @property
    def ref(self) -> SpecialistRef:
        """Which specialist this is, exactly."""
        return SpecialistRef(self.manifest.id, self.manifest.version, self.sha256, self.manifest.task)

    def adapter(self) -> Adapter:
        """What the engine needs to serve it. Raises `ModelFileRefused` if the file is gone or was changed."""
        return self._open(self)


class Registry:
    """The installed specialists of one data folder. Owns its cache of opened heads; the rest is in the database."""

    def __init__(self, engine: Engine, home: Home, config: SpecialistsConfig | None = None) -> None:
        self._engine = engine
        self._home = home
        self._bytes_max = (config or SpecialistsConfig()).file_bytes_max
        self._adapters: dict[str, Adapter] = {}

    def list(self) -> tuple[SpecialistEntry, ...]:
        """The active version of every specialist, by id."""
        return tuple(self._entry(row) for row in store.read_active(self._engine))

    def get(self, specialist_id: str) -> SpecialistEntry:
        """The active version. Raises `SpecialistNotFound`."""
        for row in store.read_versions(self._engine, specialist_id):
            if row.active:
                return self._entry(row)
        raise SpecialistNotFound(
            f"no specialist {specialist_id[:64]!r} is active", hint="`appliance specialists list` shows those that are"
        )

    def versions(self, specialist_id: str) -> tuple[SpecialistEntry, ...]:
        """Every installed version of an id, the latest installation first; empty for an unknown id."""
        return tuple(self._entry(row) for row in store.read_versions(self._engine, specialist_id))

    def install(self, path: Path, *, trust: Trust, installed_by: str = "system") -> SpecialistEntry:
        """Admit a file. Installing what is installed already changes nothing and returns it.

        The version becomes the active one; only a bundled file does not displace a later version that is active.
        Raises `SpecialistFileInvalid`, `ModelFileRefused` (a bundled file whose hash is not listed), `Conflict`
        (other bytes under the same id and version) and `HomeError`. On any of them the registry is as it was.
        """
        content = _read(path, self._bytes_max)
        file = decode_specialist(content)
        if trust == "bundled":
            _check_listed(path, file.sha256)
        known = {entry.sha256: entry for entry in self.versions(file.manifest.id)}
        if file.sha256 not in known:
            _check_version_is_free(file, tuple(known.values()))
        place = self._home.specialists / f"{file.sha256}.gguf"
        with disk_errors(place):
            write_durably(place, content, mode=_FILE_MODE)
        if file.sha256 in known:
            self._adapters.pop(file.sha256, None)
            return known[file.sha256]
        row = store.SpecialistRow(
            sha256=file.sha256,
            id=file.manifest.id,
            version=file.manifest.version,
            task=file.manifest.task.value,
            manifest=encode_manifest(file.manifest),
            size_bytes=file.size,
            active=trust == "administrator" or _is_latest(file.manifest, tuple(known.values())),
            installed_ms=time.time_ns() // 1_000_000,
            installed_by=f"{trust}:{installed_by}",
        )
        if not store.add(self._engine, row):
            raise Conflict(
                f"{row.id} {row.version} was installed by somebody else at the same moment",
                hint="look at the list of specialists, then try again",
            )
        return self._entry(row)

    def activate(self, specialist_id: str, version: str) -> SpecialistEntry:
        """Let an installed version answer: the way back, and the way forward again. Raises `SpecialistNotFound`."""
        for entry in self.versions(specialist_id):
            if entry.manifest.version == version:
                entry.adapter()  # a version whose file was changed must not become the one that answers
                store.set_active(self._engine, specialist_id, entry.sha256)
                return self.get(specialist_id)
        raise SpecialistNotFound(f"no version {version[:32]!r} of {specialist_id[:64]!r} is installed")

    def disable(self, specialist_id: str) -> None:
        """Take a specialist out of service; its files stay. Raises `SpecialistNotFound`."""
        self.get(specialist_id)
        store.set_active(self._engine, specialist_id, None)

    def _entry(self, row: store.SpecialistRow) -> SpecialistEntry:
        return SpecialistEntry(
            manifest=decode_manifest(row.manifest),
            path=self._home.specialists / f"{row.sha256}.gguf",
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            active=row.active,
            installed_ms=row.installed_ms,
            installed_by=row.installed_by,
            _open=self._open_adapter,
        )

    def _open_adapter(self, entry: SpecialistEntry) -> Adapter:
        """Read and hash the file once per process; the worker hashes it again before llama.cpp sees it."""
        if entry.sha256 not in self._adapters:
            content = _read(entry.path, self._bytes_max)
            if hashlib.sha256(content).hexdigest() != entry.sha256:
                raise ModelFileRefused(
                    f"the file of {entry.manifest.id} {entry.manifest.version} is not the one that was installed: "
                    f"{entry.path} has another SHA-256",
                    hint="install the specialist again from a file you trust, and find out who changed this one",
                )
            file = decode_specialist(content)
            path = entry.path if file.has_adapter else None
            if len(self._adapters) >= ADAPTERS_KEPT_MAX:
                self._adapters.pop(next(iter(self._adapters)), None)
            self._adapters[entry.sha256] = Adapter(entry.sha256, path, entry.sha256 if path else None, file.head)
        return self._adapters[entry.sha256]


def _read(path: Path, bytes_max: int) -> bytes:
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise ModelFileRefused(
            f"cannot read the specialist file {path}: {error.strerror}", hint="check that the file exists and its mode"
        ) from None
    if len(content) > bytes_max:
        raise ModelFileRefused(
            f"{path} is larger than {bytes_max} bytes", hint="raise specialists.file_bytes_max if you trust it"
        )
    return content


def _check_listed(path: Path, sha256: str) -> None:
    """`SHA256SUMS` in the folder above lists `<hash>  <folder>/<file>`, as sha256sum writes and checks it."""
    hash_list = path.parent.parent / HASH_LIST
    try:
        with hash_list.open("rb") as file:
            lines = file.read(HASH_LIST_BYTES_MAX).decode("utf-8", "replace").splitlines()
    except OSError as error:
        raise ModelFileRefused(f"cannot read {hash_list}: {error.strerror}", hint="install the release again") from None
    name = f"{path.parent.name}/{path.name}"
    listed = {words[1].lstrip("*./"): words[0] for line in lines if len(words := line.split(maxsplit=1)) == 2}
    if listed.get(name) != sha256:
        raise ModelFileRefused(
            f"{path} has a SHA-256 that {hash_list} does not list for it", hint="install the release again"
        )


def _check_version_is_free(file: SpecialistFile, known: tuple[SpecialistEntry, ...]) -> None:
    for entry in known:
        if entry.manifest.version == file.manifest.version:
            raise Conflict(
                f"{entry.manifest.id} {entry.manifest.version} is installed with other content",
                hint="a changed specialist needs a new version in its manifest",
            )


def _is_latest(manifest: Manifest, known: tuple[SpecialistEntry, ...]) -> bool:
    """Whether nothing later is active. Where all versions are disabled, a person disabled them: it stays so."""
    active = [entry for entry in known if entry.active]
    return not known or any(version_key(entry.manifest.version) < version_key(manifest.version) for entry in active)
