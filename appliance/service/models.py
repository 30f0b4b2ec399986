"""The models that write on this machine: what is here, what can be had, and every change, recorded before it is made.

    async with open_log(config) as log:
        entry = await pull_model(config, log, principal, Pull("Qwen/Qwen3-4B-GGUF", "Qwen3-4B-Q4_K_M.gguf"))
        entry = await import_model(config, log, principal, Import(Path("/media/usb/qwen3-4b-q4_k_m")))

A server never fetches anything: `pull_model` is for the command on a connected machine. An air-gapped one imports the
folder that `export_model` wrote there.
"""

from __future__ import annotations

import asyncio
import tempfile
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import TypeVar

import msgspec

from appliance.accounts.actions import Action, authorize
from appliance.audit.log import AuditLog
from appliance.config import Config, GenerationConfig, UpstreamModelConfig
from appliance.engine.generation.model_file import MemoryEstimate, estimate, read_header
from appliance.errors import Conflict, InvalidRequest, ModelFileRefused
from appliance.service.events import announced, record_reading
from appliance.service.specialists import open_registry
from appliance.specialists.durable_files import disk_errors
from appliance.specialists.language_models.catalogue import Offer, read_catalogue
from appliance.specialists.language_models.facts import Facts, check_architecture, quantization_of
from appliance.specialists.language_models.hub import Choice, Hub, choose, download
from appliance.specialists.language_models.library import (
    MANIFEST_BYTES_MAX,
    ModelEntry,
    ModelLibrary,
    ModelManifest,
    Origin,
    Progress,
    check_id,
    id_from,
    no_progress,
)
from appliance.specialists.router import AUTO
from appliance.types import AttributeValue, Principal

T = TypeVar("T")
SHOWN_CONTEXT_TOKENS = 4096
_TEXT_CHARS_MAX = 300


@dataclass(frozen=True, slots=True)
class Pull:
    """What to fetch. `file` empty: the only GGUF file there is. `model`: its id here; empty: from the file's name."""

    repository: str
    file: str = ""
    revision: str = "main"
    model: str = ""
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True, slots=True)
class Import:
    """What to take in: a GGUF file, or a folder that an export wrote. `sha256`: what it must be, where it is known."""

    source: Path
    model: str = ""
    licence: str = ""
    sha256: str = ""


def library_of(config: Config) -> ModelLibrary:
    """The models of this data folder."""
    return ModelLibrary(config.home, config.models, read_facts)


def read_facts(path: Path) -> Facts:
    """What the library keeps of a model's file. Raises `ModelFileRefused`, saying what is wrong with it."""
    header = read_header(path)
    check_architecture(path.name, header.architecture)
    return Facts(
        architecture=header.architecture,
        name=header.name,
        parameters=header.parameters,
        quantization=quantization_of(header.file_type, header.kind_bytes),
        file_bytes=header.file_bytes,
        weights_bytes=header.weight_bytes,
        context_tokens=header.positions,
        layers=header.layers,
        embedding=header.states,
        vocabulary=header.vocabulary,
        cache_values_per_token=sum(header.heads_kv) * (header.key_length + header.value_length),
        chat_template=bool(header.chat_template),
        licence=(header.licence or "")[:_TEXT_CHARS_MAX],
        author=(header.author or "")[:_TEXT_CHARS_MAX],
    )


def memory_of(config: GenerationConfig, entry: ModelEntry) -> MemoryEstimate:
    """What one conversation with it takes here: a context of 4,096 tokens, or all that it has. Reads its file.

    Raises `ModelFileRefused`.
    """
    header = read_header(entry.path)
    context_tokens = min(header.positions, SHOWN_CONTEXT_TOKENS)
    return estimate(header, slots=1, context_tokens=context_tokens, step_tokens=config.step_tokens)


