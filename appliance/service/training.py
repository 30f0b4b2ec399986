"""Teaching specialists from a site's own labelled rows, in a process of its own; the only door to `appliance.training`.

    checked = await check_table(appliance, principal, content)         # columns, labels, what is odd; keeps the table
    job = await start(appliance, principal, TeachRequest(checked["table"], "router", ...))
    view = await read(appliance, principal, job["job"])                # state, progress, at last the report
    version = await submit(appliance, principal, job["job"])           # awaits the approval of somebody else

Owns the tables that wait and the jobs of one server, in memory: a table is what people typed, and is never written to
a disk. What was neither submitted nor finished when the server stops is gone. Everybody sees their own only.
"""

from __future__ import annotations

import asyncio
import hashlib
import secrets
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Literal

import msgspec

from appliance import errors
from appliance.accounts.actions import Action, authorize, person_of
from appliance.audit.log import AuditLog
from appliance.config import Config, child_environment
from appliance.errors import (
    ApplianceError,
    Conflict,
    InputTooLong,
    InvalidRequest,
    NotFound,
    QueueFull,
)
from appliance.service.events import announced, code_of, new_event, record_reading
from appliance.service.recipes import check_extra
from appliance.service.specialist_life import admit_taught
from appliance.specialists.base_model import open_base_model
from appliance.specialists.durable_files import disk_errors
from appliance.specialists.manifest import NOBODY_ID, RESERVED_ID, SpecialistId, version_key
from appliance.specialists.registry import Registry
from appliance.training.teaching.lesson import Options
from appliance.types import AttributeValue, Outcome, Principal, Task

State = Literal["waiting", "running", "done", "failed", "cancelled", "submitted"]
Progress = Callable[[float, str], None]
_AGAIN_S = 60.0
_CHILD = "appliance.training.teaching"
_LINE_BYTES_MAX = 16 * 1024 * 1024  # a report with a thousand labels
_ERRORS = {
    kind.code: kind for kind in vars(errors).values() if isinstance(kind, type) and issubclass(kind, ApplianceError)
}


@dataclass(frozen=True, slots=True)
class TeachRequest:
    """What shall be taught, from which table. Columns that are not named are guessed."""

    table: str
    id: str
    name: str = ""
    text_column: str | None = None
    label_column: str | None = None
    multi_label: bool = False
    lora: bool = False  # with adapters, which needs the extra `training`


@dataclass(slots=True)
class _Table:
    content: bytes = field(repr=False)
    person: str
    sha256: str
    until: float


@dataclass(slots=True)
class _Job:
    id: str
    person: str
    specialist: str
    version: str
    state: State = "waiting"
    progress: float = 0.0
    step: str = "waiting"
    report: dict[str, Any] | None = None
    error: dict[str, Any] | None = None
    file: bytes | None = field(default=None, repr=False)
    about: dict[str, AttributeValue] = field(default_factory=dict)
    task: asyncio.Task[None] | None = field(default=None, repr=False)

    def view(self) -> dict[str, Any]:
        """As the API shows it."""
        return {
            "job": self.id,
            "id": self.specialist,
            "version": self.version,
            "state": self.state,
            "progress": self.progress,
            "step": self.step,
            "report": self.report,
            "error": self.error,
        }


