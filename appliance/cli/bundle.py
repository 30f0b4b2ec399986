"""`appliance bundle`: everything that a site without a network installs, in one signed file. Opens no data folder."""

from __future__ import annotations

import json
import re
import subprocess
import sys
import tempfile
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from typing import Annotated, Any

import typer

from appliance import __version__
from appliance.cli.exit_codes import exit_code_of
from appliance.cli.terminal import JsonOption, print_json, print_table, print_text, reported, say, working
from appliance.errors import BundleRefused, InvalidRequest

_YEAR_DAYS = 365
_UNITS = {"": 1, "K": 2**10, "M": 2**20, "G": 2**30}

KeyFileOption = Annotated[Path, typer.Option("--key", help="File of the key that signs.", dir_okay=False)]


def make_key(
    name: Annotated[str, typer.Argument(help="Whose it is: root-ana, release-2026.")],
    file: Annotated[Path, typer.Argument(help="The new key file; keep it off the network.")],
) -> None:
    """Make a key that signs roots or bundles, and print its public half.

    Example: appliance bundle key root-ana /media/safe/root-ana.key
    """
    from appliance.service.bundle.release_keys import create_key

    with reported():
        print_text(create_key(file, name).verifier_key + "\n")


def make_root(
    root_key: Annotated[list[str], typer.Option(help="Public half of a key that signs roots; at least two.")],
    release_key: Annotated[list[str], typer.Option(help="Public half of a key that signs bundles.")],
    out: Annotated[Path, typer.Option(help="The new file.")],
    key: KeyFileOption,
    version: Annotated[int, typer.Option("--root-version", help="One more than the root before.", min=1)] = 1,
    threshold: Annotated[int, typer.Option(help="How many root keys must sign.", min=2)] = 2,
    expires: Annotated[str | None, typer.Option(help="Last day, YYYY-MM-DD (default: in two years).")] = None,
) -> None:
    """Write a root, which names the keys that make releases, with a first signature.

    \b
    Example: appliance bundle root --root-key A --root-key B --root-key C --release-key R --key a.key --out root
    """
    from appliance.service.bundle.release_keys import RootPlan, read_key, root_text, sign_text

    with reported():
        until = _day(expires, 2 * _YEAR_DAYS)
        text = root_text(RootPlan(version, until, threshold, tuple(root_key), tuple(release_key)))
        _write_new(out, sign_text(text, [read_key(key)]))
    say(f"{out} has one signature of {threshold}; the others: appliance bundle sign-root {out} --key FILE")


def sign_root(
    file: Annotated[Path, typer.Argument(help="The root's file; it gets one more signature.", dir_okay=False)],
    key: KeyFileOption,
) -> None:
    """Put another signature under a root, or under the next one with a key of the root before.

    Example: appliance bundle sign-root root --key /media/safe/root-ben.key
    """
    from appliance.service.bundle import bundleverify
    from appliance.service.bundle.release_keys import add_signature, read_key, read_note_file

    with reported():
        note = add_signature(read_note_file(file), read_key(key))
        file.write_text(note)
        root = bundleverify.Root(note.encode())
        signers = sorted(bundleverify.good_signers(root.text, root.signatures, root.keys["root"]))
    say(f"signed by {', '.join(signers)}; {root.threshold} are needed")
    print_text(f"{root.fingerprint}\n")


