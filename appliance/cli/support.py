"""`appliance support-bundle`: facts for whoever helps, and nothing of anybody."""

from __future__ import annotations

from pathlib import Path
from typing import Annotated

import typer

from appliance.cli.terminal import HomeOption, configured, operator, print_text, run, say
from appliance.service.support import support_bundle as write


def support_bundle(
    target: Annotated[Path, typer.Argument(help="The zip file to be written; it must not exist.")],
    home: HomeOption = None,
) -> None:
    """Write a file for whoever helps: facts of the machine, no content, name or key. Look into it before it is sent.

    Example: appliance support-bundle support.zip
    """
    config = configured(home)
    written = run(lambda: write(config, operator(), target))
    print_text(f"{target}\n")
    say(f"it holds {', '.join(written.parts)}; nothing was sent anywhere")
    if written.unrecorded:
        say(f"the log has no record of it: {written.unrecorded}")
