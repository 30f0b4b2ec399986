"""The `appliance` command. Each group of commands is a file beside this one; none contains a rule the API lacks.

appliance --help
"""

from __future__ import annotations

from typing import Annotated

import typer

from appliance import __version__
from appliance.cli import (
    api_keys,
    audit,
    audit_export,
    audit_keeping,
    audit_recovery,
    audit_search,
    doctor,
    evaluate,
    find,
    init,
    keys,
    models,
    route,
    serve,
    specialist_life,
    specialists,
    teaching,
    text,
    users,
    witness,
)
from appliance.cli.passphrase import use_descriptor

app = typer.Typer(
    name="appliance",
    no_args_is_help=True,
    add_completion=False,
    pretty_exceptions_enable=False,  # a pretty traceback prints local variables: texts and keys
    rich_markup_mode=None,
    help="Cloister: specialist models, de-identification and a verifiable audit log, on your own machine.",
)
app.command("init")(init.init)
app.command("upgrade")(init.upgrade)
app.command("serve")(serve.serve)
app.command("deidentify")(text.deidentify)
app.command("run")(text.run_specialist)
app.command("route")(route.route_text)
app.command("find")(find.find)
app.command("evaluate")(evaluate.evaluate_specialist)
app.command("doctor")(doctor.doctor)
for name, command in (
    ("versions", specialist_life.versions),
    ("install", specialist_life.install),
    ("approve", specialist_life.approve),
    ("promote", specialist_life.promote),
    ("rollback", specialist_life.rollback),
    ("remove", specialist_life.remove),
    ("verify", specialist_life.verify),
    ("export", specialist_life.export),
    ("sign", specialist_life.sign),
    ("keys", specialist_life.keys),
    ("trust", specialist_life.trust),
    ("distrust", specialist_life.distrust),
    ("teach", teaching.teach),
    ("train", teaching.train),
):
    specialists.commands.command(name)(command)
app.add_typer(specialists.commands, name="specialists")
app.add_typer(models.commands, name="models")
app.add_typer(users.commands, name="users")
app.add_typer(api_keys.commands, name="api-keys")
audit.commands.command("search")(audit_search.search)
audit.commands.command("activity")(audit_search.activity)
audit.commands.add_typer(audit_keeping.hold_commands, name="hold")
audit.commands.add_typer(audit_keeping.retention_commands, name="retention")
audit.commands.command("shred")(audit_keeping.shred)
audit.commands.command("erasures")(audit_keeping.erasures)
audit.commands.command("verify")(audit_export.verify)
audit.commands.command("check-receipt")(audit_export.check_receipt)
audit.commands.command("export")(audit_export.export)
audit.commands.command("exposure")(audit_recovery.exposure)
audit.commands.command("epochs")(audit_recovery.epochs)
audit.commands.command("recover")(audit_recovery.recover)
app.add_typer(audit.commands, name="audit")
app.add_typer(keys.commands, name="keys")
app.add_typer(witness.commands, name="witness")


def _print_version(wanted: bool) -> None:
    if wanted:
        typer.echo(__version__)
        raise typer.Exit


@app.callback()
def options(
    version: Annotated[
        bool, typer.Option("--version", help="Print the version and exit.", callback=_print_version, is_eager=True)
    ] = False,
    passphrase_fd: Annotated[
        int | None,
        typer.Option("--passphrase-fd", help="Read the passphrase of the keystore from this descriptor.", min=0),
    ] = None,
) -> None:
    """Cloister: specialist models, de-identification and a verifiable audit log, on your own machine.

    Example: appliance init && appliance deidentify note.txt
    """
    use_descriptor(passphrase_fd)


def main() -> None:
    """Entry point of the installed command."""
    app()