class Teaching:
    """The tables and jobs of one server. Bounded by `config.teaching`; one job works at a time, the others wait."""

    def __init__(self, config: Config) -> None:
        self.config = config
        self.tables: dict[str, _Table] = {}
        self.jobs: dict[str, _Job] = {}
        self.turn = asyncio.Lock()

    def keep(self, content: bytes, person: str, sha256: str) -> str:
        """Hold a table until it is taught from or its time is over. Raises `QueueFull`."""
        limits, now = self.config.teaching, time.monotonic()
        self.tables = {name: table for name, table in self.tables.items() if table.until > now}
        if len(self.tables) >= limits.tables_max:
            # One's own oldest gives way first: a person who corrects a table uploads it several times.
            own = [name for name, table in self.tables.items() if table.person == person]
            if not own:
                raise QueueFull(
                    "as many tables wait as the appliance holds", hint="try again later", retry_after_s=60.0
                )
            del self.tables[own[0]]
        name = secrets.token_hex(8)
        self.tables[name] = _Table(content, person, sha256, now + limits.table_keep_s)
        return name

    def table(self, name: str, person: str) -> _Table:
        """One's own table. Raises `NotFound`."""
        table = self.tables.get(name)
        if table is None or table.person != person or table.until <= time.monotonic():
            raise NotFound(f"there is no table {name[:16]!r}", hint="send the table again: it is kept for an hour")
        return table

    def job(self, name: str, person: str) -> _Job:
        """One's own job. Raises `NotFound`."""
        job = self.jobs.get(name)
        if job is None or job.person != person:
            raise NotFound(f"there is no teaching job {name[:16]!r}", hint="start one, or ask who started it")
        return job

    def admit(self, job: _Job) -> None:
        """Raises `QueueFull` while as many jobs are unfinished as may be; the oldest finished one is forgotten."""
        limits = self.config.teaching
        if sum(one.state in ("waiting", "running") for one in self.jobs.values()) >= limits.jobs_max:
            raise QueueFull(
                "as many specialists are being taught as may be", hint="wait, or cancel one", retry_after_s=60.0
            )
        finished = [name for name, one in self.jobs.items() if one.state not in ("waiting", "running")]
        if len(self.jobs) >= limits.jobs_kept_max and finished:
            del self.jobs[finished[0]]
        self.jobs[job.id] = job

    async def close(self) -> None:
        """Stop what runs."""
        tasks = [job.task for job in self.jobs.values() if job.task is not None]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)


@asynccontextmanager
async def open_teaching(config: Config) -> AsyncIterator[Teaching]:
    """The jobs of one server, stopped when it ends."""
    teaching = Teaching(config)
    try:
        yield teaching
    finally:
        await teaching.close()


# --- over HTTP ------------------------------------------------------------------------------------------------------


async def check_table(
    teaching: Teaching, log: AuditLog, principal: Principal, content: bytes, request: TeachRequest | None = None
) -> dict[str, Any]:
    """Read a table and keep it for an hour: its columns, labels and what is odd about it, never its texts.

    Raises `PermissionDenied`, `InvalidRequest` and its kinds for what is no table, `QueueFull`.
    """
    report = await examine(teaching.config, log, principal, content, request)
    return {"table": teaching.keep(content, person_of(principal), report["sha256"])} | report


async def start(
    teaching: Teaching, registry: Registry, log: AuditLog, principal: Principal, request: TeachRequest
) -> dict[str, Any]:
    """Begin to teach; returns the job at once. Raises `PermissionDenied`, `InvalidRequest`, `NotFound`, `QueueFull`."""
    authorize(principal, Action.SPECIALIST_TEACH)
    _check_request(request)
    if request.lora:
        check_extra()
    person = person_of(principal)
    table = teaching.table(request.table, person)
    version = await asyncio.to_thread(next_version, registry, request.id)
    job = _Job(secrets.token_hex(8), person, request.id, version)
    job.about = {"job": job.id, "table_sha256": table.sha256}
    teaching.admit(job)

    def progress(done: float, step: str) -> None:
        job.progress, job.step = done, step

    async def work() -> None:
        try:
            async with teaching.turn:
                job.state = "running"
                job.report, job.file = await teach_recorded(
                    teaching.config, log, principal, table.content, request, version, progress, job.about
                )
            job.state, job.progress, job.step = "done", 1.0, "done"
        except asyncio.CancelledError:
            job.state, job.step = "cancelled", "cancelled"
            raise
        except ApplianceError as error:
            job.state, job.step = "failed", "failed"
            job.error = {"code": error.code, "message": error.message, "hint": error.hint}

    job.task = asyncio.create_task(work())
    return job.view()


async def read(teaching: Teaching, log: AuditLog, principal: Principal, name: str) -> dict[str, Any]:
    """How one's own job goes. Reading its report is recorded; watching a job that runs is not, it shows nothing."""
    authorize(principal, Action.SPECIALIST_TEACH)
    job = teaching.job(name, person_of(principal))
    if job.report is not None:
        await record_reading(log, principal, "teaching.read", {"job": job.id, "specialist": job.specialist})
    return job.view()


