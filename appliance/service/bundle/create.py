"""Making a bundle on a connected machine: manifest, signature, one tar file, split if wanted.

    made = create_bundle(contents, plan, release_key, root_note, out, progress=print)

The same inputs give the same bytes: files in order, no times, no owners; a second build can be compared with the first.
"""

from __future__ import annotations

import hashlib
import io
import json
import os
import tarfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime
from pathlib import Path
from tempfile import TemporaryDirectory

from appliance.errors import HomeExists, InvalidRequest
from appliance.service.bundle import bundleverify
from appliance.service.bundle.contents import Contents, notices, requirements, spdx
from appliance.service.bundle.release_keys import ReleaseKey, sign_text

Progress = Callable[[str], None]
BUNDLE_FORMAT = "cloister-bundle/1"
PRODUCT = "cloister-appliance"
_PIECE = 1024 * 1024


@dataclass(frozen=True, slots=True)
class BundlePlan:
    """What a manifest says beside its files. `min_from`: the lowest installed serial that may be upgraded."""

    version: str
    serial: int
    arch: str
    glibc: str
    python: str
    min_from: int
    created: date
    expires: date


@dataclass(frozen=True, slots=True)
class MadeBundle:
    """Where it lies: the bundle, or the list of its parts and the parts."""

    path: Path
    parts: tuple[Path, ...]
    size: int
    files: int
    left_out: int
    installer_sha256: str


def create_bundle(
    contents: Contents,
    plan: BundlePlan,
    key: ReleaseKey,
    root_note: str,
    out: Path,
    *,
    known: frozenset[str] = frozenset(),
    part_bytes: int | None = None,
    progress: Progress,
) -> MadeBundle:
    """Write `<product>-<version>-<serial>-<arch>.bundle` into the folder `out`.

    `known`: SHA-256 of files that the machines have already; they are named and left out. Raises `InvalidRequest`,
    `HomeExists`.
    """
    _check_root(root_note, key)
    _check_plan(plan)
    name = f"{PRODUCT}-{plan.version}-{plan.serial}-{plan.arch}{'-update' if known else ''}.bundle"
    if list(out.glob(name + "*")):
        raise HomeExists(f"{out / name} exists already", hint="a serial is given once; choose the next one")
    try:
        with TemporaryDirectory(prefix=".bundle-", dir=out) as folder:
            files = contents.files | _made(contents, plan, Path(folder))
            progress(f"hashing {len(files)} files")
            manifest = manifest_text(files, plan)
            listed = bundleverify.Manifest(sign_text(manifest, [key]).encode()).files
            wanted = {path: file for path, file in sorted(files.items()) if listed[path][0] not in known}
            progress(f"writing {name}")
            note = sign_text(manifest, [key]).encode()
            part = out / f"{name}.writing"
            try:
                with part.open("xb") as target:
                    _write_tar(target, root_note.encode(), note, wanted)
                    target.flush()
                    os.fsync(target.fileno())
                size = part.stat().st_size
                parts = _split(part, out / name, part_bytes) if part_bytes else ()
                path = out / f"{name}.parts" if parts else out / name
                if not parts:
                    part.replace(path)
            finally:
                part.unlink(missing_ok=True)
    except OSError as error:
        raise InvalidRequest(
            f"cannot make {out / name}: {error.strerror}", hint="free some space there, or name another folder"
        ) from None
    installer = hashlib.sha256(contents.files["install.sh"].read_bytes()).hexdigest()
    return MadeBundle(path, parts, size, len(files), len(files) - len(wanted), installer)


def manifest_text(files: dict[str, Path], plan: BundlePlan) -> str:
    """The text that a release key signs."""
    lines = [
        BUNDLE_FORMAT,
        f"product {PRODUCT}",
        f"version {plan.version}",
        f"serial {plan.serial}",
        f"arch {plan.arch}",
        f"glibc {plan.glibc}",
        f"python {plan.python}",
        f"min-from {plan.min_from}",
        f"created {plan.created.isoformat()}",
        f"expires {plan.expires.isoformat()}",
    ]
    for path, file in sorted(files.items()):
        if not bundleverify.is_path(path):
            raise InvalidRequest(f"{file} has a name that no bundle takes", hint="letters, digits and . _ + ! ~ -")
        with file.open("rb") as opened:
            digest = hashlib.file_digest(opened, "sha256").hexdigest()
        lines.append(f"file {digest} {file.stat().st_size} {path}")
    return "\n".join(lines) + "\n"


