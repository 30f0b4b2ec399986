"""A machine of a test's own, without a virtual one: namespaces with their own /etc, /opt, /srv, /run, packages,
processes and no network, in which the installer finds "systemd" and installs its service for a user that it makes.

    with machine(tmp_path, home) as site:
        site.install()                                     # the product of this checkout, as a service
        site.run("/opt/cloister/bin/appliance", "doctor")

`systemctl` is `systemctl_stand_in.py`, which does with a unit what this needs of systemd: it starts what the unit says,
as the user that it says, with the credentials that it names, unsealed by the real `systemd-creds`. Nothing outside of
the namespaces is written but `folder`; what runs inside ends with it. It takes root.
"""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

from tests.conftest import link_or_copy
from tests.e2e.sites import configure
from tests.install.install_site import HOSTNAME, SCRIPT, VERSION, write_wheel

PREFIX, DATA, USER, PORT = "/opt/cloister", "/srv/cloister", "cloister-ward", 8948
CREDENTIAL = "/etc/cloister/credentials/cloister-root-key"
STEPS = "/root/cloister-next-steps.txt"
HOST_KEY = "/var/lib/systemd/credential.secret"
APPLIANCE = f"{PREFIX}/bin/appliance"
OPTIONS = ["--prefix", PREFIX, "--data-dir", DATA, "--user", USER, "--port", str(PORT), "--yes"]
ENVIRONMENT = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "HOME": "/root"}
PACKAGES = [path for path in sys.path if path.endswith("site-packages")]

SETUP = r"""
set -eu
folder=$1 source=$2 raise_loopback=$3
shift 3
mount --make-rprivate /
mkdir -p "$folder/root" "$folder/old-root" "$folder/opt" "$folder/srv" "$folder/systemd"
mount --rbind /root "$folder/old-root"
for path in /root/* /root/.[!.]*; do [ ! -e "$path" ] || ln -s "$folder/old-root/${path##*/}" "$folder/root/"; done
cp -a /etc "$folder/etc"
mount --bind "$folder/etc" /etc
mount --bind "$folder/root" /root
mount --bind "$folder/opt" /opt
mount --bind "$folder/srv" /srv
mount --bind "$folder/systemd" /var/lib/systemd
cp -a /var/lib/dpkg "$folder/dpkg"
mount --bind "$folder/dpkg" /var/lib/dpkg
mount -t tmpfs tmpfs /var/log
mount --bind "$folder/sbin" /usr/local/sbin
mount -t tmpfs -o mode=755 tmpfs /run
mount -t tmpfs -o mode=755 tmpfs /mnt
mkdir -p /run/systemd/system /run/lock /mnt/source
mount --rbind "$source" /mnt/source
for packages; do
    number=$((${number:-0} + 1))
    mkdir "/mnt/packages-$number"
    mount --rbind "$packages" "/mnt/packages-$number"
done
/usr/bin/python3 -c "$raise_loopback"
echo ready
read -r _ || true
"""
RAISE_LOOPBACK = (
    "import fcntl, socket, struct; s = socket.socket(); r = struct.pack('16sh22x', b'lo', 1); fcntl.ioctl(s, 0x8914, r)"
)


@dataclass(frozen=True)
class Machine:
    """Commands run in it by `run`; `folder` holds what it writes."""

    folder: Path
    process: int

    def run(self, *words: str, stdin: str = "", timeout_s: float = 600) -> subprocess.CompletedProcess[str]:
        return subprocess.run(
            [*self._enter(), *words], input=stdin, capture_output=True, text=True, timeout=timeout_s, env=ENVIRONMENT
        )

    def talk(self, *words: str) -> subprocess.Popen[str]:
        """A command that is read from and written to while it runs."""
        pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.DEVNULL}
        return subprocess.Popen([*self._enter(), *words], **pipes, text=True, env=ENVIRONMENT)

    def _enter(self) -> list[str]:
        return ["nsenter", "--target", str(self.process), "--mount", "--net", "--pid", "--"]

    def installer(self, verb: str, *options: str, stdin: str = "") -> subprocess.CompletedProcess[str]:
        return self.run("sh", "/mnt/source/install.sh", verb, *OPTIONS, *options, stdin=stdin)

    def install(self, *options: str) -> subprocess.CompletedProcess[str]:
        return self.installer("install", "--wheels", "/opt/wheels", *options)

    def purge(self) -> subprocess.CompletedProcess[str]:
        return self.installer("uninstall", "--purge", "--confirm", HOSTNAME)

    def exists(self, path: str) -> bool:
        return self.run("test", "-e", path).returncode == 0

    def serves(self) -> bool:
        return self.run("systemctl", "is-active", "--quiet", "cloister.service").returncode == 0


@contextmanager
def machine(folder: Path, home: Path | None = None) -> Iterator[Machine]:
    """One with the packages of this checkout in /opt/wheels and, of `home`, a finished data folder."""
    assert os.geteuid() == 0, "namespaces with a file system of their own take root"
    (folder / "sbin").mkdir()
    shutil.copy(Path(__file__).with_name("systemctl_stand_in.py"), folder / "sbin" / "systemctl")
    write_product(folder / "opt" / "wheels")
    words = ["sh", "-c", SETUP, "sh", str(folder), str(SCRIPT.parent), RAISE_LOOPBACK, *PACKAGES]
    unshare = ["unshare", "--mount", "--net", "--pid", "--fork", "--mount-proc", "--kill-child"]
    holder = subprocess.Popen([*unshare, *words], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    try:
        assert holder.stdout.readline() == "ready\n"
        (child,) = Path(f"/proc/{holder.pid}/task/{holder.pid}/children").read_text().split()
        made = Machine(folder, int(child))
        if home is not None:
            shutil.copytree(home, folder / "srv" / "cloister", copy_function=link_or_copy)
            configure(folder / "srv" / "cloister")
            assert made.run("useradd", "--system", "--user-group", "--no-create-home", USER).returncode == 0
            assert made.run("chown", "-R", f"{USER}:{USER}", DATA).returncode == 0
        yield made
    finally:
        holder.kill()
        holder.wait()
        holder.stdin.close()
        holder.stdout.close()


def write_product(folder: Path) -> None:
    """A package of two lines: where this checkout and its packages lie in the machine."""
    folder.mkdir(parents=True)
    product = {
        "cloister_release.pth": "/mnt/source\n" + "".join(f"/mnt/packages-{n + 1}\n" for n in range(len(PACKAGES))),
        f"cloister_appliance-{VERSION}.dist-info/entry_points.txt": "[console_scripts]\n"
        "appliance = appliance.cli.main:main\n",
    }
    write_wheel(folder, "cloister_appliance", VERSION, product)
    write_wheel(folder, "llama_cpp_python", "0.3.36", {"not_used.py": ""})
