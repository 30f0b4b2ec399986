"""Verify a bundle before anything in it is executed, and put a checked copy of it where only its owner writes.

    python3 bundleverify.py stage SOURCE --stage DIR --trust DIR [--root FILE | --fingerprint HEX] [--previous DIR]
    python3 bundleverify.py commit --stage DIR --trust DIR         # it was put to use: never go back behind it
    python3 bundleverify.py show SOURCE                            # what it says of itself; verifies nothing

One file, Python 3.9 or later, standard library only, no network; `install.sh` carries the same text. SOURCE is a folder
with a MANIFEST, a `.bundle` file, a `.parts` list, or a folder with one of the latter two. Every file is hashed as it
is copied; what is installed is the copy, so that nothing changes between the check and the use. README.md has the
formats.

Exit status: 0 verified · 2 usage · 3 not for this machine, or no room · 4 signature or integrity · 5 an older release
"""

from __future__ import annotations

import argparse
import base64
import binascii
import hashlib
import io
import json
import os
import re
import shutil
import stat
import sys
import tarfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import IO, Any

UNFIT, BROKEN, OLDER = 3, 4, 5
ROOT, MANIFEST = "root", "MANIFEST"
NOTE_BYTES_MAX = 1_000_000
FILES_MAX = 10_000
PIECE = 1024 * 1024
LEFT_FREE_BYTES = 64 * 1024 * 1024
AGAIN = "copy the bundle again, whole"
ELSEWHERE = "take the bundle from where it was made"
PART = re.compile(r"[A-Za-z0-9_+][A-Za-z0-9._+!~-]{0,199}")
KEY_LINE = re.compile(r"(root|release) ([^ +]+)\+([0-9a-f]{8})\+([A-Za-z0-9+/=]+)")
DAY = re.compile(r"20[0-9]{2}-[01][0-9]-[0-3][0-9]")

Entry = tuple[str, int, IO[bytes]]  # path, size, and the bytes to be read once
Point = tuple[int, int, int, int]  # extended coordinates (X, Y, Z, T)


class Refused(Exception):
    """Why nothing was installed: exit status, what is wrong, what to do."""

    def __init__(self, code: int, message: str, hint: str) -> None:
        super().__init__(message)
        self.code, self.message, self.hint = code, message, hint


# --- Ed25519 (RFC 8032), verification only ------------------------------------------------------------------------

