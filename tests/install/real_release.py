"""Releases of the product itself for upgrades in a test: real programs, packed so thinly that installing takes seconds.

    site = RealSite(tmp_path, fingerprint(root))
    bundle = release(maker, "n", root, serial=18, edit=add_a_table)

A release is a copy of this checkout, changed by `edit`; its package holds no files but the two lines by which Python
finds that copy and the packages of the environment that runs the tests. Bundle, signatures, pip, virtual environment
and everything that runs afterwards are as anywhere else. `home` is a finished data folder that the installation goes on
with, so that no base model has to be converted.
"""

from __future__ import annotations

import getpass
import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path

import httpx

from appliance.service.bundle.contents import gather
from tests.conftest import link_or_copy
from tests.e2e.sites import PASSWORD, configure, eventually
from tests.install.install_site import SCRIPT, write_wheel
from tests.service.bundle_maker import Maker

Edit = Callable[[Path], None]
FOREVER = {"created": "2020-01-01", "expires": "2099-01-01"}
ROOMS = ("appliance", "ui", "migrations")


def release(maker: Maker, name: str, root: str, *, serial: int, edit: Edit = lambda source: None) -> Path:
    """The signed bundle of a copy of this checkout that `edit` changed."""
    folder = maker.folder / f"{name}-source"
    left_out = shutil.ignore_patterns("__pycache__")
    for room in ROOMS:
        copied = {"copy_function": link_or_copy, "ignore": left_out}
        shutil.copytree(SCRIPT.parent / room, folder / room, **copied)
    edit(folder)
    wheels = maker.folder / f"{name}-wheels"
    wheels.mkdir()
    version = re.search(r'__version__ = "(.+)"', (folder / "appliance" / "__init__.py").read_text())[1]
    product = {
        "cloister_release.pth": f"{folder}\n{packages()}",
        f"cloister_appliance-{version}.dist-info/entry_points.txt": "[console_scripts]\n"
        "appliance = appliance.cli.main:main\n",
    }
    write_wheel(wheels, "cloister_appliance", version, product)
    write_wheel(wheels, "release_marker", "1.0", {f"release_{serial}.py": f"# {name}\n"})
    contents = gather(wheels=wheels, installer=SCRIPT)
    return maker.bundle(name, root=root, contents=contents, serial=serial, arch=os.uname().machine, **FOREVER).path


def packages() -> str:
    """Where the environment that runs the tests has its packages."""
    return "".join(f"{path}\n" for path in sys.path if path.endswith("site-packages"))


def replace(path: Path, before: str, after: str) -> None:
    """An edit of one place, which must be there."""
    text = path.read_text()
    assert text.count(before) == 1, (path, before)
    path.write_text(text.replace(before, after))


def migrating(oldest: str) -> Edit:
    """A release with one more revision of the tables; `oldest`: which release can still work on them."""

    def edit(source: Path) -> None:
        revisions = source / "appliance" / "storage" / "revisions.py"
        (head,) = re.findall(r'"(\w+)"\)  # oldest first', revisions.read_text())
        replace(revisions, f'"{head}")', f'"{head}", "0099_next")')
        script = source / "migrations" / "versions" / "0099_next.py"
        script.write_text(
            "import sqlalchemy as sa\nfrom alembic import op\n\n"
            f'revision, down_revision, branch_labels, depends_on = "0099_next", "{head}", None, None\n'
            f"oldest = {oldest.format(head=head)!r}\n\n\n"
            "def upgrade(database):\n"
            '    if database == "app":\n'
            '        op.add_column("account", sa.Column("wing", sa.Text()))\n'
        )

    return edit


@dataclass
class RealSite:
    """An installation of real releases below `folder`, without a service, on a port of its own."""

    folder: Path
    fingerprint: str
    port: int

    @property
    def prefix(self) -> Path:
        return self.folder / "program"

    @property
    def data(self) -> Path:
        return self.folder / "data"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}"

    def take_home(self, home: Path) -> None:
        """The data folder of an earlier installation, with a light configuration."""
        shutil.copytree(home, self.data, copy_function=link_or_copy)
        configure(self.data)

    def command(self, verb: str, *options: str | Path) -> list[str]:
        place = ["--prefix", str(self.prefix), "--data-dir", str(self.data), "--no-service"]
        place += ["--user", getpass.getuser(), "--port", str(self.port)]
        return ["sh", str(SCRIPT), verb, "--yes", *place, *map(str, options)]

    def run(self, verb: str, *options: str | Path, bundle: Path | None = None) -> subprocess.CompletedProcess[str]:
        words = [*options]
        if bundle is not None:
            words += ["--bundle", bundle, "--trust-fingerprint", self.fingerprint]
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder)}
        return subprocess.run(
            self.command(verb, *words),
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            cwd=self.folder,
            env=environment,
        )

    def appliance(self, *words: str) -> subprocess.CompletedProcess[str]:
        command = [str(self.prefix / "bin" / "appliance"), *words]
        return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)

    def release(self) -> str:
        return (self.prefix / "current").readlink().name

    @contextmanager
    def supervised(self) -> Iterator[subprocess.Popen]:
        """The server in the foreground, as in a container; it must still be there, and end when it is told."""
        with (self.folder / "supervise.log").open("ab") as output:
            run = subprocess.Popen(["sh", str(self.prefix / "bin" / "supervise")], stdout=output, stderr=output)
        try:
            eventually(self.answers, "the server answers")
            yield run
            run.send_signal(signal.SIGTERM)
            assert run.wait(120) == 0
        finally:
            if run.poll() is None:
                run.terminate()
                run.wait(120)

    def answers(self) -> bool:
        try:
            return httpx.get(f"{self.url}/readyz", trust_env=False, timeout=5).status_code == 200
        except httpx.HTTPError:
            return False

    def become_administrator(self) -> None:
        link = self.appliance("users", "setup-link").stdout.strip().splitlines()[0]
        body = {"token": link.partition("#")[2], "username": "ana", "password": PASSWORD}
        assert httpx.post(f"{self.url}/v1/setup", json=body, trust_env=False, timeout=120).status_code == 201

    @contextmanager
    def client(self) -> Iterator[httpx.Client]:
        with httpx.Client(base_url=self.url, trust_env=False, timeout=60) as client:
            answer = client.post("/v1/sessions", json={"username": "ana", "password": PASSWORD})
            assert answer.status_code == 200, answer.text
            client.headers["X-CSRF-Token"] = answer.json()["csrf"]
            yield client
