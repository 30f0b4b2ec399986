"""`appliance specialists`: install, approve, promote, roll back, remove, verify, export, and whose signatures count.

Whoever is at the machine is one person, so approving and promoting what was installed here needs another, who signs in
with `--user NAME`; the password is asked for, or read from standard input.
"""

from __future__ import annotations

import asyncio
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Annotated, Any, TypeVar

import typer

from appliance.api.schemas_specialists import trusted_key_body, version_body
from appliance.audit.log import AuditLog
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_table,
    reported,
    run,
    say,
)
from appliance.config import Config
from appliance.errors import InputTooLong, InvalidRequest
from appliance.service import specialist_life
from appliance.service.accounts import sign_in, sign_out
from appliance.service.appliance import open_appliance
from appliance.service.rooms import open_directory, open_log
from appliance.service.specialist_life import Upload
from appliance.service.specialists import list_versions, open_registry
from appliance.specialists.registry import Registry
from appliance.specialists.signature import SIGNATURE_BYTES_MAX
from appliance.types import Principal

T = TypeVar("T")
SpecialistArgument = Annotated[str, typer.Argument(help="Id of the specialist.")]
VersionArgument = Annotated[str, typer.Argument(help="Version, as `appliance specialists versions` shows it.")]
UserOption = Annotated[str, typer.Option("--user", help="Who decides: an account, whose password is asked for.")]
_KEY_BYTES_MAX = 16 * 1024
_SECRET_CHARS_MAX = 1024
_HERE = "terminal"