P = 2**255 - 19
Q = 2**252 + 27742317777372353535851937790883648493
D = -121665 * pow(121666, P - 2, P) % P
ROOT_OF_MINUS_1 = pow(2, (P - 1) // 4, P)


def add_points(a: Point, b: Point) -> Point:
    """The sum."""
    left, right = (a[1] - a[0]) * (b[1] - b[0]) % P, (a[1] + a[0]) * (b[1] + b[0]) % P
    cross, double = 2 * a[3] * b[3] * D % P, 2 * a[2] * b[2] % P
    e, f, g, h = right - left, double - cross, double + cross, right + left
    return e * f % P, g * h % P, f * g % P, e * h % P


def multiply_point(scalar: int, point: Point) -> Point:
    """`scalar` times `point`."""
    total: Point = (0, 1, 1, 0)
    while scalar:
        if scalar & 1:
            total = add_points(total, point)
        point, scalar = add_points(point, point), scalar >> 1
    return total


def decode_point(data: bytes) -> Point | None:
    """The point of 32 bytes, or None."""
    y = int.from_bytes(data, "little")
    sign, y = y >> 255, y & (2**255 - 1)
    if y >= P:
        return None
    square = (y * y - 1) * pow(D * y * y + 1, P - 2, P) % P
    x = pow(square, (P + 3) // 8, P)
    if (x * x - square) % P:
        x = x * ROOT_OF_MINUS_1 % P
    if (x * x - square) % P or (x == 0 and sign):
        return None
    if x & 1 != sign:
        x = P - x
    return x, y, 1, x * y % P


def verify_signature(public: bytes, message: bytes, signature: bytes) -> bool:
    """Whether `signature` is one of `message` by `public`."""
    if len(public) != 32 or len(signature) != 64:
        return False
    base = decode_point((4 * pow(5, P - 2, P) % P).to_bytes(32, "little"))
    a, r = decode_point(public), decode_point(signature[:32])
    s = int.from_bytes(signature[32:], "little")
    if base is None or a is None or r is None or s >= Q:
        return False
    h = int.from_bytes(hashlib.sha512(signature[:32] + public + message).digest(), "little") % Q
    left, right = multiply_point(s, base), add_points(r, multiply_point(h, a))
    return not ((left[0] * right[2] - right[0] * left[2]) % P or (left[1] * right[2] - right[1] * left[2]) % P)


# --- signed texts -------------------------------------------------------------------------------------------------


def split_note(note: bytes, what: str) -> tuple[str, list[tuple[str, bytes, bytes]]]:
    """Text and (name, key id, signature) of a signed note; verifies nothing."""
    try:
        text, separator, below = note.decode("utf-8").rpartition("\n\n")
        if not separator or len(note) > NOTE_BYTES_MAX or not below.endswith("\n"):
            raise ValueError
        if any(ord(character) < 32 and character != "\n" for character in text + below):
            raise ValueError
        signatures = []
        for line in below[:-1].split("\n"):
            dash, name, encoded = line.split(" ")
            material = base64.b64decode(encoded, validate=True)
            if dash != "\u2014" or len(material) != 68 or base64.b64encode(material).decode() != encoded:
                raise ValueError
            signatures.append((name, material[:4], material[4:]))
    except (UnicodeDecodeError, ValueError, binascii.Error):
        raise Refused(BROKEN, f"the {what} of this bundle is damaged", AGAIN) from None
    return text + "\n", signatures


def good_signers(text: str, signatures: Sequence[tuple[str, bytes, bytes]], keys: Mapping[str, bytes]) -> set[str]:
    """Names of `keys` that signed `text`. A bad signature of a known key spoils everything."""
    good = set()
    for name, identifier, signature in signatures:
        public = keys.get(name)
        if public is None or key_id(name, public) != identifier:
            continue
        if not verify_signature(public, text.encode(), signature):
            raise Refused(
                BROKEN, f"a signature of {name} is not valid", "copy the bundle again; if it stays: report it"
            )
        good.add(name)
    return good


def key_id(name: str, public: bytes) -> bytes:
    """Which key signed."""
    return hashlib.sha256(name.encode() + b"\n\x01" + public).digest()[:4]


class Root:
    """Which keys make releases: version, last day, threshold, {name: public} of root and of release keys."""

    def __init__(self, note: bytes, what: str = "root") -> None:
        self.note = note
        self.text, self.signatures = split_note(note, what)
        lines = self.text.split("\n")[:-1]
        self.keys: dict[str, dict[str, bytes]] = {"root": {}, "release": {}}
        try:
            if lines[0] != "cloister-root/1":
                raise ValueError
            self.version = number(lines[1], "version")
            self.expires = field(lines[2], "expires")
            self.threshold = number(lines[3], "threshold")
            for line in lines[4:]:
                self._take(line)
            if not DAY.fullmatch(self.expires) or not 2 <= self.threshold <= len(self.keys["root"]):
                raise ValueError
            if not self.keys["release"]:
                raise ValueError
        except (IndexError, ValueError, binascii.Error):
            raise Refused(BROKEN, f"the {what} is not one of this format", ELSEWHERE) from None

    def _take(self, line: str) -> None:
        found = KEY_LINE.fullmatch(line)
        if found is None:
            raise ValueError
        kind, name, identifier, encoded = found.groups()
        material = base64.b64decode(encoded, validate=True)
        public, known = material[1:], {**self.keys["root"], **self.keys["release"]}
        if len(material) != 33 or material[:1] != b"\x01" or key_id(name, public).hex() != identifier:
            raise ValueError
        if name in known or public in known.values():
            raise ValueError  # one key under two names would be two of three signatures
        self.keys[kind][name] = public

    @property
    def fingerprint(self) -> str:
        """What people compare: SHA-256 of the text in groups of four."""
        digits = hashlib.sha256(self.text.encode()).hexdigest()
        return "-".join(digits[at : at + 4] for at in range(0, 64, 4))

    def signed_by(self, other: Root) -> bool:
        """Whether enough root keys of `other` signed this one."""
        return len(good_signers(self.text, self.signatures, other.keys["root"])) >= other.threshold


FIELDS = ("product", "version", "serial", "arch", "glibc", "python", "min-from", "created", "expires")


class Manifest:
    """What a bundle holds: `said` its fields, `files` {path: (sha256, size)}."""

    def __init__(self, note: bytes) -> None:
        self.note = note
        self.text, self.signatures = split_note(note, "manifest")
        lines = self.text.split("\n")[:-1]
        self.files: dict[str, tuple[str, int]] = {}
        try:
            if lines[0] != "cloister-bundle/1" or len(lines) <= 1 + len(FIELDS):
                raise ValueError
            self.said = {name: field(lines[1 + at], name) for at, name in enumerate(FIELDS)}
            self.serial, self.min_from = number(lines[3], "serial"), number(lines[7], "min-from")
            if not DAY.fullmatch(self.said["created"]) or not DAY.fullmatch(self.said["expires"]):
                raise ValueError
            for line in lines[1 + len(FIELDS) :]:
                word, digest, size, path = line.split(" ")
                if word != "file" or not re.fullmatch("[0-9a-f]{64}", digest) or not is_path(path):
                    raise ValueError
                if path in self.files or path in (ROOT, MANIFEST) or len(self.files) >= FILES_MAX:
                    raise ValueError
                self.files[path] = (digest, number("size " + size, "size"))
            if list(self.files) != sorted(self.files):
                raise ValueError
        except (IndexError, ValueError):
            raise Refused(BROKEN, "the manifest is not one of this format", ELSEWHERE) from None

    def summary(self, root: Root) -> dict[str, Any]:
        """What is said of it, for people and for `install.sh`."""
        fields: dict[str, Any] = {name.replace("-", "_"): value for name, value in self.said.items()}
        fields.update(serial=self.serial, min_from=self.min_from)
        fields.update(fingerprint=root.fingerprint, root_version=root.version, root_expires=root.expires)
        fields["manifest_sha256"] = hashlib.sha256(self.text.encode()).hexdigest()
        return fields


def field(line: str, name: str) -> str:
    """The value of a line `name value`. Raises `ValueError`."""
    word, space, value = line.partition(" ")
    if word != name or not space or not re.fullmatch(r"[A-Za-z0-9._:+-]{1,100}", value):
        raise ValueError(name)
    return value


def number(line: str, name: str) -> int:
    """The value as a number, in its one spelling. Raises `ValueError`."""
    value = field(line, name)
    if not re.fullmatch(r"0|[1-9][0-9]{0,15}", value):
        raise ValueError(name)
    return int(value)


def is_path(path: str) -> bool:
    """Whether a path stays below its folder on every system."""
    return all(PART.fullmatch(part) for part in path.split("/")) and len(path) <= 400


# --- where a bundle comes from ------------------------------------------------------------------------------------


@contextmanager
def entries_of(source: Path) -> Iterator[Iterator[Entry]]:
    """Everything in a bundle, `root` and `MANIFEST` first."""
    try:
        if source.is_dir():
            inside = sorted(each.name for each in source.iterdir())
            if MANIFEST in inside:
                yield folder_entries(source)
                return
            found = [name for name in inside if name.endswith(".parts")]
            found = found or [name for name in inside if name.endswith(".bundle")]
            if len(found) != 1:
                raise Refused(BROKEN, f"{source} holds no bundle, or several", "name the .bundle or .parts file itself")
            source = source / found[0]
        opened: IO[bytes] = Joined(source) if source.suffix == ".parts" else source.open("rb")  # type: ignore[assignment]
    except OSError as error:
        raise Refused(
            BROKEN, f"cannot read {source}: {error.strerror}", "name the bundle, and check the medium"
        ) from None
    with opened as file:
        yield tar_entries(file)


def folder_entries(source: Path) -> Iterator[Entry]:
    """Regular files below a folder; anything else is refused, wherever it points."""
    listed: list[str] = []
    for place, folders, names in os.walk(source, onerror=walk_failed):
        for name in folders + names:
            path = Path(place, name)
            mode = path.lstat().st_mode
            if stat.S_ISDIR(mode):
                continue
            shown = path.relative_to(source).as_posix()
            if not stat.S_ISREG(mode) or mode & 0o7000:
                raise Refused(BROKEN, f"{shown} is no plain file", ELSEWHERE)
            listed.append(shown)
    for shown in sorted(listed, key=lambda one: ({ROOT: 0, MANIFEST: 1}.get(one, 2), one)):
        try:
            descriptor = os.open(source / shown, os.O_RDONLY | os.O_NOFOLLOW)
        except OSError as error:
            raise Refused(BROKEN, f"cannot read {shown}: {error.strerror}", "check the medium") from None
        with os.fdopen(descriptor, "rb") as file:
            yield shown, os.fstat(file.fileno()).st_size, file


def walk_failed(error: OSError) -> None:
    """A folder that cannot be read is no empty folder."""
    raise Refused(BROKEN, f"cannot read {error.filename}: {error.strerror}", "check the medium") from None


def tar_entries(file: IO[bytes]) -> Iterator[Entry]:
    """Regular files of a tar archive, in its order."""
    try:
        with tarfile.open(fileobj=file, mode="r|", bufsize=PIECE) as archive:
            for member in archive:
                inside = archive.extractfile(member) if member.isreg() and not member.mode & 0o7000 else None
                if inside is None:
                    raise Refused(BROKEN, f"{member.name[:100]} is no plain file", ELSEWHERE)
                yield member.name, member.size, inside
    except (tarfile.TarError, EOFError, ValueError, OverflowError):
        raise Refused(BROKEN, "this is no bundle, or only a piece of one", AGAIN) from None
    except OSError as error:
        raise Refused(BROKEN, f"the medium cannot be read: {error.strerror}", AGAIN) from None


class Joined(io.RawIOBase):
    """The parts of a split bundle, one behind the other: `<sha256> <size> <name>` a line. Read forwards."""

    def __init__(self, path: Path) -> None:
        super().__init__()
        with path.open("rb") as file:
            lines = file.read(NOTE_BYTES_MAX).decode("ascii", "replace").split("\n")[:-1]
        self.waiting: list[Path] = []
        self.file: IO[bytes] | None = None
        for line in lines:
            _, _, rest = line.partition(" ")
            size, _, name = rest.partition(" ")
            if not size.isdigit() or not PART.fullmatch(name):
                raise Refused(BROKEN, f"{path} is no list of parts", "copy it again")
            place = path.parent / name
            if not place.is_file() or place.stat().st_size != int(size):
                raise Refused(BROKEN, f"the part {name} is missing or incomplete", "copy that part again")
            self.waiting.append(place)

    def readable(self) -> bool:
        """As a file."""
        return True

    def read(self, size: int = -1) -> bytes:
        """At most `size` bytes, fewer at the end only."""
        found = b""
        while len(found) < size:
            if self.file is None:
                if not self.waiting:
                    break
                self.file = self.waiting.pop(0).open("rb")
            piece = self.file.read(size - len(found))
            if not piece:
                self.file.close()
                self.file = None
            found += piece
        return found

    def close(self) -> None:
        """Let go of the part that is open."""
        if self.file is not None:
            self.file.close()
        super().close()


# --- the check ----------------------------------------------------------------------------------------------------


def stage(options: argparse.Namespace) -> dict[str, Any]:
    """Verify the bundle and copy it; what `install.sh` needs to know of it."""
    warnings: list[str] = []
    state = read_state(options.trust)
    with entries_of(options.source) as entries:
        root = trusted_root(read_note(entries, ROOT), options)
        manifest = Manifest(read_note(entries, MANIFEST))
        if not good_signers(manifest.text, manifest.signatures, root.keys["release"]):
            raise Refused(BROKEN, "no release key signed this bundle", ELSEWHERE)
        check_fit(manifest, state, options, warnings)
        copy_files(entries, manifest, options)
    for name, note in ((ROOT, root.note), (MANIFEST, manifest.note)):
        write_file(options.stage / name, note)
    sync_folder(options.stage)
    return {
        **manifest.summary(root),
        "files": len(manifest.files),
        "installed_serial": state.get("serial", 0),
        "warnings": warnings,
    }


def read_note(entries: Iterator[Entry], wanted: str) -> bytes:
    """The next entry, which must be that one."""
    for path, size, file in entries:
        if path == wanted and size <= NOTE_BYTES_MAX:
            return read_piece(file, size)
        break
    raise Refused(BROKEN, f"the bundle has no {wanted} where it belongs", AGAIN)


def trusted_root(note: bytes, options: argparse.Namespace) -> Root:
    """The root of the bundle, if what this machine trusts vouches for it."""
    root = Root(note)
    if not root.signed_by(root):
        raise Refused(BROKEN, "too few root keys signed the root", ELSEWHERE)
    before = read_trusted(options)
    if before is None:
        wanted = re.sub("[ -]", "", options.fingerprint or "").lower()
        if not wanted:
            raise Refused(
                BROKEN,
                f"nothing on this machine vouches for the root with the fingerprint {root.fingerprint}",
                "compare it with what you were given on paper, then: --trust-fingerprint FINGERPRINT, or --root FILE",
            )
        if wanted != root.fingerprint.replace("-", ""):
            raise Refused(BROKEN, f"the root has another fingerprint: {root.fingerprint}", "do not install; report it")
    elif root.text != before.text:
        if root.version <= before.version:
            raise Refused(BROKEN, "the root is older than, or contradicts, the one trusted here", "take a newer bundle")
        if not root.signed_by(before):
            raise Refused(BROKEN, "too few keys of the root before signed the new one", "do not install; report it")
    if root.expires < today(options):
        raise Refused(BROKEN, f"the root expired on {root.expires}", "take a bundle with a newer root; check the clock")
    return root


def read_trusted(options: argparse.Namespace) -> Root | None:
    """What vouches: the root that was trusted before, else the file that was given, else nothing."""
    for path, what in ((options.trust / ROOT, "trusted root"), (options.root, "given root")):
        if path is not None and path.exists():
            with path.open("rb") as file:
                return Root(file.read(NOTE_BYTES_MAX), what)
    if options.root is not None:
        raise Refused(BROKEN, f"there is no file {options.root}", "name the root that you were given")
    return None


def check_fit(manifest: Manifest, state: Mapping[str, int], options: argparse.Namespace, warnings: list[str]) -> None:
    """Is it for this machine, and not older than what is installed?"""
    said, day, installed = manifest.said, today(options), state.get("serial", 0)
    if said["product"] != "cloister-appliance":
        raise Refused(UNFIT, f"this bundle is of {said['product']}", "take one of cloister-appliance")
    if said["arch"] != options.machine:
        raise Refused(UNFIT, f"this bundle is for {said['arch']}, this machine is {options.machine}", "take another")
    if day < said["created"]:
        message = f"the clock of this machine says {day}, before the bundle was made ({said['created']})"
        raise Refused(UNFIT, message, "set the clock, then try again")
    libc = os.confstr("CS_GNU_LIBC_VERSION") if "CS_GNU_LIBC_VERSION" in os.confstr_names else None
    if options.machine == os.uname().machine and versions(libc) < versions(said["glibc"]):
        raise Refused(UNFIT, f"glibc {said['glibc']} is needed, this is {libc}", "use a newer distribution")
    if manifest.serial < installed and not options.allow_downgrade:
        raise Refused(
            OLDER,
            f"serial {manifest.serial} is older than the installed one, {installed}",
            "take a newer bundle; to go back on purpose: --allow-downgrade",
        )
    if 0 < installed < manifest.min_from:
        raise Refused(
            UNFIT,
            f"this release follows serial {manifest.min_from} at the earliest, installed is {installed}",
            f"install the bundle with serial {manifest.min_from} first",
        )
    if said["expires"] < day:
        warnings.append(f"the bundle says that it is out of date since {said['expires']}; is there a newer one?")


def copy_files(entries: Iterator[Entry], manifest: Manifest, options: argparse.Namespace) -> None:
    """Copy every file of the manifest into the stage, hashed on the way; nothing more, nothing less."""
    options.stage.mkdir(mode=0o700, parents=True, exist_ok=True)
    if any(options.stage.iterdir()):
        raise Refused(UNFIT, f"{options.stage} is not empty", "empty it, then try again")
    need = sum(size for _, size in manifest.files.values())
    free = shutil.disk_usage(options.stage).free
    if free < need + LEFT_FREE_BYTES:
        message = f"{need >> 20} MiB are needed at {options.stage}, {free >> 20} are free"
        raise Refused(UNFIT, message, "free some space, then try again")
    missing = dict(manifest.files)
    for path, size, file in entries:
        if path not in missing:
            raise Refused(BROKEN, f"{path[:100]} is not in the manifest, or twice in the bundle", ELSEWHERE)
        digest, expected = missing.pop(path)
        if size != expected or copy_hashed(file, options.stage / path, size) != digest:
            raise Refused(BROKEN, f"{path} is not the file that was signed", AGAIN)
    for path, (digest, size) in missing.items():
        place = None if options.previous is None else options.previous / path
        if place is None or place.is_symlink() or not place.is_file() or place.stat().st_size != size:
            others = f" and {len(missing) - 1} more files are" if len(missing) > 1 else " is"
            hint = "this is an incomplete copy, or an update for a release that is not installed here"
            raise Refused(BROKEN, f"{path}{others} missing", hint)
        with place.open("rb") as kept:
            if copy_hashed(kept, options.stage / path, size) != digest:
                raise Refused(BROKEN, f"{place} was altered on this machine", "install from the whole bundle")


def copy_hashed(file: IO[bytes], target: Path, size: int) -> str | None:
    """SHA-256 of what was copied: exactly `size` bytes, else None."""
    digest, left = hashlib.sha256(), size
    try:
        target.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
        with os.fdopen(os.open(target, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600), "wb") as copy:
            while left:
                piece = read_piece(file, min(left, PIECE))
                if not piece:
                    return None
                digest.update(piece)
                copy.write(piece)
                left -= len(piece)
            copy.flush()
            os.fsync(copy.fileno())
    except OSError as error:
        raise Refused(UNFIT, f"cannot write {target}: {error.strerror}", "free some space, then try again") from None
    return digest.hexdigest()


def read_piece(file: IO[bytes], size: int) -> bytes:
    """What a medium gives, or why it does not."""
    try:
        return file.read(size)
    except (OSError, tarfile.TarError) as error:
        raise Refused(BROKEN, f"the bundle cannot be read to its end: {error}", AGAIN) from None


# --- what this machine remembers ----------------------------------------------------------------------------------


def read_state(trust: Path) -> dict[str, int]:
    """Serial and root version that were put to use here; empty before the first."""
    try:
        with (trust / "state.json").open("rb") as file:
            said = json.loads(file.read(4096))
        return {"serial": int(said["serial"]), "root_version": int(said["root_version"])}
    except FileNotFoundError:
        return {}
    except PermissionError:
        raise Refused(UNFIT, f"{trust} cannot be read by this user", "run with sudo") from None
    except (OSError, ValueError, KeyError, TypeError):
        raise Refused(BROKEN, f"{trust}/state.json is damaged", "restore it: it keeps older releases out") from None


def commit(options: argparse.Namespace) -> dict[str, Any]:
    """Remember root and serial of what is staged."""
    root, manifest = Root((options.stage / ROOT).read_bytes()), Manifest((options.stage / MANIFEST).read_bytes())
    options.trust.mkdir(mode=0o700, parents=True, exist_ok=True)
    said = {"serial": manifest.serial, "root_version": root.version, "version": manifest.said["version"]}
    for name, content in ((ROOT, root.note), ("state.json", (json.dumps(said) + "\n").encode())):
        write_file(options.trust / (name + ".new"), content)
        (options.trust / (name + ".new")).replace(options.trust / name)
    sync_folder(options.trust)
    return said


def show(options: argparse.Namespace) -> dict[str, Any]:
    """What a bundle says of itself."""
    with entries_of(options.source) as entries:
        root, manifest = Root(read_note(entries, ROOT)), Manifest(read_note(entries, MANIFEST))
    listed = [{"path": path, "sha256": digest, "size": size} for path, (digest, size) in manifest.files.items()]
    signers = sorted({name for name, _, _ in manifest.signatures})
    return {**manifest.summary(root), "release_keys": signers, "files": listed}


def write_file(path: Path, content: bytes) -> None:
    """Write and sync a small file of our own."""
    with os.fdopen(os.open(path, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "wb") as file:
        file.write(content)
        file.flush()
        os.fsync(file.fileno())


def sync_folder(folder: Path) -> None:
    """Names are on the disk."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def today(options: argparse.Namespace) -> str:
    """The day by this machine's clock, or as given."""
    return options.today or time.strftime("%Y-%m-%d", time.gmtime())


def versions(text: str | None) -> list[int]:
    """The numbers of a version, for comparison."""
    return [int(part) for part in re.findall(r"[0-9]+", text or "0")]


def parse(arguments: Sequence[str] | None) -> argparse.Namespace:
    """The command line."""
    parser = argparse.ArgumentParser(prog="bundleverify", allow_abbrev=False)
    verbs = parser.add_subparsers(dest="verb", required=True)
    for verb in ("stage", "commit", "show"):
        one = verbs.add_parser(verb, allow_abbrev=False)
        if verb != "commit":
            one.add_argument("source", type=Path)
        if verb != "show":
            one.add_argument("--stage", required=True, type=Path)
            one.add_argument("--trust", required=True, type=Path)
        if verb == "stage":
            one.add_argument("--root", type=Path)
            one.add_argument("--fingerprint")
            one.add_argument("--previous", type=Path)
            one.add_argument("--machine", default=os.uname().machine)
            one.add_argument("--allow-downgrade", action="store_true")
            one.add_argument("--today", help="YYYY-MM-DD instead of the machine's clock")
    return parser.parse_args(arguments)


def main(arguments: Sequence[str] | None = None) -> int:
    """The command: JSON on standard output, a refusal in words on standard error."""
    options = parse(arguments)
    try:
        said = {"stage": stage, "commit": commit, "show": show}[options.verb](options)
    except Refused as refused:
        sys.stderr.write(f"bundle: error: {refused.message}\nhint: {refused.hint}\n")
        return refused.code
    except OSError as error:  # of a folder of this machine: what is wrong with a bundle was told above
        sys.stderr.write(f"bundle: error: cannot use {error.filename}: {error.strerror}\n")
        sys.stderr.write("hint: run with sudo, or choose a folder on a disk that can be written and has room\n")
        return UNFIT
    sys.stdout.write(json.dumps(said, indent=1) + "\n")
    return 0


if __name__ == "__main__":
    sys.exit(main())
