"""Training a specialist from a recipe, in processes of its own, where the extra `training` is installed.

    file = await train_recipe(log, principal, RecipeRun(recipe, data, base, out), print)

Each stage is a command of the room `training`, which is started here and never imported: PyTorch stays out of the
server.
"""

from __future__ import annotations

import asyncio
import hashlib
import importlib.util
import sys
import tomllib
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Literal

from appliance.accounts.actions import Action, authorize
from appliance.audit.log import AuditLog
from appliance.config import child_environment
from appliance.errors import ExtraMissing, InvalidRequest, TrainingFailed
from appliance.service.events import announced
from appliance.types import AttributeValue, Principal

_RECIPE_BYTES_MAX = 1024 * 1024
_SAID_CHARS_MAX = 300
_ERROR, _HINT = "appliance: error: ", "hint: "  # how a command of the training room ends


@dataclass(frozen=True, slots=True)
class RecipeRun:
    """A recipe, the folder of its collections, the base's published files, and where checkpoints and the file go.

    `workers`: processes that make texts, for recipes that make some. A run ends after `minutes`, whatever it is at.
    """

    recipe: Path
    data: Path
    base: Path
    out: Path
    device: Literal["cpu", "cuda"] = "cpu"
    workers: int = 1
    minutes: float = 120.0


@dataclass(frozen=True, slots=True)
class _Stages:
    """The modules that train a task (none: nothing is trained) and write its file. `makes_texts`: takes workers."""

    train: str | None
    export: str
    makes_texts: bool = False


_STAGES = {
    "tag": _Stages("appliance.training.train", "appliance.training.export", makes_texts=True),
    "classify": _Stages("appliance.training.train_classifier", "appliance.training.export_classifier"),
    "answer": _Stages("appliance.training.train_answer", "appliance.training.export_answer", makes_texts=True),
    "embed": _Stages(None, "appliance.training.export_embedder"),
}


def extra_installed() -> bool:
    """Whether the extra `training` is there: PyTorch is what it cannot do without."""
    return importlib.util.find_spec("torch") is not None


def check_extra(installed: Callable[[], bool] | None = None) -> None:
    """Raises `ExtraMissing` without PyTorch."""
    if not (installed or extra_installed)():
        raise ExtraMissing(
            "training needs PyTorch, which is not installed",
            hint="install the extra: pip install 'cloister-appliance[training]'",
        )


async def train_recipe(
    log: AuditLog,
    principal: Principal,
    wanted: RecipeRun,
    progress: Callable[[str], None],
    *,
    installed: Callable[[], bool] | None = None,
) -> Path:
    """Train a specialist from a recipe and write its file; returns where. Installing it is another step.

    `progress` hears what the run says, line by line. Raises `PermissionDenied`, `InvalidRequest` for what is no recipe,
    `ExtraMissing` without PyTorch, `TrainingFailed` where the run stopped. Cancelling ends the run; the same command
    continues it.
    """
    authorize(principal, Action.SPECIALIST_TEACH)
    content, specialist, stages = await asyncio.to_thread(_read_recipe, wanted.recipe)
    if wanted.workers != 1 and not stages.makes_texts:
        raise InvalidRequest(
            f"{wanted.recipe} makes no texts that several processes could share", hint="leave --workers out"
        )
    about: dict[str, AttributeValue] = {
        "specialist": specialist,
        "recipe_sha256": hashlib.sha256(content).hexdigest(),
    }
    async with announced(log, principal.id, "teaching.train", about) as step:
        recipe, base, out = str(wanted.recipe), str(wanted.base), str(wanted.out)
        if stages.train is None:
            await _run_stage([stages.export, recipe, "--out", out], progress)
        else:
            check_extra(installed)
            workers = ["--workers", str(wanted.workers)] if stages.makes_texts else []
            where = ["--data", str(wanted.data), "--base", base, "--out", out]
            how = ["--device", wanted.device, "--minutes", str(wanted.minutes), *workers]
            await _run_stage([stages.train, recipe, *where, *how], progress)
            await _run_stage([stages.export, recipe, "--base", base, "--out", out], progress)
        file = wanted.out / f"{specialist}.gguf"
        step.attributes["sha256"] = await asyncio.to_thread(lambda: hashlib.sha256(file.read_bytes()).hexdigest())
    return file


async def _run_stage(command: list[str], progress: Callable[[str], None]) -> None:
    """One command of the training room, to its end or until this is cancelled."""
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        *command,
        stdin=asyncio.subprocess.DEVNULL,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
        env=child_environment(),
        start_new_session=True,
    )
    assert process.stdout is not None
    last, hint = "it said nothing", "correct what it names; the same command continues"
    try:
        async for line in process.stdout:
            said = line.decode("utf-8", "replace").strip()[:_SAID_CHARS_MAX]
            if said.startswith(_HINT):
                hint = said.removeprefix(_HINT)
            elif said:
                last = said.removeprefix(_ERROR)
            progress(said or last)
        await process.wait()
    finally:
        if process.returncode is None:
            process.kill()
            await asyncio.shield(process.wait())
    if process.returncode != 0:
        raise TrainingFailed(f"{command[0]} stopped: {last}", hint=hint)


def _read_recipe(path: Path) -> tuple[bytes, str, _Stages]:
    """Content and id of a recipe, and what makes its task. Raises `InvalidRequest`."""
    try:
        with path.open("rb") as file:
            content = file.read(_RECIPE_BYTES_MAX + 1)
        recipe = tomllib.loads(content[:_RECIPE_BYTES_MAX].decode())
    except (OSError, UnicodeDecodeError, tomllib.TOMLDecodeError):
        raise InvalidRequest(f"{path} is not a recipe that can be read", hint="recipes are TOML files") from None
    specialist, task = recipe.get("id"), recipe.get("task")
    if not isinstance(specialist, str) or task not in _STAGES:
        raise InvalidRequest(
            f"{path} is a recipe for no task that is trained here", hint=f"tasks are {', '.join(sorted(_STAGES))}"
        )
    return content, specialist[:64], _STAGES[task]
