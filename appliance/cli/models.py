"""`appliance models`: the models that write on this machine, and how they come to it."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import msgspec
import typer

from appliance.audit.log import AuditLog
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    progress_bar,
    reported,
    run,
    say,
    stderr,
)
from appliance.config import Config
from appliance.errors import InvalidRequest
from appliance.service import models
from appliance.service.models import Import, Pull, memory_of
from appliance.service.rooms import open_log
from appliance.specialists.language_models.catalogue import Offer
from appliance.specialists.language_models.library import ModelEntry, Progress

T = TypeVar("T")
_TOKEN_BYTES_MAX = 1000
ModelArgument = Annotated[str, typer.Argument(help="Id of the model, as `appliance models list` shows it.")]


def list_models(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the models that are here.

    Example: appliance models list --json
    """
    config = configured(home)
    entries = _with_log(config, lambda log: models.list_models(config, log, operator()))
    for refusal in models.damaged_models(config):
        say(f"left out: {refusal.message}; {refusal.hint}")
    if as_json:
        print_json([_body(config, entry) for entry in entries])
        return
    if not entries:
        say("no model that writes is here; see: appliance models catalogue")
    print_table(("id", "parameters", "stored as", "file", "licence"), [_row(entry) for entry in entries])


def catalogue(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List well-known models with open licences that can be pulled, small ones first, and what they need.

    Example: appliance models catalogue
    """
    config = configured(home)
    offers = _with_log(config, lambda log: models.list_offers(log, operator()))
    if as_json:
        print_json([{**msgspec.to_builtins(offer), "memory_gb": offer.memory_gb} for offer in offers])
        return
    print_table(("id", "kind", "parameters", "file", "memory", "licence", "for"), [_offer_row(o) for o in offers])


def show_model(model: ModelArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show one model: architecture, size, context, licence, where it came from, the memory it needs here.

    Example: appliance models show qwen3-4b
    """
    config = configured(home)
    entry = _with_log(config, lambda log: models.show_model(config, log, operator(), model))
    if as_json:
        print_json(_body(config, entry))
        return
    manifest, facts, memory = entry.manifest, entry.manifest.facts, memory_of(config.generation, entry)
    origin, shown = manifest.origin, min(facts.context_tokens, models.SHOWN_CONTEXT_TOKENS)
    rows = [
        ("id", entry.id),
        ("name", facts.name or "-"),
        ("architecture", facts.architecture),
        ("parameters", f"{facts.parameters / 1e6:,.0f} million"),
        ("stored as", facts.quantization),
        ("file", _size(facts.file_bytes)),
        ("context", f"{facts.context_tokens:,} tokens"),
        ("chat template", "in the file" if facts.chat_template else "none: completions only"),
        ("licence", manifest.licence or "not stated: ask its author before you use it"),
        ("came from", f"{origin.repository}/{origin.file} at {origin.revision}" if origin.repository else origin.file),
        ("sha-256", manifest.sha256),
        ("memory", f"about {_size(memory.total)} for one conversation of {shown:,} tokens"),
    ]
    print_table(("", ""), rows)


def pull(
    source: Annotated[str, typer.Argument(metavar="REPO[:FILE]", help="Repository and file, or a catalogue id.")],
    revision: Annotated[str, typer.Option(help="Branch, tag or commit; the commit it names now is pinned.")] = "main",
    model: Annotated[str, typer.Option("--id", help="Its id here (default: from the file's name).")] = "",
    token_file: Annotated[
        Path | None, typer.Option(help="File with a token of the hub, for repositories that want one.")
    ] = None,
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Fetch a model from the Hugging Face hub or the mirror in models.hub_url. Continues what was interrupted.

    Commit and SHA-256 are pinned before the first byte and checked after the last one.

    \b
    Example: appliance models pull qwen3-4b
    Example: appliance models pull Qwen/Qwen3-4B-GGUF:Qwen3-4B-Q4_K_M.gguf --revision main
    """
    config = configured(home)
    repository, _, file = source.partition(":")
    with reported():
        wanted = Pull(repository, file, revision, model, _token(token_file))
    with _shown("fetching") as progress:
        entry = _with_log(config, lambda log: models.pull_model(config, log, operator(), wanted, progress))
    _report(config, entry, as_json)


def import_model(
    source: Annotated[Path, typer.Argument(help="A .gguf file, or a folder from `appliance models export`.")],
    model: Annotated[str, typer.Option("--id", help="Its id here (default: from the file's name).")] = "",
    licence: Annotated[str, typer.Option(help="Its licence, where the file does not say.")] = "",
    sha256: Annotated[str, typer.Option(help="What its SHA-256 must be, as its publisher states it.")] = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Take in a model that was carried here, without any network. The file is copied and checked.

    \b
    Example: appliance models import /media/usb/qwen3-4b
    Example: appliance models import model.gguf --id drafts --licence Apache-2.0
    """
    config = configured(home)
    wanted = Import(source, model, licence, sha256)
    with _shown("copying") as progress:
        entry = _with_log(config, lambda log: models.import_model(config, log, operator(), wanted, progress))
    _report(config, entry, as_json)


def verify(model: ModelArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Hash the file of a model again and compare.

    Example: appliance models verify qwen3-4b --json
    """
    config = configured(home)
    with _shown("hashing") as progress:
        entry = _with_log(config, lambda log: models.verify_model(config, log, operator(), model, progress))
    if as_json:
        print_json({"id": entry.id, "sha256": entry.manifest.sha256, "intact": True})
        return
    say(f"{entry.id} is the file that was added: {entry.manifest.sha256}")


def remove(model: ModelArgument, home: HomeOption = None) -> None:
    """Delete a model from this machine. A request that runs on it ends as it would have.

    Example: appliance models remove qwen3-4b
    """
    config = configured(home)
    entry = _with_log(config, lambda log: models.remove_model(config, log, operator(), model))
    say(f"removed {entry.id}")


def export(
    model: ModelArgument,
    target: Annotated[Path, typer.Argument(help="The folder to write; it must not exist.")],
    home: HomeOption = None,
) -> None:
    """Write a model into a folder, to be carried to a machine without a network.

    Example: appliance models export qwen3-4b /media/usb/qwen3-4b
    """
    config = configured(home)
    with _shown("copying") as progress:
        entry = _with_log(config, lambda log: models.export_model(config, log, operator(), model, target, progress))
    say(f"written: {target}; there: appliance models import {target.name} ({entry.manifest.sha256[:16]})")


def _with_log(config: Config, work: Callable[[AuditLog], Awaitable[T]]) -> T:
    async def use() -> T:
        async with open_log(config) as log:
            return await work(log)

    return run(use)


@contextmanager
def _shown(what: str) -> Iterator[Progress]:
    """A bar of mebibytes on a terminal, nothing in a pipe."""
    if not stderr.is_terminal:
        yield lambda done, size: None
        return
    with progress_bar() as bar:
        task = bar.add_task(f"{what} (MiB)", total=None)
        yield lambda done, size: bar.update(task, completed=done // 2**20, total=size // 2**20)


def _report(config: Config, entry: ModelEntry, as_json: bool) -> None:
    if as_json:
        print_json(_body(config, entry))
        return
    manifest = entry.manifest
    say(f"{entry.id} is here: {manifest.facts.architecture}, {_size(manifest.facts.file_bytes)}, {manifest.sha256}")
    if not manifest.licence:
        say("its file states no licence: ask its author before you use it, and note it with --licence")


def _token(path: Path | None) -> str | None:
    if path is None:
        return None
    try:
        with path.open("rb") as file:
            text = file.read(_TOKEN_BYTES_MAX).decode("ascii").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidRequest(
            f"cannot read a token from {path}: {type(error).__name__}", hint="put the token alone into that file"
        ) from None
    if not text or not text.isprintable() or " " in text:
        raise InvalidRequest(f"{path} does not hold a token", hint="put the token alone into that file")
    return text


def _body(config: Config, entry: ModelEntry) -> dict[str, Any]:
    return {**msgspec.to_builtins(entry.manifest), "memory_bytes": memory_of(config.generation, entry).total}


def _row(entry: ModelEntry) -> tuple[object, ...]:
    facts = entry.manifest.facts
    parameters = f"{facts.parameters / 1e6:,.0f} million"
    return entry.id, parameters, facts.quantization, _size(facts.file_bytes), entry.manifest.licence or "not stated"


def _offer_row(offer: Offer) -> tuple[object, ...]:
    sizes = (offer.parameters, f"{offer.file_gb:g} GB", f"{offer.memory_gb:g} GB")
    return offer.id, offer.kind, *sizes, offer.licence, offer.summary


def _size(size: int) -> str:
    return f"{size / 1e9:.2f} GB" if size >= 1e9 else f"{size / 1e6:.1f} MB"