async def submit(
    teaching: Teaching, registry: Registry, log: AuditLog, principal: Principal, name: str
) -> dict[str, Any]:
    """Install what a job made; it awaits the approval of somebody else. Raises `NotFound`, `Conflict`."""
    authorize(principal, Action.SPECIALIST_TEACH)
    job = teaching.job(name, person_of(principal))
    if job.file is None or job.state != "done":
        raise Conflict(f"the job {job.id} has no result to submit: it is {job.state}", hint="wait until it is done")
    card = await admit_taught(registry, log, principal, job.file, job.about)
    job.state, job.file = "submitted", None
    return card


async def cancel(teaching: Teaching, log: AuditLog, principal: Principal, name: str) -> None:
    """Stop one's own job and forget its result. Raises `NotFound`."""
    authorize(principal, Action.SPECIALIST_TEACH)
    job = teaching.job(name, person_of(principal))
    await log.append(new_event("teaching.cancel", principal.id, Outcome.COMPLETED, {"job": job.id}))
    if job.task is not None:
        job.task.cancel()
        await asyncio.gather(job.task, return_exceptions=True)
    teaching.jobs.pop(job.id, None)


# --- the same steps for a terminal, which needs no job --------------------------------------------------------------


async def examine(
    config: Config, log: AuditLog, principal: Principal, content: bytes, request: TeachRequest | None = None
) -> dict[str, Any]:
    """What `check_table` says, without keeping the table."""
    authorize(principal, Action.SPECIALIST_TEACH)
    about: dict[str, AttributeValue] = {"table_sha256": hashlib.sha256(content).hexdigest(), "size": len(content)}
    try:
        _check_size(config, content)
        if request is not None and request.lora:
            check_extra()
        report = await run_child(config, "check", _options(config, request), content)
    except ApplianceError as error:
        refused = about | {"error": code_of(error)}
        await log.append(new_event("teaching.table", principal.id, Outcome.REFUSED, refused))
        raise
    about |= {"rows": report["rows"], "labels": len(report["labels"]), "ready": report["ready"]}
    await record_reading(log, principal, "teaching.table", about)
    return report


async def teach_recorded(
    config: Config,
    log: AuditLog,
    principal: Principal,
    content: bytes,
    request: TeachRequest,
    version: str,
    progress: Progress,
    about: dict[str, AttributeValue],
) -> tuple[dict[str, Any], bytes]:
    """Teach and record it: the report and the file.

    Raises `TableRefused`, `DeadlineExceeded`, `EngineError`, and `HomeError` where the disk takes no file.
    """
    authorize(principal, Action.SPECIALIST_TEACH)
    _check_request(request)
    if request.lora:
        check_extra()
    _check_size(config, content)
    said: dict[str, AttributeValue] = {
        "specialist": request.id,
        "specialist_version": version,
        "table_sha256": hashlib.sha256(content).hexdigest(),
        **about,
    }
    async with announced(log, principal.id, "teaching.train", said) as step:
        runtime = config.home.runtime
        with disk_errors(runtime), tempfile.TemporaryDirectory(prefix="teaching-", dir=runtime) as folder:
            out = Path(folder) / "taught.gguf"
            options = _options(config, request, version=version, folder=Path(folder), out=out)
            report = await run_child(config, "teach", options, content, progress)
            file = await asyncio.to_thread(out.read_bytes)
        step.attributes |= {"items": report["items"], "sha256": hashlib.sha256(file).hexdigest()}
    return report, file


