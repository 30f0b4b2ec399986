"""`appliance serve`: the API at once, the pages as soon as Gradio is imported."""

from __future__ import annotations

import asyncio
import ipaddress
import logging
import signal
import socket
import sys
from typing import Annotated
from urllib.parse import urlsplit

import typer
import uvicorn

import ui.site
from appliance import __version__
from appliance.api.app import create_api
from appliance.api.security import SessionCookie
from appliance.api.uploads import upload_sizes
from appliance.cli.client_networks import OnlyFrom
from appliance.cli.server_file import server_file
from appliance.cli.terminal import HomeOption, configured, operator, run, say
from appliance.config import Config, ServerConfig
from appliance.errors import ApplianceError, ConfigInvalid, ServerUnavailable
from appliance.service import accounts
from appliance.service.appliance import Appliance, open_appliance
from appliance.service.home import check_home, hold_server_lock
from ui.settings import LOOPBACK_HOSTS, UiSettings

_STARTED_POLL_S = 0.02
_BACKLOG = 2048


def serve(
    host: Annotated[str | None, typer.Option(help="Address to listen on (default: server.host).")] = None,
    port: Annotated[
        int | None, typer.Option(help="Port to listen on (default: server.port).", min=0, max=65535)
    ] = None,
    setup_link: Annotated[
        bool,
        typer.Option("--setup-link/--no-setup-link", help="Print a one-time link while there is no administrator."),
    ] = True,
    home: HomeOption = None,
) -> None:
    """Serve the API and the pages until it is told to stop (Ctrl+C, SIGTERM).

    Example: appliance serve --port 8443
    """
    config = configured(home)
    run(lambda: _serve(config, config.server.model_copy(update=_given(host=host, port=port)), setup_link))


def _given(**options: object) -> dict[str, object]:
    return {name: value for name, value in options.items() if value is not None}


async def _serve(config: Config, server: ServerConfig, setup_link: bool) -> None:
    refuse_plain_text_off_the_machine(server)
    logging.basicConfig(stream=sys.stderr, level=logging.INFO, format="%(asctime)s %(levelname)s %(name)s: %(message)s")
    check_home(config.home)
    with hold_server_lock(config.home), _bound(server) as address:
        async with open_appliance(config, via="server") as appliance:
            await _serve_opened(appliance, server, address, setup_link)


def _bound(server: ServerConfig) -> socket.socket:
    """The listening socket, before anything slow is started. Raises `ConfigInvalid`."""
    family = socket.AF_INET6 if ":" in server.host else socket.AF_INET
    try:
        address = socket.create_server((server.host, server.port), family=family, backlog=_BACKLOG)
    except OSError as error:
        raise ConfigInvalid(
            f"cannot listen on {server.host}:{server.port}: {error.strerror}",
            hint="is another program using the port? choose one with --port, an address with --host",
        ) from None
    # Accepted connections inherit it. asyncio sets it by itself only on sockets that it made: without it every answer
    # of two segments waits 40 ms for the client's delayed acknowledgement.
    address.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return address


async def _serve_opened(appliance: Appliance, server: ServerConfig, address: socket.socket, setup_link: bool) -> None:
    api = create_api(appliance)
    application = ui.site.create_site(api, site_settings(appliance.config, server)) if server.ui else api
    settings = uvicorn.Config(
        OnlyFrom(application, server.client_networks, secure=server.tls_certificate is not None),
        loop="asyncio",  # the egress tripwire cannot see another loop's connections
        lifespan="on",
        access_log=False,
        log_level="warning",
        server_header=False,
        proxy_headers=server.behind_proxy,
        forwarded_allow_ips="127.0.0.1" if server.behind_proxy else None,
        ssl_certfile=server.tls_certificate,
        ssl_keyfile=server.tls_key,
        timeout_graceful_shutdown=int(server.shutdown_s),
    )
    _load(settings, server)
    listener = uvicorn.Server(settings)
    # When uvicorn has stopped it raises the signal again; the default would end us before the log is closed.
    for stopping in (signal.SIGTERM, signal.SIGINT):
        signal.signal(stopping, lambda *_: setattr(listener, "should_exit", True))
    announcing = asyncio.create_task(_announce(listener, appliance, server, setup_link))
    try:
        await listener.serve(sockets=[address])
    finally:
        announcing.cancel()
    if not listener.started:
        raise ServerUnavailable("the server ended before it listened", hint="its messages above say why")


