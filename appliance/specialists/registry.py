"""Which specialists are installed, which version of each answers, and that its file is still the one installed.

    registry = Registry(engine, config.home)
    entry = registry.admit(content, Admission("signature", by="user:7", person="ana", signature=text))
    registry.approve("router", "0.2.0", by="user:8")
    registry.promote("router", "0.2.0", by="user:8")     # now it answers
    registry.get("router").adapter()                     # what the engine loads; refuses a file that was changed
    registry.rollback("router")                          # the version before answers again

Life of a version: `awaiting_approval`, `approved`, `active`, `retired`; the states follow from what is stored (who
approved it, when it was promoted, whether it is active), so that no two of them can contradict each other.

The bytes are read once, checked, hashed, written to `specialists/<sha256>.gguf` (mode 0400, on stable storage), and
only then named in the database; a version is forgotten there before its file goes. After a crash in between, a file
without an entry lies in the folder; installing again adopts it. One version per id is active; the others stay for the
way back. A request that started keeps the entry it got. Who may do what is `service/`'s rule and not this room's.
"""

from __future__ import annotations

import hashlib
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Literal

from appliance.config import Home, SpecialistsConfig
from appliance.errors import Conflict, ModelFileRefused, NotFound, SpecialistNotFound
from appliance.specialists import store
from appliance.specialists.base_model import MINILM, Pinned
from appliance.specialists.file_format import SpecialistFile, decode_specialist
from appliance.specialists.installed_files import delete_file, read_file, write_file
from appliance.specialists.language_models.library import has_model
from appliance.specialists.manifest import NOBODY_ID, Manifest, decode_manifest, encode_manifest, version_key
from appliance.specialists.signature import TrustedKey
from appliance.specialists.store import TrustedKeyRow
from appliance.storage.database import Engine
from appliance.types import Adapter, SpecialistRef

# Why a file was admitted. Bundled ones are pinned by a list of hashes that ships with the release; a signature is of a
# key that this site trusts; a decision is an administrator's, who said why; taught ones were made here.
Trust = Literal["bundled", "administrator"]
Admitted = Literal["bundled", "administrator", "signature", "decision", "taught"]
State = Literal["awaiting_approval", "approved", "active", "retired"]
HASH_LIST = "SHA256SUMS"
HASH_LIST_BYTES_MAX = 64 * 1024
ADAPTERS_KEPT_MAX = 64
TRUSTED_KEYS_MAX = 100


