"""An offline bundle small enough for a test: stand-in packages under the real names, made here, byte for byte.

The installer cannot tell them from the real ones: pip installs them into a real virtual environment and they bring an
`appliance` command that makes a data folder and answers `doctor`. `test_install_for_real.py` uses the real packages.
"""

import base64
import getpass
import hashlib
import os
import re
import subprocess
import zipfile
from dataclasses import dataclass
from pathlib import Path

SCRIPT = Path(__file__).parents[2] / "install.sh"
VERSION = re.search(r'__version__ = "(.+)"', (SCRIPT.parent / "appliance" / "__init__.py").read_text())[1]
HOSTNAME = os.uname().nodename
PURGE = ("--purge", "--yes", "--confirm", HOSTNAME)

# The stand-in command: as much of the contract of `appliance` as the installer relies on.
COMMAND = r"""
import os, pathlib, sys, time

def main():
    command = sys.argv[1:]
    if command == ["--version"]:
        return print("@VERSION@")
    home = pathlib.Path(os.environ["APPLIANCE_HOME"])
    with open(home.parent / "calls.txt", "a") as calls:
        calls.write(" ".join(command) + "\n")
    if command[0] == "init":
        (home / "keys").mkdir(parents=True, exist_ok=True)
        (home / "run").mkdir(exist_ok=True)
        (home / "keys" / "root.key").write_text("not for the installer")
        (home / "home.json").write_text("{}")
    elif command[0] == "doctor":
        if "--egress" in command:
            open_way = (home.parent / "open-way").exists()
            print("PASS  tcp: refused")
            print(f"egress {'open' if open_way else 'blocked'}; record 7 of the log says so")
            sys.exit(open_way)
        if "--capacity" in command:
            print("this machine serves 5 people at once at 8 tokens a second or more")
            return
        unwell = (home.parent / "unwell").exists()
        print("FAIL  disk" if unwell else "PASS  disk")
        print("PASS  engine: CPU: no GPU backend; isolation: no network")
        print("PASS  specialists: 2 of 2 answered")
        sys.exit(unwell)
    elif command[:2] == ["backup", "create"]:
        if "--to" not in command:
            sys.exit("appliance: error: no folder for backups is known")
        print(command[-1] + "/one.cloister-backup")
    elif command == ["audit", "verify"]:
        print("   ok: 7 records")
    elif command[0] == "tls":
        tls = home / "tls"
        tls.mkdir(exist_ok=True)
        if command[1] == "create":
            (tls / "server.pem").write_text("made here")
            (tls / "authority.pem").write_text("the site's")
            (tls / "authority.names").write_text(command[2] + "\n")
        elif command[1] == "use":
            (tls / "server.pem").write_text(pathlib.Path(command[2]).read_text())
            (tls / "server.key").write_text(pathlib.Path(command[3]).read_text())
        else:
            print("names        somewhere\nuntil        2027-12-28\nfingerprint  AB:CD")
    elif command[0] == "serve" and (home.parent / "stays").exists():
        time.sleep(200)
    elif command == ["users", "setup-link"]:
        print("/setup#one-time-secret")
"""


# The stand-in judge of GPU packs: a pack is fit if it says so.
GPU_JUDGE = """
import pathlib, sys

said = (pathlib.Path(sys.argv[1]) / "pack.json").read_text().strip()
print(said)
sys.exit(said != "fit")
"""


def write_wheel(folder: Path, name: str, version: str, files: dict[str, str]) -> None:
    """A wheel without dependencies (PEP 427): files, metadata and their hashes."""
    info = f"{name}-{version}.dist-info"
    contents = {
        **files,
        f"{info}/METADATA": f"Metadata-Version: 2.1\nName: {name}\nVersion: {version}\n",
        f"{info}/WHEEL": "Wheel-Version: 1.0\nGenerator: tests\nRoot-Is-Purelib: true\nTag: py3-none-any\n",
    }
    record = ""
    with zipfile.ZipFile(folder / f"{name}-{version}-py3-none-any.whl", "w") as wheel:
        for path, text in contents.items():
            digest = base64.urlsafe_b64encode(hashlib.sha256(text.encode()).digest()).rstrip(b"=").decode()
            record += f"{path},sha256={digest},{len(text.encode())}\n"
            wheel.writestr(zipfile.ZipInfo(path), text)
        wheel.writestr(zipfile.ZipInfo(f"{info}/RECORD"), record + f"{info}/RECORD,,\n")


def write_wheelhouse(folder: Path) -> Path:
    """What `pip wheel` would make of the checkout, in small."""
    folder.mkdir()
    entry = f"cloister_appliance-{VERSION}.dist-info/entry_points.txt"
    product = {
        "appliance/engine/gpu_pack.py": GPU_JUDGE,
        "stand_in.py": COMMAND.replace("@VERSION@", VERSION),
        entry: "[console_scripts]\nappliance = stand_in:main\n",
    }
    write_wheel(folder, "cloister_appliance", VERSION, product)
    write_wheel(folder, "llama_cpp_python", "0.3.36", {"llama_cpp.py": ""})
    return folder


def snapshot(folder: Path) -> dict[str, tuple]:
    """Everything below a folder that a change would show in: kind, mode, size, time of change, target of a link."""
    found = {}
    for path in sorted(folder.rglob("*")):
        status = path.lstat()
        target = path.readlink() if path.is_symlink() else None
        found[str(path.relative_to(folder))] = (status.st_mode, status.st_size, status.st_mtime_ns, target)
    return found


@dataclass(frozen=True)
class Site:
    """A place to install into, and the installer called for it: never another user, a service or a network."""

    folder: Path
    wheels: Path

    @property
    def prefix(self) -> Path:
        return self.folder / "program"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def manifest(self) -> Path:
        return self.prefix / ".installed"

    def command(self, verb: str, *options: str) -> list[str]:
        command = ["sh", str(SCRIPT), verb, "--prefix", str(self.prefix), "--data-dir", str(self.data)]
        command += ["--user", getpass.getuser(), "--no-service", "--port", "8943", "--wheels", str(self.wheels)]
        return [*command, *options]

    def run(self, verb: str, *options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            self.command(verb, *options),
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            cwd=self.folder,
            # A setting that would lead pip elsewhere: offline, the installer must not heed it.
            env={"PATH": os.environ["PATH"], "HOME": str(self.folder), "PIP_FIND_LINKS": "/nowhere"},
        )

    def calls(self) -> list[str]:
        """What the installer asked of the `appliance` command."""
        return (self.folder / "calls.txt").read_text().splitlines()