def create(
    out: Annotated[Path, typer.Option(help="Folder for the bundle.", file_okay=False, exists=True)],
    serial: Annotated[int, typer.Option(help="Number of this bundle, larger than every one before.", min=1)],
    key: KeyFileOption,
    root: Annotated[Path, typer.Option(help="The signed root.", dir_okay=False)],
    wheels: Annotated[Path, typer.Option(help="Folder of packages, from `make wheelhouse`.", file_okay=False)],
    installer: Annotated[Path, typer.Option(help="The install.sh of this release.", dir_okay=False)],
    base_model: Annotated[Path | None, typer.Option(help="Folder with model.safetensors and vocab.txt.")] = None,
    model: Annotated[
        list[Path] | None, typer.Option(help="Folder that `appliance models export` wrote; may be given again.")
    ] = None,
    specialist: Annotated[list[Path] | None, typer.Option(help="A specialist file; may be given again.")] = None,
    deb: Annotated[list[Path] | None, typer.Option(help="A Debian package; may be given again.")] = None,
    runtime: Annotated[Path | None, typer.Option(help="A relocatable Python, as a tar.gz.")] = None,
    gpu_pack: Annotated[
        list[Path] | None, typer.Option(help="From `make gpu-pack-cuda` or `-vulkan`; may be given again.")
    ] = None,
    arch: Annotated[str, typer.Option(help="Processor, as `uname -m` says it.")] = "x86_64",
    glibc: Annotated[str, typer.Option(help="Lowest glibc.")] = "2.34",
    python: Annotated[str, typer.Option(help="Python that the packages are for.")] = "3.11",
    min_from: Annotated[int, typer.Option(help="Lowest installed serial that may be upgraded.", min=0)] = 0,
    expires: Annotated[str | None, typer.Option(help="Out of date after, YYYY-MM-DD (default: in a year).")] = None,
    update_from: Annotated[
        list[Path] | None, typer.Option(help="MANIFEST of a bundle the machines have: its files are left out.")
    ] = None,
    split: Annotated[str | None, typer.Option(help="Largest file, for small media: 4G, 650M.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Write one signed file with packages, models and lists of what is in it, on a connected machine.

    \b
    Example: appliance bundle create --out . --serial 17 --key r --root root --wheels wheelhouse --installer install.sh
    """
    from appliance.service.bundle.contents import gather
    from appliance.service.bundle.create import BundlePlan, create_bundle, hashes_of
    from appliance.service.bundle.release_keys import read_key, read_note_file

    with reported():
        plan = BundlePlan(
            __version__, serial, arch, glibc, python, min_from, datetime.now(UTC).date(), _day(expires, _YEAR_DAYS)
        )
        known = frozenset().union(*(hashes_of(read_note_file(path)) for path in update_from or ()))
        contents = gather(
            wheels=wheels,
            installer=installer,
            base_model=base_model,
            models=model or (),
            specialists=specialist or (),
            debs=deb or (),
            runtime=runtime,
            gpu_packs=gpu_pack or (),
        )
        with working() as step:
            made = create_bundle(
                contents,
                plan,
                read_key(key),
                read_note_file(root),
                out,
                known=known,
                part_bytes=_bytes(split) if split else None,
                progress=step,
            )
    if as_json:
        print_json({"path": str(made.path), "parts": len(made.parts), "bytes": made.size, "files": made.files})
        return
    print_text(f"{made.path}\n")
    say(f"{made.files} files ({made.left_out} left out), {made.size / 2**20:.1f} MiB, {len(made.parts) or 1} file(s)")
    say(f"install.sh of this release, to be compared before it is run: sha256 {made.installer_sha256}")


def verify(
    source: Annotated[Path, typer.Argument(help="The bundle, its list of parts, or the folder with it.")],
    root: Annotated[Path | None, typer.Option(help="The root that you trust.", dir_okay=False)] = None,
    fingerprint: Annotated[str | None, typer.Option(help="Or its fingerprint, from paper.")] = None,
    previous: Annotated[Path | None, typer.Option(help="For an update: the files of the bundle before.")] = None,
    as_json: JsonOption = False,
) -> None:
    """Verify every signature and hash of a bundle. Exit status 4: do not install it. 3: it is for another machine.

    Example: appliance bundle verify /media/usb --fingerprint 0b6f-1c2a-…
    """
    from appliance.service.bundle.gpu_packs import read_pack, told

    with tempfile.TemporaryDirectory(prefix="bundle-") as folder, reported():
        words = ["stage", str(source), "--stage", f"{folder}/stage", "--trust", f"{folder}/trust"]
        options = (("--root", root), ("--fingerprint", fingerprint), ("--previous", previous))
        said = _verifier(*words, *(word for name, value in options if value for word in (name, str(value))))
        packs = [told(read_pack(path).manifest) for path in sorted(Path(folder, "stage", "gpu-packs").glob("*"))]
    for warning in said["warnings"]:
        say(f"warning: {warning}")
    if as_json:
        print_json(said | {"gpu_packs": packs})
        return
    print_text(f"verified: {said['product']} {said['version']}, serial {said['serial']}, {said['files']} files\n")
    for pack in packs:
        print_text(f"GPU pack: {pack}\n")


def show(
    source: Annotated[Path, typer.Argument(help="The bundle, its list of parts, or the folder with it.")],
    as_json: JsonOption = False,
) -> None:
    """Show what a bundle says of itself. Verifies nothing.

    Example: appliance bundle show /media/usb
    """
    with reported():
        said = _verifier("show", str(source))
    if as_json:
        print_json(said)
        return
    fields = (
        "product",
        "version",
        "serial",
        "arch",
        "glibc",
        "python",
        "min_from",
        "created",
        "expires",
        "fingerprint",
    )
    for name in fields:
        print_text(f"{name:12} {said[name]}\n")
    packs = [entry["path"].split("/")[1] for entry in said["files"] if entry["path"].startswith("gpu-packs/")]
    print_text(f"{'gpu packs':12} {', '.join(packs) or 'none'}\n")
    print_table(("size", "file"), [(entry["size"], entry["path"]) for entry in said["files"]])


def _verifier(*words: str) -> dict[str, Any]:
    """What the stand-alone verifier says; it is a program of its own, and runs as one."""
    program = Path(__file__).parents[1] / "service" / "bundle" / "bundleverify.py"
    done = subprocess.run([sys.executable, "-I", str(program), *words], capture_output=True, text=True, check=False)
    if done.returncode == 0:
        said: dict[str, Any] = json.loads(done.stdout)
        return said
    found = re.match(r"bundle: error: (.*)\nhint: (.*)\n", done.stderr)
    if found is None:
        raise InvalidRequest("the verifier gave no verdict", hint="run bundleverify.py by hand")
    error = BundleRefused(found[1], hint=found[2])
    say(f"appliance: error: {error.message}\nhint: {error.hint}")
    raise typer.Exit(done.returncode if done.returncode in (3, 4, 5) else exit_code_of(error))


def _day(text: str | None, days: int) -> date:
    try:
        return date.fromisoformat(text) if text else datetime.now(UTC).date() + timedelta(days=days)
    except ValueError:
        raise InvalidRequest(f"{text!r} is not a day", hint="write it as 2027-12-31") from None


def _bytes(text: str) -> int:
    found = re.fullmatch(r"([1-9][0-9]{0,8})([KMG]?)", text.upper())
    if found is None or int(found[1]) * _UNITS[found[2]] < _UNITS["K"]:
        raise InvalidRequest(f"{text!r} is no size", hint="as: 4G, 650M")
    return int(found[1]) * _UNITS[found[2]]


def _write_new(path: Path, text: str) -> None:
    try:
        with path.open("x") as file:
            file.write(text)
    except OSError as error:
        raise InvalidRequest(f"cannot write {path}: {error.strerror}", hint="name another file") from None
