"""`appliance tls`: the server's certificate, by an authority of the site's own or the firm's."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Annotated

import typer

from appliance.audit.log import AuditLog
from appliance.cli.terminal import (
    HomeOption,
    JsonOption,
    configured,
    operator,
    print_json,
    print_text,
    reported,
    run,
    say,
)
from appliance.config import Config
from appliance.crypto.certificates import Facts
from appliance.errors import InvalidRequest, NotFound
from appliance.service import site_certificate
from appliance.service.rooms import open_log


def create(
    name: Annotated[list[str], typer.Argument(help="Host or address that browsers type; may be given again.")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Make a certificate by an authority of the site's own, which can vouch for these names and no others.

    Give `tls/authority.pem` of the data folder to the browsers of the site; the server uses it from its next start.

    Example: appliance tls create ward3.clinic.example 10.20.0.5
    """
    config = configured(home)
    facts = _with_log(config, lambda log: site_certificate.make_certificate(config, log, operator(), name))
    _print(facts, as_json)
    say(f"the site's authority, for its browsers: {config.home.tls / 'authority.pem'}")


def use(
    certificate: Annotated[Path, typer.Argument(help="The firm's certificate, its chain behind it (PEM).")],
    key: Annotated[Path, typer.Argument(help="Its key (PEM, without a passphrase).")],
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Take the firm's certificate. The server uses it from its next start.

    Example: appliance tls use ward3.pem ward3.key
    """
    config = configured(home)
    with reported():
        texts = _read(certificate), _read(key)
    facts = _with_log(config, lambda log: site_certificate.take_certificate(config, log, operator(), *texts))
    _print(facts, as_json)


def show(as_json: JsonOption = False, home: HomeOption = None) -> None:
    """Show the certificate in use: names, end and fingerprint.

    Example: appliance tls show
    """
    config = configured(home)
    with reported():
        facts = site_certificate.certificate_facts(config)
        if facts is None:
            raise NotFound("the server has no certificate", hint="make one: appliance tls create HOST")
    _print(facts, as_json)


def _with_log(config: Config, work: Callable[[AuditLog], Awaitable[Facts]]) -> Facts:
    async def opened() -> Facts:
        async with open_log(config) as log:
            return await work(log)

    return run(opened)


def _print(facts: Facts, as_json: bool) -> None:
    if as_json:
        body = {"names": facts.names, "not_after": facts.not_after.isoformat(), "fingerprint": facts.fingerprint}
        print_json(body)
        return
    print_text(f"names        {', '.join(facts.names)}\nuntil        {facts.not_after:%Y-%m-%d}\n")
    print_text(f"fingerprint  {facts.fingerprint}\n")


def _read(path: Path) -> str:
    try:
        with path.open("rb") as file:
            return file.read(site_certificate.PEM_BYTES_MAX).decode()
    except OSError as error:
        raise InvalidRequest(f"cannot read {path}: {error.strerror}", hint="name a PEM file") from None
    except UnicodeDecodeError:
        raise InvalidRequest(f"{path} is no PEM file", hint="convert it with openssl first") from None