def versions(
    specialist: Annotated[str, typer.Argument(help="Id of the specialist; all without it.")] = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """List the installed versions: which is active, which waits for approval, who signed and approved it.

    Example: appliance specialists versions phi-deid
    """
    config = configured(home)
    cards = run(
        lambda: _with_registry(
            config, lambda registry, log: list_versions(registry, log, operator(), specialist or None)
        )
    )
    if as_json:
        print_json([version_body(card).model_dump(mode="json") for card in cards])
        return
    columns = ("id", "version", "state", "admitted", "signer", "installed by", "approved by")
    print_table(columns, [_row(card) for card in cards])


def install(
    file: Annotated[Path, typer.Argument(help="The specialist file, ending in .gguf.")],
    signature: Annotated[
        Path | None, typer.Option(help="Its signature file (default: FILE.sig, if there is one).")
    ] = None,
    reason: Annotated[
        str, typer.Option(help="Admit it without a trusted signature, and why: a code such as pilot-ward-3.")
    ] = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Install a specialist file. It answers nobody before another person approved it and it was promoted.

    \b
    Example: appliance specialists install triage.gguf --signature triage.gguf.sig
    """
    config = configured(home)
    with reported():
        beside = file.with_name(f"{file.name}.sig")
        signed_by = signature or (beside if beside.exists() else None)
        upload = Upload(
            read_upload(file, config.specialists.file_bytes_max),
            read_upload(signed_by, SIGNATURE_BYTES_MAX) if signed_by else None,
            reason,
        )
    card = run(
        lambda: _with_registry(config, lambda registry, log: specialist_life.install(registry, log, operator(), upload))
    )
    _show(card, as_json, f"installed {_named(card)}; it is {card['state'].replace('_', ' ')}")


def approve(
    specialist: SpecialistArgument,
    version: VersionArgument,
    user: UserOption = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Approve a version that somebody else installed or taught.

    Example: appliance specialists approve triage 0.2.0 --user boss
    """
    config = configured(home)
    password = _secret("password") if user else ""

    async def work() -> dict[str, Any]:
        async with open_log(config) as log, _deciding(config, log, user, password) as principal:
            with open_registry(config) as registry:
                return await specialist_life.approve(registry, log, principal, specialist, version)

    card = run(work)
    _show(card, as_json, f"approved {_named(card)}; promote it to let it answer")


def promote(
    specialist: SpecialistArgument,
    version: VersionArgument,
    user: UserOption = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Let an approved version answer. Running requests end with the version they began with.

    Example: appliance specialists promote triage 0.2.0 --user boss
    """
    config = configured(home)
    password = _secret("password") if user else ""

    async def work() -> dict[str, Any]:
        async with (
            open_appliance(config, via="cli", specialists=()) as appliance,
            _deciding(config, appliance.audit, user, password) as principal,
        ):
            return await specialist_life.promote(
                appliance.registry, appliance.audit, principal, specialist, version, load=appliance.engine.load
            )

    card = run(work)
    _show(card, as_json, f"{_named(card)} answers from now on; `appliance specialists rollback {specialist}` undoes it")


def rollback(specialist: SpecialistArgument, as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Undo the last promotion: the version that was active before answers again.

    Example: appliance specialists rollback triage
    """
    config = configured(home)
    done = run(
        lambda: _with_registry(
            config, lambda registry, log: specialist_life.rollback(registry, log, operator(), specialist)
        )
    )
    if as_json:
        print_json({name: version_body(card).model_dump(mode="json") if card else None for name, card in done.items()})
        return
    back = f"{_named(done['active'])} answers again" if done["active"] else f"no version of {specialist} answers now"
    say(f"{_named(done['retired'])} is retired; {back}")


def remove(
    specialist: SpecialistArgument, version: VersionArgument, as_json: JsonOption = False, home: HomeOption = None
) -> None:
    """Remove a version that is not active, and its file.

    Example: appliance specialists remove triage 0.1.0
    """
    config = configured(home)
    card = run(
        lambda: _with_registry(
            config, lambda registry, log: specialist_life.remove(registry, log, operator(), specialist, version)
        )
    )
    _show(card, as_json, f"removed {_named(card)}")


def verify(
    specialist: SpecialistArgument,
    version: Annotated[str, typer.Argument(help="Version (default: the active one).")] = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Read an installed file again and check its hash and its signature under the keys trusted now.

    Example: appliance specialists verify phi-deid
    """
    config = configured(home)
    card = run(
        lambda: _with_registry(
            config, lambda registry, log: specialist_life.verify(registry, log, operator(), specialist, version or None)
        )
    )
    if as_json:
        print_json(
            version_body({key: card[key] for key in card if key != "verified"}).model_dump(mode="json")
            | {"verified": card["verified"]}
        )
        return
    said = {
        "signature": f"it is signed by {card['signer']}",
        "release": "its hash is on the list of this release; it carries no signature",
        "decision": f"an administrator admitted it without a trusted signature: {card['reason']}",
        "taught": "it was taught on this appliance; it carries no signature",
        "administrator": "an administrator admitted it; it carries no signature",
    }
    say(f"{_named(card)} is the file that was installed; {said[card['verified']]}")


def export(
    specialist: SpecialistArgument,
    out: Annotated[Path, typer.Option("--out", help="Where the zip goes.")],
    version: Annotated[str, typer.Argument(help="Version (default: the active one).")] = "",
    home: HomeOption = None,
) -> None:
    """Write the file of a version and its signature, if it has one, as a zip.

    Example: appliance specialists export triage --out triage.zip
    """
    config = configured(home)
    _, content = run(
        lambda: _with_registry(
            config, lambda registry, log: specialist_life.export(registry, log, operator(), specialist, version or None)
        )
    )
    with reported():
        _write(out, content)
    say(f"wrote {out}")


def sign(
    file: Annotated[Path, typer.Argument(help="The specialist file.")],
    key: Annotated[Path, typer.Option(help="The private key in PEM: P-256, P-384 or P-521.")],
    out: Annotated[Path | None, typer.Option("--out", help="The signature file (default: FILE.sig).")] = None,
    ask: Annotated[bool, typer.Option("--ask-passphrase", help="The key is under a passphrase; ask for it.")] = False,
    home: HomeOption = None,
) -> None:
    """Sign a specialist file with a key of your own, as OpenSSF Model Signing does. Touches no data folder.

    Example: appliance specialists sign triage.gguf --key signing-key.pem
    """
    config = configured(home)
    with reported():
        content = read_upload(file, config.specialists.file_bytes_max)
        pem = _read_key(key)
        passphrase = _secret("passphrase of the key") if ask else None
        target = out or file.with_name(f"{file.name}.sig")
        _write(target, specialist_life.signature_of(content, file.name, pem, passphrase))
    say(f"wrote {target}")


def keys(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """List the keys whose signatures count.

    Example: appliance specialists keys
    """
    config = configured(home)
    rows = run(
        lambda: _with_registry(config, lambda registry, log: specialist_life.list_keys(registry, log, operator()))
    )
    bodies = [trusted_key_body(row).model_dump(mode="json") for row in rows]
    if as_json:
        print_json(bodies)
        return
    columns = ("name", "fingerprint", "since", "added by")
    print_table(columns, [(b["name"], b["fingerprint"], b["added_at"][:10], b["added_by"]) for b in bodies])


def trust(
    key: Annotated[Path, typer.Argument(help="The signer's public key in PEM.")],
    name: Annotated[str, typer.Option(help="Whose key it is.")],
    home: HomeOption = None,
) -> None:
    """Let signatures of a key count. Get the key on another way than the files it signs.

    Example: appliance specialists trust vendor.pub.pem --name "Vendor Ltd"
    """
    config = configured(home)
    with reported():
        pem = _read_key(key)
    row = run(
        lambda: _with_registry(
            config, lambda registry, log: specialist_life.trust(registry, log, operator(), name, pem)
        )
    )
    say(f"signatures of {row.key.name} count from now on: {row.key.fingerprint}")


def distrust(
    name: Annotated[str, typer.Argument(help="Name of the key, as `appliance specialists keys` shows it.")],
    home: HomeOption = None,
) -> None:
    """Let signatures of a key count no more. What they admitted stays; look at it with `verify`.

    Example: appliance specialists distrust "Vendor Ltd"
    """
    config = configured(home)
    run(lambda: _with_registry(config, lambda registry, log: specialist_life.distrust(registry, log, operator(), name)))
    say(f"signatures of {name} count no more")


async def _with_registry(config: Config, work: Callable[[Registry, AuditLog], Awaitable[T]]) -> T:
    async with open_log(config) as log:
        with open_registry(config) as registry:
            return await work(registry, log)


@asynccontextmanager
async def _deciding(config: Config, log: AuditLog, user: str, password: str) -> AsyncIterator[Principal]:
    """Who decides: the person of an account, signed in as long as the block lasts, or whoever is at the machine."""
    if not user:
        yield operator()
        return
    with open_directory(config) as directory:
        signed_in = await sign_in(directory, log, user, password, _HERE)
        try:
            yield signed_in.session.principal
        finally:
            await asyncio.shield(sign_out(directory, log, signed_in.session, signed_in.secret))


def _secret(prompt: str) -> str:
    """From a prompt that does not show it, or the first line of a pipe; never from an argument."""
    if sys.stdin.isatty():
        return typer.prompt(prompt, hide_input=True, err=True)
    return sys.stdin.readline(_SECRET_CHARS_MAX).rstrip("\r\n")


def _show(card: dict[str, Any], as_json: bool, line: str) -> None:
    if as_json:
        print_json(version_body(card).model_dump(mode="json"))
    else:
        say(line)


def _named(card: dict[str, Any]) -> str:
    return f"{card['id']} {card['version']}"


def _row(card: dict[str, Any]) -> tuple[str, ...]:
    names = ("id", "version", "state", "admitted", "signer", "installed_by", "approved_by")
    return tuple(str(card[name] or "").replace("_", " ") for name in names)


def read_upload(path: Path, bytes_max: int) -> bytes:
    """A file to be sent. Raises `InvalidRequest` if it cannot be read or is larger than `bytes_max`."""
    try:
        with path.open("rb") as file:
            content = file.read(bytes_max + 1)
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="check the path and its mode") from None
    if len(content) > bytes_max:
        raise InputTooLong(f"{path} is larger than {bytes_max} bytes", hint="send less of it; is it the right file?")
    return content


def _read_key(path: Path) -> str:
    try:
        return read_upload(path, _KEY_BYTES_MAX).decode("ascii")
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is not a key in PEM", hint="it begins with -----BEGIN") from None


def _write(path: Path, content: bytes) -> None:
    """All of it under its name, or nothing."""
    try:
        with tempfile.NamedTemporaryFile(dir=path.parent, prefix=f".{path.name}-", delete=False) as draft:
            draft.write(content)
        Path(draft.name).replace(path)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="check the folder and its mode") from None