def hashes_of(manifest_note: str) -> frozenset[str]:
    """SHA-256 of every file of an earlier bundle, for an update. Raises `InvalidRequest`."""
    try:
        return frozenset(digest for digest, _ in bundleverify.Manifest(manifest_note.encode()).files.values())
    except bundleverify.Refused as refused:
        raise InvalidRequest(refused.message, hint="name the MANIFEST of the bundle before") from None


def _check_root(note: str, key: ReleaseKey) -> None:
    """Nobody makes a bundle that no machine would take."""
    try:
        root = bundleverify.Root(note.encode())
        vouched = root.signed_by(root)
    except bundleverify.Refused as refused:
        raise InvalidRequest(refused.message, hint="name the root that enough people signed") from None
    if not vouched:
        raise InvalidRequest("too few root keys signed this root", hint="appliance bundle sign-root, by each of them")
    if key.verifier_key not in note:
        raise InvalidRequest(f"the root does not name the release key {key.name}", hint="make a root that does")


def _check_plan(plan: BundlePlan) -> None:
    """Nor one that cannot be meant."""
    for name, value in (("arch", plan.arch), ("glibc", plan.glibc), ("python", plan.python)):
        try:
            bundleverify.field(f"{name} {value}", name)
        except ValueError:
            raise InvalidRequest(f"{value!r} is no {name}", hint="letters, digits and . _ : + -") from None
    if plan.min_from > plan.serial:
        raise InvalidRequest(
            f"serial {plan.serial} cannot follow serial {plan.min_from} at the earliest",
            hint="--min-from is the lowest installed serial that may be upgraded",
        )
    if plan.expires < plan.created:
        raise InvalidRequest(f"{plan.expires} is over", hint="a bundle is out of date some time after it was made")


def _made(contents: Contents, plan: BundlePlan, folder: Path) -> dict[str, Path]:
    """The files that follow from the others."""
    created = datetime.combine(plan.created, datetime.min.time(), UTC)
    texts = {
        "requirements.lock": requirements(contents.packages),
        "sbom.spdx.json": json.dumps(spdx(contents.packages, plan.version, created), indent=1) + "\n",
        "NOTICES.txt": notices(contents.packages),
    }
    for name, text in texts.items():
        (folder / name).write_text(text)
    return {name: folder / name for name in texts}


def _write_tar(target: io.BufferedIOBase, root: bytes, manifest: bytes, files: dict[str, Path]) -> None:
    with tarfile.open(fileobj=target, mode="w|", format=tarfile.PAX_FORMAT) as archive:  # type: ignore[call-overload]
        for name, content in ((bundleverify.ROOT, root), (bundleverify.MANIFEST, manifest)):
            archive.addfile(_member(name, len(content)), io.BytesIO(content))
        for path, file in files.items():
            with file.open("rb") as source:
                archive.addfile(_member(path, os.fstat(source.fileno()).st_size), source)


def _member(path: str, size: int) -> tarfile.TarInfo:
    member = tarfile.TarInfo(path)
    member.size, member.mode, member.mtime = size, 0o644, 0
    return member


def _split(whole: Path, name: Path, part_bytes: int) -> tuple[Path, ...]:
    """Parts for small media, and the list that joins them."""
    parts, lines = [], []
    with whole.open("rb") as source:
        for number, piece in enumerate(_parts(source, part_bytes), 1):
            part = name.with_name(f"{name.name}.{number:03d}")
            digest, size = hashlib.sha256(), 0
            with part.open("xb") as target:
                for block in piece:
                    digest.update(block)
                    size += target.write(block)
                target.flush()
                os.fsync(target.fileno())
            parts.append(part)
            lines.append(f"{digest.hexdigest()} {size} {part.name}\n")
    name.with_name(f"{name.name}.parts").write_text("".join(lines))
    return tuple(parts)


def _parts(source: io.BufferedReader, part_bytes: int) -> Iterator[Iterator[bytes]]:
    while source.peek(1):
        yield _blocks(source, part_bytes)


def _blocks(source: io.BufferedReader, left: int) -> Iterator[bytes]:
    while left > 0 and (block := source.read(min(left, _PIECE))):
        left -= len(block)
        yield block