async def list_models(config: Config, log: AuditLog, principal: Principal) -> tuple[ModelEntry, ...]:
    """Every model that is here. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "model.list")
    return await asyncio.to_thread(library_of(config).list)


def damaged_models(config: Config) -> tuple[ModelFileRefused, ...]:
    """Of each model whose manifest cannot be read, and that is in no list therefore, what is wrong with it."""
    return library_of(config).damaged()


async def show_model(config: Config, log: AuditLog, principal: Principal, model: str) -> ModelEntry:
    """One model. Raises `PermissionDenied`, `ModelNotFound`."""
    authorize(principal, Action.SPECIALIST_LIST)
    entry = await asyncio.to_thread(library_of(config).get, model)
    await record_reading(log, principal, "model.show", {"model": entry.id})
    return entry


async def show_upstream(config: Config, log: AuditLog, principal: Principal, model: str) -> UpstreamModelConfig | None:
    """A model of another server, as it is configured; None: it is none. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    found = config.upstream.models.get(model)
    if found is not None:
        await record_reading(log, principal, "model.show", {"model": model})
    return found


async def show_router(log: AuditLog, principal: Principal) -> None:
    """`auto`, of which there is nothing to read but that it is there. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "model.show", {"model": AUTO})


async def list_offers(log: AuditLog, principal: Principal) -> tuple[Offer, ...]:
    """The catalogue: what could be pulled. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_LIST)
    await record_reading(log, principal, "model.list", {"catalogue": True})
    return read_catalogue()


async def pull_model(
    config: Config, log: AuditLog, principal: Principal, wanted: Pull, progress: Progress = no_progress
) -> ModelEntry:
    """Fetch, check and admit. What an interrupted try fetched is continued by the next.

    Raises `PermissionDenied`, `ModelNotFound`, `ModelSourceUnavailable`, `ModelFileRefused`, `Conflict`, `HomeError`.
    """
    authorize(principal, Action.MODELS_MANAGE)
    if wanted.model:
        check_id(wanted.model)
    offer = next((offer for offer in read_catalogue() if offer.id == wanted.repository), None)
    if offer is not None:
        wanted = Pull(offer.repository, offer.file, wanted.revision, wanted.model or offer.id, wanted.token)
    hub = Hub(config.models, wanted.token)
    about: dict[str, AttributeValue] = {"repository": wanted.repository[:200], "origin": "hub"}
    async with announced(log, principal.id, "model.added", about) as step:
        choice = await asyncio.to_thread(choose, hub, wanted.repository, file=wanted.file, revision=wanted.revision)
        step.attributes |= {"file": choice.file[:200], "revision": choice.revision, "sha256": choice.sha256}
        model = wanted.model or id_from(choice.file)
        await asyncio.to_thread(_check_free, config, model)
        return await asyncio.to_thread(_fetch, config, hub, choice, model, principal, progress)


async def import_model(
    config: Config, log: AuditLog, principal: Principal, wanted: Import, progress: Progress = no_progress
) -> ModelEntry:
    """Admit a file or a carried folder. Raises as `pull_model`, but for the network."""
    authorize(principal, Action.MODELS_MANAGE)
    source = await asyncio.to_thread(_carried, wanted) if wanted.source.is_dir() else _Source(wanted.source)
    model = check_id(wanted.model or source.model or id_from(wanted.source.name))
    await asyncio.to_thread(_check_free, config, model)
    async with announced(log, principal.id, "model.added", {"model": model, "origin": source.origin.kind}) as step:
        entry = await asyncio.to_thread(
            library_of(config).add,
            source.path,
            source.origin,
            added_by=principal.id,
            model=model,
            licence=wanted.licence or source.licence,
            sha256=wanted.sha256 or source.sha256,
            progress=progress,
        )
        step.attributes["sha256"] = entry.manifest.sha256
        return entry


async def verify_model(
    config: Config, log: AuditLog, principal: Principal, model: str, progress: Progress = no_progress
) -> ModelEntry:
    """Hash its file again. Raises `PermissionDenied`, `ModelNotFound`, `ModelFileRefused`: it was changed."""
    authorize(principal, Action.SPECIALIST_LIST)
    library = library_of(config)
    return await _on_one(log, principal, "model.verified", library, model, lambda: library.verify(model, progress))


