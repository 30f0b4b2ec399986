"""Installing from a signed bundle, without any network: what is right is installed, upgraded, put back; what is not is
refused with its exit status and remedy before anything was changed, and whatever stops a run half-way, the next one
ends at the same place. The packages are stand-ins, signatures and everything else are real.
"""

import getpass
import json
import os
import re
import shlex
import shutil
import signal
import subprocess
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

import pytest

from appliance.service.bundle import bundleverify
from tests.install.install_site import PURGE, SCRIPT, snapshot
from tests.service.bundle_maker import Maker, fingerprint

ARCH = os.uname().machine
FOREVER = {"expires": "2099-01-01"}


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    return Maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture(scope="module")
def bundles(maker):
    """Bundles by serial, of one root that outlives the test."""
    root = maker.root(**FOREVER)
    made = {}
    for serial in (16, 17, 18):
        plan = {"serial": serial, "arch": ARCH, "created": "2020-01-01", **FOREVER}
        made[serial] = maker.bundle(f"serial-{serial}", root=root, **plan).path
    return made


@dataclass(frozen=True)
class Site:
    """A place to install into; never another user, a service or a network."""

    folder: Path
    fingerprint: str

    @property
    def prefix(self):
        return self.folder / "program"

    @property
    def data(self):
        return self.folder / "data"

    def command(self, verb, *options):
        place = ["--prefix", str(self.prefix), "--data-dir", str(self.data), "--user", getpass.getuser()]
        return ["sh", str(SCRIPT), verb, *place, "--no-service", "--port", "8945", *options]

    def run(self, verb, *options, stdin=""):
        words = self.command(verb, *options)
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "PIP_INDEX_URL": "http://127.0.0.1:9/"}
        return subprocess.run(
            words,
            input=stdin,
            capture_output=True,
            text=True,
            timeout=600,
            check=False,
            cwd=self.folder,
            env=environment,
        )

    def install(self, bundle, *options, verb="install"):
        return self.run(verb, "--yes", "--bundle", str(bundle), "--trust-fingerprint", self.fingerprint, *options)

    def calls(self):
        path = self.folder / "calls.txt"
        return path.read_text().splitlines() if path.exists() else []

    def state(self):
        return json.loads((self.folder / "data.trust" / "state.json").read_text())

    def release(self):
        return (self.prefix / "current").readlink().name


@pytest.fixture
def site(maker, tmp_path):
    return Site(tmp_path, fingerprint(maker.root(**FOREVER)))


def test_from_a_bundle_to_an_installation_that_a_second_run_leaves_alone(site, bundles):
    done = site.install(bundles[17])
    assert done.returncode == 0, done.stdout + done.stderr
    assert "PASS  release 0.1.0, serial 17: signatures valid" in done.stdout
    assert re.fullmatch(r"0\.1\.0-17-[0-9a-f]{12}", site.release())
    assert site.state()["serial"] == 17
    assert sorted(path.name for path in site.prefix.iterdir()) == [
        ".installed", ".settings", "bin", "bundle", "current", "install.sh", "logs", "next-steps.txt", "releases", "run"
    ]  # fmt: skip
    before = snapshot(site.folder)
    again = site.install(bundles[17])
    assert again.returncode == 0 and "no change" in again.stdout
    assert snapshot(site.folder) == before


def test_nobody_vouches_nothing_happens(site, bundles):
    done = site.run("install", "--yes", "--bundle", str(bundles[17]))
    assert done.returncode == 4 and site.fingerprint in done.stderr and "--trust-fingerprint" in done.stderr
    done = site.run("preflight", "--bundle", str(bundles[17]), "--trust-fingerprint", "0" * 64)
    assert done.returncode == 4 and "another fingerprint" in done.stderr
    assert snapshot(site.folder) == {}


def test_scripts_are_told_why_a_bundle_was_refused(site, bundles):
    done = site.run("preflight", "--json", "--bundle", str(bundles[17]))
    said = json.loads(done.stdout)
    assert (done.returncode, said["exit_status"]) == (4, 4)
    assert said["error"].startswith("nothing on this machine vouches for the root")


def test_a_place_that_cannot_be_written_fails_with_its_remedy(site, bundles, tmp_path_factory):
    assert os.geteuid() == 0, "mounting takes root"
    closed = tmp_path_factory.mktemp("closed")
    words = site.command("preflight", "--bundle", str(bundles[17]), "--trust-fingerprint", site.fingerprint)
    script = f"mount -t tmpfs -o ro none {closed}; exec {shlex.join(words)} --prefix {closed}/program"
    done = subprocess.run(["unshare", "--mount", "sh", "-euc", script], capture_output=True, text=True)
    assert done.returncode == 3 and f"{closed}, where the bundle is copied to, is not writable" in done.stderr
    assert "hint: run with sudo, or choose others" in done.stderr


