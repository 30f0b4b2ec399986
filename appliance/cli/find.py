"""`appliance find`: the passages of a document that a specialist knows, best first."""

from __future__ import annotations

from typing import Annotated

import typer

from appliance.api.schemas_finding import find_response
from appliance.audit.gate import Released
from appliance.cli.terminal import HomeOption, JsonOption, configured, operator, print_json, print_text, run, say
from appliance.cli.text import SubjectOption, read_text
from appliance.config import Config
from appliance.service.appliance import open_appliance
from appliance.service.finding import PER_LABEL, FindRequest, Found, find_passages

_SHOWN_CHARS = 300


def find(
    specialist: Annotated[str, typer.Argument(help="Id of a specialist with several labels a text.")],
    file: Annotated[str, typer.Argument(metavar="FILE|-", help="A UTF-8 text file; - reads standard input.")],
    label: Annotated[list[str] | None, typer.Option(help="Only this label; may be given several times.")] = None,
    top: Annotated[int, typer.Option(help="How many passages of each label.")] = PER_LABEL,
    weak: Annotated[bool, typer.Option("--weak", help="Show passages below their label's threshold too.")] = False,
    subject: SubjectOption = "",
    as_json: JsonOption = False,
    home: HomeOption = None,
) -> None:
    """Find the best passages of each label in a long document, with their offsets. --json has all of them.

    \b
    Example: appliance find contract-clause agreement.txt --label "Governing Law" --top 3
    """
    run(lambda: _find(configured(home), specialist, file, tuple(label or ()), top, weak, subject, as_json))


async def _find(
    config: Config,
    specialist: str,
    file: str,
    labels: tuple[str, ...],
    top: int,
    weak: bool,
    subject: str,
    as_json: bool,
) -> None:
    text = read_text(file, config.limits.text_chars_max)
    wanted = FindRequest(text, specialist, labels, top, subject)
    async with open_appliance(config, via="cli", specialists=(specialist,)) as appliance:
        released = await find_passages(appliance, operator(), wanted)
    if as_json:
        print_json(find_response(released.value, released.receipt).model_dump(mode="json"))
        return
    print_text(_listed(released.value, text, weak=weak))
    _summarise(released, text)


def _listed(found: Found, text: str, *, weak: bool) -> str:
    lines = []
    for label, ranked in found.findings.items():
        for one in ranked:
            if one.assigned or weak:
                passage = " ".join(text[one.start : one.end].split())
                lines += [f"{label}  {one.score:.2f}  [{one.start}:{one.end}]", f"    {passage[:_SHOWN_CHARS]}"]
    return "\n".join(lines) + "\n" if lines else ""


def _summarise(released: Released[Found], text: str) -> None:
    found, receipt = released.value, released.receipt
    labels = sum(any(one.assigned for one in ranked) for ranked in found.findings.values())
    among = f"{len(found.findings)} labels in {found.passages} passages"
    by = f"{found.specialist.id} {found.specialist.version}"
    say(f"found {labels} of {among}, {found.elapsed_ms:.0f} ms, by {by}")
    say(f"recorded as {receipt.record_id.hex()}, number {receipt.seq} under a signed checkpoint of {receipt.size}")