async def remove_model(config: Config, log: AuditLog, principal: Principal, model: str) -> ModelEntry:
    """Delete it from this machine. Raises `PermissionDenied`, `ModelNotFound`."""
    authorize(principal, Action.MODELS_MANAGE)
    library = library_of(config)
    return await _on_one(log, principal, "model.removed", library, model, lambda: library.remove(model))


async def export_model(
    config: Config, log: AuditLog, principal: Principal, model: str, target: Path, progress: Progress = no_progress
) -> ModelEntry:
    """Write it into a new folder, to be carried. Raises `PermissionDenied`, `ModelNotFound`, `ModelFileRefused`."""
    authorize(principal, Action.MODELS_MANAGE)
    library = library_of(config)
    return await _on_one(
        log, principal, "model.exported", library, model, lambda: library.export(model, target, progress)
    )


async def _on_one(
    log: AuditLog, principal: Principal, event: str, library: ModelLibrary, model: str, work: Callable[[], T]
) -> T:
    entry = await asyncio.to_thread(library.get, model)  # an unknown name enters no envelope
    about: dict[str, AttributeValue] = {"model": entry.id, "sha256": entry.manifest.sha256}
    async with announced(log, principal.id, event, about):
        return await asyncio.to_thread(work)


def _check_free(config: Config, model: str) -> None:
    """Whoever asks for a name gets what always had it. Raises `Conflict` for one that asks for something else here."""
    if model == AUTO:
        whose = "asks the router to choose"
    elif model in config.upstream.models:
        whose = "is a model of another server, in upstream.models"
    else:
        with open_registry(config) as registry:
            if not registry.versions(model):
                return
        whose = "is a specialist"
    raise Conflict(f"the name {model} {whose}", hint="choose another id with --id")


def _fetch(
    config: Config, hub: Hub, choice: Choice, model: str, principal: Principal, progress: Progress
) -> ModelEntry:
    library = library_of(config)
    # Named by what is fetched, so that the next try finds what this one leaves.
    folder = library.folder / f".pull-{choice.sha256[:16]}"
    with disk_errors(folder):
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
    path = download(hub, choice, folder, progress)
    entry = library.add(
        path,
        Origin(kind="hub", file=choice.file, repository=choice.repository, revision=choice.revision),
        added_by=principal.id,
        model=model,
        licence=choice.licence,
        sha256=choice.sha256,
        move=True,
    )
    _discard(folder)
    return entry


def _discard(folder: Path) -> None:
    """Remove a working folder of ours; a file of it that somebody holds open does not matter."""
    with tempfile.TemporaryDirectory(dir=folder.parent, prefix=".done-", ignore_cleanup_errors=True) as name:
        folder.rename(Path(name) / folder.name)


@dataclass(frozen=True, slots=True)
class _Source:
    path: Path
    model: str = ""
    licence: str = ""
    sha256: str = ""
    given: Origin | None = None

    @property
    def origin(self) -> Origin:
        return self.given or Origin(kind="file", file=self.path.name[:200])


def _carried(wanted: Import) -> _Source:
    """What a folder from `export_model` holds. Its own hash is what the file must have, unless another is given."""
    manifests = sorted(wanted.source.glob("*.json"))
    if len(manifests) != 1:
        raise InvalidRequest(
            f"{wanted.source} is not a folder that an export wrote: it holds {len(manifests)} manifests",
            hint="name the folder that `appliance models export` made, or a .gguf file",
        )
    try:
        with manifests[0].open("rb") as file:
            manifest = msgspec.json.decode(file.read(MANIFEST_BYTES_MAX), type=ModelManifest)
    except (OSError, msgspec.DecodeError):
        raise ModelFileRefused(
            f"{manifests[0]} is not the manifest of a model", hint="copy the exported folder again, whole"
        ) from None
    path = wanted.source / f"{manifests[0].stem}.gguf"
    return _Source(path, manifest.id, manifest.licence, manifest.sha256, manifest.origin)