def spoiled(bundles, folder, kind):
    content = bundles[17].read_bytes()
    target = folder / bundles[17].name
    if kind == "half-copied":
        content = content[: len(content) // 2]
    elif kind == "altered":
        place = content.index(b"\n# Installs Cloister")  # inside a file, and not in what pads one
        content = content[:place] + b" " + content[place + 1 :]
    elif kind == "empty":
        content = b""
    target.write_bytes(content)
    return target


@pytest.mark.parametrize("kind", ["half-copied", "altered", "empty"])
@pytest.mark.parametrize("verb", ["preflight", "install"])
def test_a_damaged_bundle_is_refused_and_the_place_untouched(site, bundles, tmp_path_factory, kind, verb):
    bundle = spoiled(bundles, tmp_path_factory.mktemp("usb"), kind)
    done = site.install(bundle, verb=verb)
    assert done.returncode == 4, done.stdout + done.stderr
    assert "hint: " in done.stderr and snapshot(site.folder) == {}


UNFIT = {
    "another processor": (3, {"arch": "sparc64"}, {}),
    "a clock that is behind": (3, {"created": "2098-01-01"}, {}),
    "an expired root": (4, {}, {"expires": "2021-01-01"}),
}


@pytest.mark.parametrize("kind", UNFIT)
def test_a_bundle_that_does_not_fit_is_refused_and_the_place_untouched(maker, tmp_path, kind):
    code, plan, root = UNFIT[kind]
    note = maker.root(**FOREVER | root)
    plan = {"arch": ARCH, "created": "2020-01-01", **FOREVER, **plan}
    bundle = maker.bundle(f"unfit-{code}-{kind.replace(' ', '-')}", root=note, **plan)
    site = Site(tmp_path, fingerprint(note))
    done = site.install(bundle.path)
    assert done.returncode == code and "hint: " in done.stderr, done.stdout + done.stderr
    assert snapshot(tmp_path) == {}


def test_a_bundle_with_packages_for_another_python_fails_unless_it_brings_that_python(maker, tmp_path):
    plan = {"arch": ARCH, "created": "2020-01-01", "python": "3.99", **FOREVER}
    runtime = tmp_path / "python.tar.gz"
    runtime.write_bytes(b"not looked into yet")
    note, place = maker.root(**FOREVER), tmp_path / "site"
    place.mkdir()
    site = Site(place, fingerprint(note))
    done = site.install(maker.bundle("python-3.99", root=note, **plan).path)
    assert done.returncode == 3, done.stdout + done.stderr
    assert re.search(r"^FAIL  .* are for Python 3\.99; there is none.*\n      install that version", done.stdout, re.M)
    brings = maker.bundle("python-3.99-inside", root=note, contents=maker.contents(runtime=runtime), **plan)
    done = site.install(brings.path, verb="preflight")
    assert done.returncode == 0, done.stdout + done.stderr
    assert snapshot(place) == {}


def test_an_upgrade_is_rehearsed_switched_to_and_back_again(site, bundles):
    assert site.install(bundles[17]).returncode == 0
    first, before = site.release(), len(site.calls())
    refused = site.install(bundles[18])
    assert refused.returncode == 3 and "upgrade" in refused.stderr and site.release() == first
    done = site.install(bundles[18], verb="upgrade")
    assert done.returncode == 0, done.stdout + done.stderr
    assert site.calls()[before:][:3] == ["upgrade --rehearse", "upgrade", "doctor"]
    second = site.release()
    assert second.startswith("0.1.0-18-") and (site.prefix / "previous").readlink().name == first
    assert site.state()["serial"] == 18
    older = site.install(bundles[16], verb="upgrade")
    assert older.returncode == 5 and "older than the installed one, 18" in older.stderr
    back = site.run("rollback", "--yes")
    assert back.returncode == 0, back.stdout + back.stderr
    assert site.release() == first and (site.prefix / "previous").readlink().name == second
    (site.folder / "unwell").touch()
    refused = site.run("rollback", "--yes")
    assert refused.returncode == 7 and "lines marked FAIL" in refused.stderr and "appliance restore" in refused.stderr
    assert site.release() == first
    (site.folder / "unwell").unlink()
    assert site.state()["serial"] == 18  # what was trusted once is not forgotten
    assert len(list((site.prefix / "releases").iterdir())) == 2
    (site.prefix / "previous").unlink()
    (site.prefix / "previous").symlink_to((site.prefix / "current").readlink())  # killed in the moment of the switch
    again = site.run("rollback", "--yes")
    assert again.returncode == 3 and f"no release before {first}" in again.stderr and site.release() == first
    remove = site.run("uninstall", *PURGE)
    assert remove.returncode == 0 and sorted(path.name for path in site.folder.iterdir()) == ["calls.txt"]


def test_what_was_said_at_the_installation_holds_at_the_next_run_until_something_else_is_said(site, bundles):
    assert site.install(bundles[17], "--port", "8950", "--backup-dir", str(site.folder / "backups")).returncode == 0
    installed = ["sh", str(site.prefix / "install.sh"), "upgrade", "--yes", "--bundle"]
    told = {"text": True, "capture_output": True, "cwd": "/"}
    done = subprocess.run([*installed, str(bundles[18])], **told)  # the bundle alone
    assert done.returncode == 0, done.stdout + done.stderr
    assert "--port 8950" in (site.prefix / "bin" / "supervise").read_text()
    assert f"backup create --to {site.folder / 'backups'}" in site.calls()
    done = subprocess.run([*installed, str(bundles[18]), "--port", "8951"], **told)
    assert done.returncode == 0 and "--port 8951" in (site.prefix / "bin" / "supervise").read_text()
    assert "port=8951\n" in (site.prefix / ".settings").read_text()


def test_an_upgrade_that_is_not_well_leaves_the_release_before_in_use(site, bundles):
    assert site.install(bundles[17]).returncode == 0
    first, state = site.release(), site.state()
    (site.folder / "unwell").touch()
    done = site.install(bundles[18], verb="upgrade")
    assert done.returncode == 6 and "not healthy" in done.stderr
    assert site.release() == first and site.state() == state
    back = site.run("rollback", "--yes")
    assert back.returncode == 3 and "no release before" in back.stderr
    (site.folder / "unwell").unlink()
    assert site.install(bundles[18], verb="upgrade").returncode == 0


def tree(folder):
    """Every path below, and of files what is in them."""
    found = {path.relative_to(folder).as_posix(): path for path in folder.rglob("*")}
    return {name: path.read_bytes() if path.is_file() else None for name, path in found.items()}


def test_what_uninstalling_leaves_is_what_it_says_and_purging_leaves_nothing(site, bundles):
    before = tree(site.folder)
    assert site.install(bundles[17]).returncode == 0
    assert site.install(bundles[18], verb="upgrade").returncode == 0
    installed = tree(site.folder)
    done = site.run("uninstall", "--yes")
    assert done.returncode == 0, done.stdout + done.stderr
    left = {name: content for name, content in tree(site.folder).items() if name not in before and name != "calls.txt"}
    assert all(content == installed[name] for name, content in left.items())
    said = [Path(line.split()[1].rstrip(":")) for line in done.stdout.splitlines() if line.startswith("  kept ")]
    assert {site.folder / name.split("/")[0] for name in left} == set(said) == {site.data, Path(f"{site.data}.trust")}
    shutil.rmtree(site.data)  # somebody was quicker: what is left is forgotten all the same
    done = site.run("uninstall", *PURGE)
    assert done.returncode == 0, done.stdout + done.stderr
    assert set(tree(site.folder)) - {"calls.txt"} == set(before)


STEPS = [3]  # of six or more; after the program, before it is in use


def kill_at_step(site, verb, bundle, number):
    """SIGKILL when the installer says that it begins its step `number`; what it said, None when there is none."""
    words = site.command(verb, "--yes", "--bundle", str(bundle), "--trust-fingerprint", site.fingerprint)
    with subprocess.Popen(words, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True, cwd=site.folder) as run:
        seen = 0
        for line in run.stdout:
            if line.startswith("  doing  "):
                if seen == number:
                    run.kill()
                    run.communicate()
                    wait_for_what_it_started(site)
                    return line.strip()
                seen += 1
    assert run.returncode == 0
    return None


def wait_for_what_it_started(site):
    """What a killed run started ends by itself, and has its locks meanwhile."""
    for lock in (site.folder, site.prefix):
        if lock.exists():
            subprocess.run(["flock", lock, "true"], check=True, timeout=120)


def installations(site):
    """What is found of an installation, whichever way it came about: names below the prefix, trust and data."""
    found = {path.relative_to(site.folder).as_posix() for path in site.folder.glob("*/*")}
    return found, site.release(), site.state(), {path.name for path in (site.prefix / "releases").iterdir()}


def check_killed(site, verb, bundle, begin, numbers):
    """Killed at each of these steps, which begin at the same place, and run again: the end is the same. The steps."""
    begin()
    assert site.install(bundle, verb=verb).returncode == 0
    expected, steps = installations(site), []
    for number in numbers:
        begin()
        killed = kill_at_step(site, verb, bundle, number)
        if killed is None:
            break
        steps.append(killed)
        done = site.install(bundle, verb=verb)
        assert done.returncode == 0, (killed, done.stdout + done.stderr)
        assert installations(site) == expected, killed
        assert "no change" in site.install(bundle, verb=verb).stdout
    return steps


def empty(site):
    for path in site.folder.iterdir():
        shutil.rmtree(path) if path.is_dir() else path.unlink()


@pytest.mark.parametrize("numbers", [STEPS, pytest.param(range(30), marks=pytest.mark.long)], ids=["some", "every"])
def test_an_install_that_is_killed_at_a_step_is_ended_by_the_next_run(site, bundles, numbers):
    steps = check_killed(site, "install", bundles[17], lambda: empty(site), numbers)
    assert len(steps) >= (1 if numbers == STEPS else 6), steps


@pytest.mark.parametrize("numbers", [STEPS, pytest.param(range(30), marks=pytest.mark.long)], ids=["some", "every"])
def test_an_upgrade_that_is_killed_at_a_step_is_ended_by_the_next_run(site, bundles, numbers, tmp_path_factory):
    assert site.install(bundles[17]).returncode == 0
    before = tmp_path_factory.mktemp("before") / "site"
    subprocess.run(["cp", "-a", site.folder, before], check=True)

    def as_before():
        empty(site)
        subprocess.run(["cp", "-a", f"{before}/.", site.folder], check=True)

    steps = check_killed(site, "upgrade", bundles[18], as_before, numbers)
    assert len(steps) >= (1 if numbers == STEPS else 6), steps


def test_answers_come_from_a_file_and_nothing_is_asked(site, bundles, tmp_path_factory):
    answers = tmp_path_factory.mktemp("answers") / "answers"
    answers.write_text(
        f"# ours\nprefix={site.prefix}\ndata-dir={site.data}\nuser={getpass.getuser()}\nservice=no\nport=8946\n"
        f"bundle={bundles[17]}\ntrust-fingerprint={site.fingerprint}\n"
    )
    done = subprocess.run(
        ["sh", str(SCRIPT), "install", "--answers", str(answers)],
        capture_output=True,
        text=True,
        stdin=subprocess.DEVNULL,
    )
    assert done.returncode == 0, done.stdout + done.stderr
    assert "8946" in (site.prefix / "bin" / "supervise").read_text()
    answers.write_text("colour=blue\n")
    done = site.run("install", "--answers", str(answers))
    assert done.returncode == 2 and "no such answer: colour" in done.stderr


def test_the_verifier_in_the_script_is_the_program_of_the_product():
    text = SCRIPT.read_text()
    inside = text.split("cat <<'VERIFIER'\n", 1)[1].split("\nVERIFIER\n", 1)[0]
    assert inside + "\n" == Path(bundleverify.__file__).read_text()


def test_the_supervisor_starts_the_server_again_and_ends_when_it_is_told(site, bundles):
    assert site.install(bundles[17]).returncode == 0
    before = len(site.calls())
    run = subprocess.Popen(["sh", str(site.prefix / "bin" / "supervise")], stderr=subprocess.PIPE, text=True)
    try:
        for _ in range(2):
            assert "started again" in run.stderr.readline()
        run.terminate()
        assert run.wait(120) == 0
    finally:
        run.kill()
        run.wait()
        run.stderr.close()
    assert site.calls()[before:][:2] == ["serve --port 8945 --no-setup-link"] * 2


def test_the_supervisor_that_is_told_to_end_a_moment_before_it_starts_the_server_ends(site, bundles, tmp_path_factory):
    assert site.install(bundles[17]).returncode == 0
    (site.folder / "stays").touch()
    date = tmp_path_factory.mktemp("programs") / "date"  # what it asks last
    date.write_text(f'#!/bin/sh\nkill -TERM "$PPID"\nexec {shutil.which("date")} "$@"\n')
    date.chmod(0o755)
    words = ["sh", str(site.prefix / "bin" / "supervise")]
    environment = os.environ | {"PATH": f"{date.parent}:{os.environ['PATH']}"}
    run = subprocess.Popen(words, env=environment, start_new_session=True)
    try:
        assert run.wait(120) == 0
    finally:
        with suppress(ProcessLookupError):
            os.killpg(run.pid, signal.SIGKILL)
        run.wait()
