"""The models that write and lie on this machine: content-addressed files, each with a manifest that is written last.

    library = ModelLibrary(config.home, config.models, read_facts)
    entry = library.add(path, Origin(kind="file", file="x.gguf"), added_by="local:uid-0", licence="Apache-2.0")
    library.get("qwen3-4b-q4_k_m").path
    library.verify("qwen3-4b-q4_k_m")

`models/library/<sha256>.gguf` (mode 0400) and `models/library/<id>.json`. After a crash in between there may be a file
without a manifest: it is not a model of this machine, adding it again adopts it, and removing any model sweeps it away.
Two ids may share one file. The engine hashes a file again before it loads it.
"""

from __future__ import annotations

import hashlib
import os
import re
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Annotated, Literal

import msgspec

from appliance.config import Home, ModelsConfig
from appliance.errors import Conflict, HomeFull, ModelFileRefused, ModelNotFound, UnknownOption
from appliance.specialists.durable_files import disk_errors, sync_folder, write_durably
from appliance.specialists.language_models.facts import Facts, FactsReader

FORMAT = 1
FOLDER = "library"
MANIFEST_BYTES_MAX = 64 * 1024
HASH_LIST = "SHA256SUMS"
CHUNK_BYTES = 4 * 1024 * 1024
_FILE_MODE = 0o400
_ID = re.compile(r"[a-z0-9][a-z0-9._-]{0,95}")

# Told how many bytes of how many are done.
Progress = Callable[[int, int], None]


def no_progress(_done: int, _of: int) -> None:
    """For who does not want to know."""