@dataclass(frozen=True, slots=True)
class Admission:
    """Why a file is let in, and who did it. `person` is compared with whoever approves it (`accounts.person_of`)."""

    admitted: Admitted
    by: str
    person: str
    reason: str = ""
    signature: str | None = None
    signer: str | None = None


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
    row: store.SpecialistRow = field(repr=False)
    _open: Callable[[SpecialistEntry], Adapter] = field(repr=False, compare=False)

    @property
    def admitted(self) -> str:
        """Why it was let in: one of `Admitted`."""
        return self.installed_by.partition(":")[0]

    @property
    def state(self) -> State:
        """Where in its life this version is."""
        if self.active:
            return "active"
        if self.row.approved_ms is None:
            return "awaiting_approval"
        return "approved" if self.row.promoted_ms is None else "retired"

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
        config = config or SpecialistsConfig()
        self._bytes_max, self._merged = config.file_bytes_max, frozenset(config.merged)
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

    def every_version(self) -> tuple[SpecialistEntry, ...]:
        """Every installed version of every id: by id, the latest installation first."""
        return tuple(self._entry(row) for row in store.read_all(self._engine))

    def version(self, specialist_id: str, version: str) -> SpecialistEntry:
        """One installed version. Raises `SpecialistNotFound`."""
        for entry in self.versions(specialist_id):
            if entry.manifest.version == version:
                return entry
        raise SpecialistNotFound(
            f"no version {version[:32]!r} of {specialist_id[:64]!r} is installed",
            hint="`appliance specialists versions` shows those that are",
        )

    def check(self, content: bytes) -> SpecialistFile:
        """Everything that can be known of a file before it is admitted.

        Raises `SpecialistFileInvalid`, and `ModelFileRefused` where it is too large or for another base.
        """
        if len(content) > self._bytes_max:
            raise ModelFileRefused(
                f"the file is larger than {self._bytes_max} bytes",
                hint="raise specialists.file_bytes_max if you trust it",
            )
        file = decode_specialist(content)
        _check_base(file, MINILM)
        if file.manifest.id == NOBODY_ID:
            raise ModelFileRefused(
                f"no specialist is named {NOBODY_ID!r}: the router says it of what nobody serves",
                hint="give it another id",
            )
        return file

    def admit(self, content: bytes, admission: Admission) -> SpecialistEntry:
        """Let a file in; it answers nobody before it was approved and promoted.

        Admitting what is installed already changes nothing and returns it. Raises as `check` does, `Conflict` for
        other bytes under the same id and version, for another task than the earlier versions do and for the id of a
        model that writes, and `HomeError`. On any of them the registry is as it was.
        """
        file = self.check(content)
        known = {entry.sha256: entry for entry in self.versions(file.manifest.id)}
        if file.sha256 not in known:
            _check_version_is_free(file, tuple(known.values()))
            _check_task_is_the_same(file, tuple(known.values()))
            if has_model(self._home, file.manifest.id):
                raise Conflict(f"the name {file.manifest.id} is a model's that writes", hint="give it another id")
        write_file(self._home.specialists / f"{file.sha256}.gguf", content)
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
            active=False,
            installed_ms=_now_ms(),
            installed_by=f"{admission.admitted}:{admission.by}",
            person=admission.person,
            reason=admission.reason or None,
            signature=admission.signature,
            signer=admission.signer,
        )
        return self._added(row)

    def approve(self, specialist_id: str, version: str, *, by: str) -> SpecialistEntry:
        """Note that a person approved a version. Raises `SpecialistNotFound`, `Conflict` if somebody had before."""
        entry = self.version(specialist_id, version)
        entry.adapter()  # a file that was changed since must not be approved
        if not store.approve(self._engine, entry.sha256, by, _now_ms()):
            raise Conflict(
                f"{specialist_id} {version} is not waiting for approval",
                hint="look at `appliance specialists versions`",
            )
        return self.version(specialist_id, version)

    def promote(self, specialist_id: str, version: str, *, by: str) -> SpecialistEntry:
        """Let an approved version answer, from its commit on and for requests that begin then.

        Raises `SpecialistNotFound`, `ModelFileRefused` for a file that was changed, `Conflict` if it is not approved or
        is active already.
        """
        entry = self.version(specialist_id, version)
        entry.adapter()
        if not store.promote(self._engine, specialist_id, entry.sha256, by, _now_ms()):
            state = self.version(specialist_id, version).state.replace("_", " ")
            raise Conflict(
                f"{specialist_id} {version} cannot be promoted: it is {state}",
                hint="an approved version is promoted once; another person approves it first",
            )
        return self.version(specialist_id, version)

    def rollback(self, specialist_id: str) -> tuple[SpecialistEntry, SpecialistEntry | None]:
        """Undo the last promotion: the version that stopped answering, and the one that answers again (None: none).

        Raises `SpecialistNotFound` where nothing is active, `ModelFileRefused` if the file to go back to was changed.
        """
        leaving = self.get(specialist_id)
        follows = leaving.row.follows
        back = next((entry for entry in self.versions(specialist_id) if entry.sha256 == follows), None)
        if back is not None:
            back.adapter()
        if not store.go_back(self._engine, leaving.sha256, back.sha256 if back else follows):
            raise Conflict(f"another version of {specialist_id} was promoted just now", hint="look again, then decide")
        gone = self.version(specialist_id, leaving.manifest.version)
        return gone, None if back is None else self.version(specialist_id, back.manifest.version)

    def remove(self, specialist_id: str, version: str) -> SpecialistEntry:
        """Forget a version and delete its file. Raises `SpecialistNotFound`, `Conflict` while it is active."""
        entry = self.version(specialist_id, version)
        if not store.remove(self._engine, entry.sha256):
            raise Conflict(
                f"{specialist_id} {version} answers requests at this moment",
                hint="promote another version or roll back first",
            )
        self._adapters.pop(entry.sha256, None)
        delete_file(entry.path)
        return entry

    def content(self, entry: SpecialistEntry) -> bytes:
        """The bytes of an installed file. Raises `ModelFileRefused` if they are not the ones that were installed."""
        content = read_file(entry.path, self._bytes_max)
        _check_unchanged(entry, content)
        return content

    def trusted_keys(self) -> tuple[TrustedKeyRow, ...]:
        """The keys whose signatures count here, by name."""
        return store.read_trusted_keys(self._engine)

    def trust(self, key: TrustedKey, *, by: str) -> TrustedKeyRow:
        """Let signatures of a key count. Raises `Conflict` for a key or a name that is known."""
        if len(self.trusted_keys()) >= TRUSTED_KEYS_MAX:
            raise Conflict(f"{TRUSTED_KEYS_MAX} keys are trusted already", hint="distrust one that is not used")
        row = TrustedKeyRow(key, _now_ms(), by)
        if not store.add_trusted_key(self._engine, row):
            raise Conflict(
                f"a key of the name {key.name!r}, or this key under another name, is trusted already",
                hint="look at `appliance specialists keys`",
            )
        return row

    def distrust(self, name: str) -> None:
        """Signatures of this key count no more; what they admitted stays. Raises `NotFound`."""
        if not store.remove_trusted_key(self._engine, name):
            raise NotFound(f"no trusted key is called {name[:64]!r}", hint="look at `appliance specialists keys`")

    def install(self, path: Path, *, trust: Trust, installed_by: str = "system") -> SpecialistEntry:
        """Admit a file that needs nobody's approval: one of the release, or an administrator's own.

        Installing what is installed already changes nothing and returns it. The version becomes the active one; only a
        bundled file does not displace a later version that is active.
        Raises `SpecialistFileInvalid`, `ModelFileRefused` (a bundled file whose hash is not listed), `Conflict`
        (other bytes under the same id and version) and `HomeError`. On any of them the registry is as it was.
        """
        content = read_file(path, self._bytes_max)
        file = decode_specialist(content)
        if trust == "bundled":
            _check_listed(path, file.sha256)
        known = {entry.sha256: entry for entry in self.versions(file.manifest.id)}
        if file.sha256 not in known:
            _check_version_is_free(file, tuple(known.values()))
        place = self._home.specialists / f"{file.sha256}.gguf"
        write_file(place, content)
        if file.sha256 in known:
            self._adapters.pop(file.sha256, None)
            return known[file.sha256]
        active = trust == "administrator" or _is_latest(file.manifest, tuple(known.values()))
        by, now_ms = f"{trust}:{installed_by}", _now_ms()
        row = store.SpecialistRow(
            sha256=file.sha256,
            id=file.manifest.id,
            version=file.manifest.version,
            task=file.manifest.task.value,
            manifest=encode_manifest(file.manifest),
            size_bytes=file.size,
            active=active,
            installed_ms=now_ms,
            installed_by=by,
            approved_by=by,
            approved_ms=now_ms,
            promoted_by=by if active else None,
            promoted_ms=now_ms if active else None,
        )
        return self._added(row)

    def activate(self, specialist_id: str, version: str) -> SpecialistEntry:
        """Let an installed version answer: the way back, and the way forward again. Raises `SpecialistNotFound`."""
        entry = self.version(specialist_id, version)
        entry.adapter()  # a version whose file was changed must not become the one that answers
        store.set_active(self._engine, specialist_id, entry.sha256)
        return self.get(specialist_id)

    def disable(self, specialist_id: str) -> None:
        """Take a specialist out of service; its files stay. Raises `SpecialistNotFound`."""
        self.get(specialist_id)
        store.set_active(self._engine, specialist_id, None)

    def _added(self, row: store.SpecialistRow) -> SpecialistEntry:
        if not store.add(self._engine, row):
            raise Conflict(
                f"{row.id} {row.version} was installed by somebody else at the same moment",
                hint="look at the list of specialists, then try again",
            )
        return self.version(row.id, row.version)

    def _entry(self, row: store.SpecialistRow) -> SpecialistEntry:
        return SpecialistEntry(
            manifest=decode_manifest(row.manifest),
            path=self._home.specialists / f"{row.sha256}.gguf",
            sha256=row.sha256,
            size_bytes=row.size_bytes,
            active=row.active,
            installed_ms=row.installed_ms,
            installed_by=row.installed_by,
            row=row,
            _open=self._open_adapter,
        )

    def _open_adapter(self, entry: SpecialistEntry) -> Adapter:
        """Read and hash the file once per process; the worker hashes it again before llama.cpp sees it."""
        if entry.sha256 not in self._adapters:
            content = self.content(entry)
            file = decode_specialist(content)
            path = entry.path if file.has_adapter else None
            if len(self._adapters) >= ADAPTERS_KEPT_MAX:
                self._adapters.pop(next(iter(self._adapters)), None)
            sha256 = entry.sha256 if path else None
            merge = path is not None and entry.manifest.id in self._merged
            self._adapters[entry.sha256] = Adapter(entry.sha256, path, sha256, file.head, merge)
        return self._adapters[entry.sha256]


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