async def run_child(
    config: Config, mode: str, options: Options, content: bytes, progress: Progress = lambda _done, _step: None
) -> dict[str, Any]:
    """Run the process that teaches to its end and return its result; it ends with this call, whatever happens.

    Raises what the process reported, `DeadlineExceeded` after `teaching.job_s`, `EngineUnavailable` if it died.
    """
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        _CHILD,
        mode,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.DEVNULL,
        env=child_environment(),
        limit=_LINE_BYTES_MAX,
        start_new_session=True,
    )
    assert process.stdin is not None and process.stdout is not None
    feeding = asyncio.create_task(_feed(process.stdin, msgspec.json.encode(options) + b"\n" + content))
    try:
        async with asyncio.timeout(config.teaching.job_s):
            while line := await process.stdout.readline():
                said = msgspec.json.decode(line)
                if "result" in said:
                    return said["result"]
                if "error" in said:
                    kind = _ERRORS.get(said["error"]["code"], InvalidRequest)
                    raise kind(said["error"]["message"], hint=said["error"]["hint"])
                progress(said["progress"], said["step"])
    except TimeoutError:
        raise errors.DeadlineExceeded(
            f"teaching took longer than {config.teaching.job_s:g} s", hint="take fewer rows, or raise teaching.job_s"
        ) from None
    finally:
        feeding.cancel()
        if process.returncode is None:
            process.kill()
        await asyncio.shield(process.wait())
        await asyncio.gather(feeding, return_exceptions=True)
    raise errors.EngineUnavailable("the process that teaches died", hint="look at the machine's memory, then try again")


def next_version(registry: Registry, specialist_id: str) -> str:
    """The version after the latest installed one: a minor step, 1.0.0 for a new specialist.

    Raises `Conflict` where the id belongs to a specialist of another kind: whoever calls it by its id would suddenly
    get labels of a text from it, and de-identification would end.
    """
    known = [entry.manifest for entry in registry.versions(specialist_id)]
    if not known:
        return "1.0.0"
    if any((one.task, one.unit) != (Task.CLASSIFY, "text") or one.context == "required" for one in known):
        raise Conflict(
            f"{specialist_id} does something else than to label texts, and what is taught cannot do that",
            hint="teach under an id of its own",
        )
    major, minor, _ = max(version_key(manifest.version) for manifest in known)
    return f"{major}.{minor + 1}.0"


async def _feed(stdin: asyncio.StreamWriter, content: bytes) -> None:
    try:
        stdin.write(content)
        await stdin.drain()
        stdin.close()
    except (BrokenPipeError, ConnectionResetError):
        pass  # the process ended before it read everything; its exit says why


def _options(
    config: Config,
    request: TeachRequest | None,
    *,
    version: str = "",
    folder: Path | None = None,
    out: Path | None = None,
) -> Options:
    base = open_base_model(config.home)
    limits = config.teaching
    wanted = request or TeachRequest("", "")
    return Options(
        bytes_max=limits.table_bytes_max,
        texts_max=limits.texts_max,
        vocabulary=str(base.vocabulary),
        text_column=wanted.text_column,
        label_column=wanted.label_column,
        multi_label=wanted.multi_label,
        lora=wanted.lora,
        lora_s=limits.lora_s,
        id=wanted.id,
        version=version,
        name=wanted.name or wanted.id,
        created=datetime.now(UTC).date().isoformat(),
        base=str(base.path),
        base_sha256=base.sha256,
        runtime=str(folder or ""),
        out=str(out or ""),
        engine=config.engine.model_dump(mode="json"),
        niceness=limits.niceness,
    )


def _check_request(request: TeachRequest) -> None:
    try:
        msgspec.convert(request.id, SpecialistId)
    except msgspec.ValidationError:
        raise InvalidRequest(
            f"{request.id[:64]!r} cannot be the id of a specialist",
            hint="2 to 63 small letters, digits and dashes, beginning with a letter: `complaint-router`",
        ) from None
    if request.id in (RESERVED_ID, NOBODY_ID):
        raise InvalidRequest(
            f"no specialist is named {request.id!r}: the router means something else by it", hint="take another id"
        )
    if len(request.name) > 300:
        raise InvalidRequest("the name of a specialist has at most 300 characters", hint="make it shorter")


def _check_size(config: Config, content: bytes) -> None:
    if len(content) > config.teaching.table_bytes_max:
        raise InputTooLong(
            f"the table has {len(content)} bytes; this site takes {config.teaching.table_bytes_max}",
            hint="take a sample of its rows: 10,000 texts are plenty; or raise teaching.table_bytes_max",
        )
