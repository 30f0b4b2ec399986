"""`appliance witness`: a witness on a second machine, which remembers how far each log has come and cosigns no other.

It never opens an appliance's data folder. Its own folder holds its key, the logs it knows, and a journal.
"""

from __future__ import annotations

import asyncio
import ipaddress
import signal
import socket
import time
from collections import Counter
from datetime import UTC, datetime
from pathlib import Path
from typing import Annotated, Any

import typer
import uvicorn

from appliance.api.witness import create_witness_app
from appliance.audit.witness import Witness
from appliance.audit.witness_folder import (
    WitnessFolder,
    add_log,
    create_witness,
    open_witness,
    read_identity,
    read_journal,
    read_logs,
    read_state,
)
from appliance.cli.terminal import JsonOption, print_json, print_table, print_text, reported, run, say
from appliance.errors import ConfigInvalid, ServerUnavailable

FolderOption = Annotated[
    Path, typer.Option("--folder", help="The witness's own folder, on a machine of its own.", metavar="FOLDER")
]
_STARTED_POLL_S = 0.02
_BACKLOG = 64
_SHUTDOWN_S = 5


def init(
    folder: FolderOption,
    name: Annotated[str, typer.Option(help="What the witness is called, as witness.clinic.example/w1.")],
) -> None:
    """Make a witness: a key and an empty memory. Prints the verifier key, which goes into every appliance's config.

    \b
    Example: appliance witness init --folder /var/lib/witness --name witness.clinic.example/w1
    """
    with reported():
        identity = create_witness(folder, name)
    say("give this key to the appliance (witness.verifier_key), and add its log here: appliance witness add-log")
    print_text(f"{identity.verifier_key}\n")


def know_log(
    verifier_key: Annotated[str, typer.Argument(help="Verifier key of the log, as `appliance audit checkpoint` says.")],
    folder: FolderOption,
) -> None:
    """Know a log, or the next key of a log that rotates its own. A running witness needs no restart.

    \b
    Example: appliance witness add-log --folder /var/lib/witness clinic.example/audit/0b6f/e1+1a2b3c4d+AZ…
    """
    with reported():
        origin = add_log(folder, verifier_key)
    say(f"the log {origin} is known")


def serve(
    folder: FolderOption,
    host: Annotated[str, typer.Option(help="Address to listen on.")] = "127.0.0.1",
    port: Annotated[int, typer.Option(help="Port to listen on.", min=0, max=65535)] = 8444,
    tls_certificate: Annotated[Path | None, typer.Option(help="Certificate (PEM); needed off this machine.")] = None,
    tls_key: Annotated[Path | None, typer.Option(help="Private key of the certificate (PEM).")] = None,
) -> None:
    """Serve until it is told to stop (Ctrl+C, SIGTERM). Refuses to start without its memory.

    \b
    Example: appliance witness serve --folder /var/lib/witness --host 10.0.0.5 --tls-certificate w.pem --tls-key w.key
    """

    async def serving() -> None:
        _refuse_plain_text(host, tls_certificate)
        with open_witness(folder) as kept, _bound(host, port) as address:
            await _serve(kept, address, host, tls_certificate, tls_key)

    run(serving)


def show(folder: FolderOption, as_json: JsonOption = False) -> None:
    """Show each known log: how many records were cosigned, how long ago, and what was refused.

    Example: appliance witness show --folder /var/lib/witness --json
    """
    with reported():
        identity, rows = read_identity(folder), _rows(folder)
    evidence = sorted(path.name for path in (folder / "evidence").glob("*.refused.note"))
    if as_json:
        print_json({"name": identity.name, "verifier_key": identity.verifier_key, "logs": rows, "evidence": evidence})
        return
    print_text(f"{identity.verifier_key}\n")
    columns = ("origin", "size", "age_s", "cosigned", "refused")
    print_table(columns, [["-" if row[column] is None else row[column] for column in columns] for row in rows])
    if evidence:
        say(f"{len(evidence)} checkpoints contradicted what was cosigned; see {folder / 'evidence'}")


def _rows(folder: Path) -> list[dict[str, Any]]:
    state, verdicts, seen = read_state(folder), Counter[tuple[str, str]](), dict[str, str]()
    for entry in read_journal(folder):
        verdicts[entry.origin, entry.verdict] += 1
        if entry.verdict == "cosigned":
            seen[entry.origin] = entry.time
    rows = []
    for origin in sorted(read_logs(folder)):
        counts = {verdict: count for (of, verdict), count in sorted(verdicts.items()) if of == origin}
        kept = state.get(origin)
        last = datetime.fromisoformat(seen[origin]) if origin in seen else None
        age_s = (datetime.now(UTC) - last).total_seconds() if last else (time.time() - kept.time_s if kept else None)
        rows.append(
            {
                "origin": origin,
                "size": kept.size if kept else 0,
                "age_s": None if age_s is None else max(0, int(age_s)),
                "cosigned": counts.pop("cosigned", 0),
                "refused": sum(counts.values()),
                "verdicts": counts,
            }
        )
    return rows


async def _serve(
    kept: WitnessFolder, address: socket.socket, host: str, certificate: Path | None, key: Path | None
) -> None:
    witness = Witness(kept)
    settings = uvicorn.Config(
        create_witness_app(witness),
        loop="asyncio",
        lifespan="off",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=False,
        ssl_certfile=certificate,
        ssl_keyfile=key,
        timeout_graceful_shutdown=_SHUTDOWN_S,
    )
    try:
        settings.load()
    except OSError as error:
        raise ConfigInvalid(
            f"cannot use the certificate {certificate} with the key {key}: {error.strerror}",
            hint="--tls-certificate and --tls-key name PEM files that belong together",
        ) from None
    listener = uvicorn.Server(settings)
    for stopping in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stopping, lambda *_: setattr(listener, "should_exit", True))
    announcing = asyncio.create_task(_announce(listener, witness, host, "https" if certificate else "http"))
    try:
        await listener.serve(sockets=[address])
    finally:
        announcing.cancel()
    if not listener.started:
        raise ServerUnavailable("the witness ended before it listened", hint="its messages above say why")


async def _announce(listener: uvicorn.Server, witness: Witness, host: str, scheme: str) -> None:
    """Say where the witness is, once it listens."""
    while not listener.started:
        await asyncio.sleep(_STARTED_POLL_S)  # uvicorn offers no event for it
    port = listener.servers[0].sockets[0].getsockname()[1]
    say(f"witness {witness.name} serves at {scheme}://{host}:{port}")
    say(f"its key: {witness.verifier_key}")


def _bound(host: str, port: int) -> socket.socket:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    try:
        address = socket.create_server((host, port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigInvalid(
            f"cannot listen on {host}:{port}: {error.strerror}",
            hint="is another program using the port? choose one with --port, an address with --host",
        ) from None
    # As for the appliance: without it every answer of two segments waits for the client's delayed acknowledgement.
    address.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return address


def _refuse_plain_text(host: str, certificate: Path | None) -> None:
    """A refusal carries no signature: off this machine it is believed only over TLS. Raises `ConfigInvalid`."""
    try:
        loopback = ipaddress.ip_address(host).is_loopback
    except ValueError:
        loopback = host == "localhost"
    if not loopback and certificate is None:
        raise ConfigInvalid(f"refusing to listen on {host} without TLS", hint="give --tls-certificate and --tls-key")