def _check_task_is_the_same(file: SpecialistFile, known: tuple[SpecialistEntry, ...]) -> None:
    """Whoever asks for a specialist relies on what it gives: spans are no label."""
    for entry in known:
        if entry.manifest.task != file.manifest.task:
            raise Conflict(
                f"{entry.manifest.id} does the task {entry.manifest.task.value!r} here, "
                f"and this file does {file.manifest.task.value!r}",
                hint="give it another id",
            )


def _is_latest(manifest: Manifest, known: tuple[SpecialistEntry, ...]) -> bool:
    """Whether nothing later is active. Where all versions are disabled, a person disabled them: it stays so."""
    active = [entry for entry in known if entry.active]
    return not known or any(version_key(entry.manifest.version) < version_key(manifest.version) for entry in active)


def _check_unchanged(entry: SpecialistEntry, content: bytes) -> None:
    if hashlib.sha256(content).hexdigest() != entry.sha256:
        raise ModelFileRefused(
            f"the file of {entry.manifest.id} {entry.manifest.version} is not the one that was installed: "
            f"{entry.path} has another SHA-256",
            hint="install the specialist again from a file you trust, and find out who changed this one",
        )


def _check_base(file: SpecialistFile, base: Pinned) -> None:
    """An adapter moves the states of the base it was trained on; on another one it would answer with nonsense."""
    named = file.manifest.base
    if (named.weights_sha256, named.vocabulary_sha256) != (base.weights_sha256, base.vocabulary_sha256):
        raise ModelFileRefused(
            f"{file.manifest.id} {file.manifest.version} was made for another base model: {named.name!r} with weights "
            f"{named.weights_sha256[:16]}…, and this appliance has {base.name} with {base.weights_sha256[:16]}…",
            hint="ask for a file that was made for this base",
        )


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
