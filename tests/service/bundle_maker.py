"""A maker of bundles for tests: three people with root keys, a release key, and packages small enough for a test."""

import json
import subprocess
import sys
from dataclasses import dataclass, field
from datetime import date
from pathlib import Path

from appliance.service.bundle import bundleverify
from appliance.service.bundle.contents import gather
from appliance.service.bundle.create import BundlePlan, create_bundle
from appliance.service.bundle.release_keys import ReleaseKey, RootPlan, create_key, root_text, sign_text
from tests.install.install_site import SCRIPT, write_wheelhouse

PROGRAM = Path(bundleverify.__file__)
TODAY = "2026-12-01"
ARCH = "x86_64"
# Of the Python that install.sh finds first: stand-in packages are for every one.
PYTHON = subprocess.run(
    ["python3", "-c", "import sys; print('%d.%d' % sys.version_info[:2])"],
    capture_output=True,
    text=True,
    check=True,
    env={"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"},
).stdout.strip()


@dataclass
class Maker:
    """Keys in `folder/keys`; every bundle in a folder of its own."""

    folder: Path
    people: dict[str, ReleaseKey] = field(default_factory=dict)

    def __post_init__(self):
        (self.folder / "keys").mkdir(parents=True)
        for name in ("root-a", "root-b", "root-c", "release-1", "release-2", "stranger"):
            self.people[name] = create_key(self.folder / "keys" / name, name)
        self.wheels = write_wheelhouse(self.folder / "wheels")

    def root(
        self,
        *signers: str,
        version=1,
        expires="2028-01-01",
        release=("release-1",),
        roots=("root-a", "root-b", "root-c"),
    ):
        keys = [tuple(self.people[name].verifier_key for name in names) for names in (roots, release)]
        text = root_text(RootPlan(version, date.fromisoformat(expires), 2, *keys))
        return sign_text(text, [self.people[name] for name in signers or ("root-a", "root-c")])

    def contents(self, **more):
        return gather(wheels=self.wheels, installer=SCRIPT, **more)

    def plan(
        self,
        serial=17,
        arch=ARCH,
        min_from=0,
        created="2026-11-01",
        expires="2027-11-01",
        glibc="2.17",
        python=PYTHON,
    ):
        days = date.fromisoformat(created), date.fromisoformat(expires)
        return BundlePlan("0.1.0", serial, arch, glibc, python, min_from, *days)

    def bundle(
        self, name: str, *, root=None, key="release-1", known=frozenset(), part_bytes=None, contents=None, **plan
    ):
        out = self.folder / name
        out.mkdir()
        return create_bundle(
            contents or self.contents(),
            self.plan(**plan),
            self.people[key],
            root or self.root(),
            out,
            known=known,
            part_bytes=part_bytes,
            progress=lambda _: None,
        )


def fingerprint(root: str) -> str:
    return bundleverify.Root(root.encode()).fingerprint


def verify(source: Path, place: Path, *options: str, today=TODAY, machine=ARCH):
    """`bundleverify stage` as the program that it is; (exit status, what it says, standard error)."""
    command = [sys.executable, "-I", str(PROGRAM), "stage", str(source), "--stage", str(place / "stage")]
    command += ["--trust", str(place / "trust"), "--today", today, "--machine", machine, *options]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120)
    return done.returncode, json.loads(done.stdout) if done.stdout else None, done.stderr


def commit(place: Path):
    command = [
        sys.executable,
        "-I",
        str(PROGRAM),
        "commit",
        "--stage",
        str(place / "stage"),
        "--trust",
        str(place / "trust"),
    ]
    assert subprocess.run(command, capture_output=True, timeout=120).returncode == 0