class Origin(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """Where a file came from. `revision`: the commit of `repository` it was taken from."""

    kind: Literal["hub", "file"]
    file: Annotated[str, msgspec.Meta(max_length=500)]
    repository: Annotated[str, msgspec.Meta(max_length=300)] = ""
    revision: Annotated[str, msgspec.Meta(max_length=64)] = ""


class ModelManifest(msgspec.Struct, frozen=True, kw_only=True, forbid_unknown_fields=True):
    """What is written beside a model's file. `added_ms`: milliseconds since 1970."""

    format: int = FORMAT
    id: Annotated[str, msgspec.Meta(pattern=f"^{_ID.pattern}$")]
    sha256: Annotated[str, msgspec.Meta(pattern="^[0-9a-f]{64}$")]
    origin: Origin
    licence: Annotated[str, msgspec.Meta(max_length=300)] = ""
    facts: Facts
    added_ms: int
    added_by: Annotated[str, msgspec.Meta(max_length=200)]


@dataclass(frozen=True, slots=True)
class ModelEntry:
    """One model of this machine."""

    manifest: ModelManifest
    path: Path

    @property
    def id(self) -> str:
        """Its name here."""
        return self.manifest.id


class ModelLibrary:
    """The models of one data folder. Owns nothing but the folder; several processes may use it.

    `read_facts` reads what is added: the engine's reader, which also stands before every load (`service/models.py`).
    """

    def __init__(self, home: Home, config: ModelsConfig, read_facts: FactsReader) -> None:
        self.folder = home.models / FOLDER
        self._config, self._read_facts = config, read_facts

    def list(self) -> tuple[ModelEntry, ...]:
        """Every model, by id. One whose manifest cannot be read is none, and no other suffers: see `damaged`."""
        return tuple(found for found in self._manifests() if isinstance(found, ModelEntry))

    def damaged(self) -> tuple[ModelFileRefused, ...]:
        """What is wrong with each manifest that cannot be read, and what to do."""
        return tuple(found for found in self._manifests() if isinstance(found, ModelFileRefused))

    def get(self, model: str) -> ModelEntry:
        """One model. Raises `ModelNotFound`."""
        path = self.folder / f"{model}.json"
        if not _ID.fullmatch(model) or not path.exists():
            raise ModelNotFound(f"no model {model[:64]!r} is here", hint="`appliance models list` shows those that are")
        return self._read(path)

    def add(
        self,
        source: Path,
        origin: Origin,
        *,
        added_by: str,
        model: str = "",
        licence: str = "",
        sha256: str = "",
        move: bool = False,
        progress: Progress = no_progress,
    ) -> ModelEntry:
        """Admit a file, copied or moved in. Adding what is here already changes nothing.

        `model`: its id here; empty: made from the file's name. `sha256`: what it must be, where somebody knows.
        Raises `ModelFileRefused`, `Conflict` (another file has that id), `UnknownOption` for an id that cannot be one,
        `HomeError`. On any of them nothing is left.
        """
        name = check_id(model) if model else id_from(source.name)
        facts = self._read_facts(source)
        if facts.file_bytes > self._config.file_bytes_max:
            raise ModelFileRefused(
                f"{source.name} has {facts.file_bytes} bytes, more than {self._config.file_bytes_max}",
                hint="raise models.file_bytes_max if you trust it",
            )
        with disk_errors(self.folder):
            self.folder.mkdir(mode=0o700, exist_ok=True)
            digest = self._take(source, facts.file_bytes, sha256, move, progress)
        known = self.folder / f"{name}.json"
        if known.exists():
            entry = self._read(known)
            if entry.manifest.sha256 == digest:
                return entry
            self._sweep()
            raise Conflict(
                f"another file is here as {name}", hint="choose another id with --id, or remove the one that is here"
            )
        manifest = ModelManifest(
            id=name,
            sha256=digest,
            origin=origin,
            licence=licence or facts.licence,
            facts=facts,
            added_ms=time.time_ns() // 1_000_000,
            added_by=added_by,
        )
        with disk_errors(self.folder):
            write_durably(known, msgspec.json.format(msgspec.json.encode(manifest), indent=2) + b"\n")
        return self._read(known)

    def verify(self, model: str, progress: Progress = no_progress) -> ModelEntry:
        """Hash the file again. Raises `ModelNotFound`, `ModelFileRefused` if it is not the one that was added."""
        entry = self.get(model)
        if sha256_of(entry.path, progress) != entry.manifest.sha256:
            raise ModelFileRefused(
                f"the file of {model} is not the one that was added: {entry.path} has another SHA-256",
                hint="remove it, add it again from a source you trust, and find out who changed this one",
            )
        return entry

    def remove(self, model: str) -> ModelEntry:
        """Forget a model, and delete its file unless another id shares it. Raises `ModelNotFound`."""
        entry = self.get(model)
        with disk_errors(self.folder):
            (self.folder / f"{model}.json").unlink()
            sync_folder(self.folder)
        self._sweep()
        return entry

    def export(self, model: str, target: Path, progress: Progress = no_progress) -> ModelEntry:
        """Write file, manifest and hash list into the new folder `target`, for carrying. Raises as `verify`.

        What is copied is hashed on the way: a damaged file never leaves as a good one.
        """
        entry = self.get(model)
        try:
            target.mkdir(mode=0o700)
        except OSError as error:
            raise UnknownOption(
                f"cannot make the folder {target}: {error.strerror}", hint="name a folder that does not exist yet"
            ) from None
        try:
            with disk_errors(target):
                digest = _copy(entry.path, target / f"{model}.gguf", progress)
                if digest != entry.manifest.sha256:
                    raise ModelFileRefused(
                        f"the file of {model} is not the one that was added", hint=f"appliance models verify {model}"
                    )
                content = msgspec.json.format(msgspec.json.encode(entry.manifest), indent=2) + b"\n"
                (target / f"{model}.json").write_bytes(content)
                (target / HASH_LIST).write_text(f"{digest}  {model}.gguf\n")
        except BaseException:
            shutil.rmtree(target, ignore_errors=True)
            raise
        return entry

    def _take(self, source: Path, size: int, sha256: str, move: bool, progress: Progress) -> str:
        """Put the file under its hash; returns it."""
        digest = sha256_of(source, progress) if move or sha256 else ""
        if sha256 and digest != sha256.lower():
            raise ModelFileRefused(
                f"{source.name} is not the file that was expected: its SHA-256 is {digest}",
                hint=f"expected {sha256[:64]}; nothing was kept",
            )
        if digest and (place := self.folder / f"{digest}.gguf").exists() and sha256_of(place) == digest:
            if move:
                source.unlink()
            return digest
        free = shutil.disk_usage(self.folder).free
        if not move and free < size + self._config.disk_free_bytes_min:
            raise HomeFull(
                f"the model needs {size // 2**20} MiB and the disk of {self.folder} has {free // 2**20} MiB left",
                hint="free some space; the audit log on the same disk must never run out of it",
            )
        descriptor, temporary = tempfile.mkstemp(prefix=".incoming-", dir=self.folder)
        os.close(descriptor)
        draft = Path(temporary)
        try:
            if move:
                source.replace(draft)
            else:
                digest = _copy(source, draft, progress)
            # Again from the copy: the source may have been exchanged while it was read.
            if self._read_facts(draft).file_bytes != size:
                raise ModelFileRefused(f"{source.name} was changed while it was read", hint="try again")
            draft.chmod(_FILE_MODE)
            with draft.open("rb") as file:
                os.fsync(file.fileno())
            draft.replace(self.folder / f"{digest}.gguf")
            sync_folder(self.folder)
        finally:
            draft.unlink(missing_ok=True)
        return digest

    def _sweep(self) -> None:
        """Delete the files that no manifest names; none while there is one that cannot be read, for it names one."""
        if self.damaged():
            return
        named = {entry.manifest.sha256 for entry in self.list()}
        for path in self.folder.glob("*.gguf"):
            if path.stem not in named:
                path.unlink(missing_ok=True)

    def _manifests(self) -> Iterator[ModelEntry | ModelFileRefused]:
        for path in sorted(self.folder.glob("*.json")):
            try:
                yield self._read(path)
            except ModelFileRefused as refusal:
                yield refusal

    def _read(self, path: Path) -> ModelEntry:
        try:
            with path.open("rb") as file:
                manifest = msgspec.json.decode(file.read(MANIFEST_BYTES_MAX), type=ModelManifest)
        except OSError as error:
            raise ModelFileRefused(f"cannot read {path}: {error.strerror}", hint="check its owner and mode") from None
        except msgspec.DecodeError:
            raise ModelFileRefused(
                f"{path} is not the manifest of a model", hint="remove that file and add the model again"
            ) from None
        if manifest.format != FORMAT or manifest.id != path.stem:
            raise ModelFileRefused(
                f"{path} is the manifest of another model or of a later release",
                hint="remove that file and add the model again, or install a newer release",
            )
        return ModelEntry(manifest, self.folder / f"{manifest.sha256}.gguf")


def has_model(home: Home, model: str) -> bool:
    """Whether a model that writes has this id; also one whose manifest cannot be read."""
    return bool(_ID.fullmatch(model)) and (home.models / FOLDER / f"{model}.json").exists()


def check_id(model: str) -> str:
    """The id, if it can be one. Raises `UnknownOption`."""
    if not _ID.fullmatch(model):
        raise UnknownOption(
            f"{model[:64]!r} cannot be the id of a model",
            hint="an id has lower-case letters, digits, dots, hyphens and underscores, 96 at most",
        )
    return model


def id_from(file_name: str) -> str:
    """An id from a file's name: `Qwen3-4B-Q4_K_M.gguf` becomes `qwen3-4b-q4_k_m`."""
    stem = re.sub(r"\.gguf$", "", file_name.rsplit("/", 1)[-1], flags=re.IGNORECASE).lower()
    made = re.sub(r"[^a-z0-9._-]+", "-", stem).strip("-._")[:96]
    if not made:
        raise UnknownOption(f"the name of {file_name[-64:]} makes no id", hint="choose one with --id")
    return check_id(made)


def sha256_of(path: Path, progress: Progress = no_progress) -> str:
    """The SHA-256 of a file of any size. Raises `ModelFileRefused` if it cannot be read."""
    try:
        return _walk(path, lambda chunk: None, progress)
    except OSError as error:
        raise ModelFileRefused(f"cannot read {path}: {error.strerror}", hint="add the model again") from None


def _copy(source: Path, target: Path, progress: Progress) -> str:
    with target.open("wb") as out:
        digest = _walk(source, out.write, progress)
        out.flush()
        os.fsync(out.fileno())
    return digest


def _walk(path: Path, visit: Callable[[bytes], object], progress: Progress) -> str:
    digest, done = hashlib.sha256(), 0
    with path.open("rb") as file:
        size = os.fstat(file.fileno()).st_size
        while chunk := file.read(CHUNK_BYTES):
            digest.update(chunk)
            visit(chunk)
            done += len(chunk)
            progress(done, size)
    return digest.hexdigest()