def _load(settings: uvicorn.Config, server: ServerConfig) -> None:
    """Read the certificate now, where its faults can be told. Raises `ConfigInvalid`."""
    try:
        settings.load()
    except OSError as error:
        raise ConfigInvalid(
            f"cannot use the certificate {server.tls_certificate} with the key {server.tls_key}: {error.strerror}",
            hint="server.tls_certificate and server.tls_key name PEM files that belong together",
        ) from None


async def _announce(listener: uvicorn.Server, appliance: Appliance, server: ServerConfig, setup_link: bool) -> None:
    """Say where the server is, once it listens."""
    while not listener.started:
        await asyncio.sleep(_STARTED_POLL_S)  # uvicorn offers no event for it
    port = listener.servers[0].sockets[0].getsockname()[1]
    scheme = "https" if server.tls_certificate else "http"
    address = f"{scheme}://{server.host}:{port}"
    with server_file(appliance.config.home, address):
        say(f"Cloister {__version__} serves {appliance.config.home.root} at {address}")
        await _offer_setup(appliance, address, setup_link)
        await asyncio.Event().wait()  # the file stays until the server stops, which cancels this task


async def _offer_setup(appliance: Appliance, address: str, setup_link: bool) -> None:
    if setup_link and not await asyncio.to_thread(appliance.accounts.has_administrator):
        try:
            token = await accounts.create_setup_link(appliance.accounts, appliance.audit, operator())
        except ApplianceError as error:
            # Whoever serves goes on to say where: a log that is slow for a moment, or read only, is no reason to stop.
            say(f"no administrator yet, and no link was made: {error.message}; try: appliance users setup-link")
            return
        say(f"no administrator yet; open this link once, on this machine: {address}/setup#{token}")


def refuse_plain_text_off_the_machine(server: ServerConfig) -> None:
    """Passwords and notes never cross a network in the clear. Raises `ConfigInvalid`."""
    if server.tls_certificate or server.behind_proxy or _is_loopback(server.host):
        return
    raise ConfigInvalid(
        f"refusing to listen on {server.host} without TLS",
        hint="set server.tls_certificate and server.tls_key, or server.behind_proxy when a proxy on this host ends TLS",
    )


def _is_loopback(host: str) -> bool:
    try:
        return ipaddress.ip_address(host).is_loopback
    except ValueError:
        return host == "localhost"


def site_settings(config: Config, server: ServerConfig) -> UiSettings:
    """What the pages need to know of the configuration."""
    cookie = SessionCookie.of(server, config.accounts)
    return UiSettings(
        site_name=server.site_name,
        version=__version__,
        allowed_hosts=LOOPBACK_HOSTS | {server.host, *server.public_hosts},
        session_cookie=cookie.name,
        secure=cookie.secure,
        text_chars_max=config.limits.text_chars_max,
        body_bytes_max=config.limits.body_bytes_max,
        upload_bytes_max=max(upload_sizes(config).values()),
        allowed_addresses=allowed_addresses(config),
    )


def allowed_addresses(config: Config) -> frozenset[tuple[str, int]]:
    """The peers beyond this machine that the configuration names: the SIEM, the witness, other servers that write.

    No others are reached. Of those that write, `engine/generation/upstream.py` also checks what their names stand for.
    """
    addresses = set()
    if config.siem.host:
        addresses.add((config.siem.host, config.siem.port))
    for url in (config.witness.url, *(model.url for model in config.upstream.models.values())):
        place = urlsplit(url)
        if place.hostname:
            addresses.add((place.hostname, place.port or (443 if place.scheme == "https" else 80)))
    return frozenset(addresses)
