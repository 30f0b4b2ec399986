"""A call that cannot be meant is refused with status 2 and a hint, before anything is looked at or touched; the help
names every verb and option that the script reads. The script is POSIX: every shell here that is not bash reads it too.
"""

import json
import os
import re
import shutil
import subprocess
from pathlib import Path

import pytest

from tests.install.install_site import SCRIPT, Site, snapshot

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]


def call(*arguments: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    command = [shell, "sh"] if shell == "busybox" else [shell]
    return subprocess.run([*command, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=120, check=False)


@pytest.mark.parametrize("shell", SHELLS)
def test_the_help_names_every_verb_and_option(shell: str) -> None:
    done = call("--help", shell=shell)
    assert (done.returncode, done.stderr) == (0, "")
    reading = SCRIPT.read_text().split("read_arguments() {")[1].split("\n}\n")[0]
    words = set(re.findall(r"--[a-z-]+\b", reading)) | {"preflight", "install", "uninstall", "unit"}
    assert {word for word in words if word not in done.stdout} == set()


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        ((), "a verb is missing"),
        (("renovate",), "unknown verb or option: renovate"),
        (("install", "--force"), "unknown verb or option: --force"),
        (("install", "uninstall"), "two verbs"),
        (("install", "--prefix"), "--prefix needs a value"),
        (("install", "--prefix", "/"), "/ is not a folder of its own"),
        (("install", "--prefix", "/opt/../"), "/ is not a folder of its own"),
        (("install", "--prefix", "/opt/a b"), "--prefix: use letters"),
        (("install", "--prefix", "/opt/a\nExecStart=/bin/sh"), "--prefix: use letters"),
        (("install", "--data-dir", "/srv/$(id)"), "--data-dir: use letters"),
        (("install", "--prefix", "/opt/c", "--data-dir", "/opt/c/data"), "neither may lie in the other"),
        (("install", "--prefix", "/srv/c/program", "--data-dir", "/srv/c"), "neither may lie in the other"),
        (("install", "--prefix", "/srv/c", "--data-dir", "/srv/./c/"), "neither may lie in the other"),
        (("install", "--user", "a;b"), "--user a;b"),
        (("install", "--user", "-x"), "--user -x"),
        (("install", "--port", "443"), "not a number from 1024 to 65535"),
        (("install", "--port", "65536"), "not a number from 1024 to 65535"),
        (("install", "--port", "http"), "not a number from 1024 to 65535"),
        (("install", "--purge"), "--purge belongs to uninstall"),
        (("uninstall", "--purge", "--yes"), "--confirm HOSTNAME"),
        (("install", "--host", "ward3;id"), "--host ward3;id: a name or an address"),
        (("install", "--host", "ward3..example"), "a name or an address"),
        (("install", "--host", "ward3.example."), "a name or an address"),
        (("install", "--dry-run", "--answers", "/"), "--answers: cannot read /"),
        (("install", "--allow-from", "any"), "a network, as 10.20.0.0/16"),
        (("install", "--tls-cert", "/etc/a.pem"), "--tls-cert and --tls-key belong together"),
        (("install", "--bundle", "/mnt", "--wheels", "/mnt"), "leave --wheels and --base-model out"),
        (("install", "--allow-to", "10.0.0.1; accept"), "an address or a network"),
        (("install", "--trust-fingerprint", "xyz"), "as on paper"),
        (("install", "--backup-dir", "/mnt/a\nUser=root"), "--backup-dir: use letters"),
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "hint: sh install.sh --help" in done.stderr


@pytest.mark.parametrize("words", [("--json", "--force"), ("--force", "--json"), ("--prefix", "/a b", "--json"), ()])
def test_a_refused_call_too_is_one_object_for_scripts(words: tuple[str, ...]) -> None:
    done = call("install", *words) if words else call("--json")
    said = json.loads(done.stdout)
    assert (done.returncode, said["exit_status"], said["outcome"]) == (2, 2, "failed")
    assert said["error"] and said["error"] in done.stderr


@pytest.mark.parametrize(
    ("answer", "complaint"),
    [("service=maybe", "no such answer: service=maybe"), ("allow-downgrade=no\nport=80", "--port 80: not a number")],
)
def test_an_answer_that_cannot_be_meant_is_named_whole(tmp_path: Path, answer: str, complaint: str) -> None:
    (tmp_path / "answers").write_text(answer)
    done = call("install", "--answers", str(tmp_path / "answers"))
    assert (done.returncode, done.stdout) == (2, "")
    assert complaint in done.stderr


def test_answers_that_were_written_on_windows_are_read(tmp_path: Path) -> None:
    (tmp_path / "answers").write_bytes(b"port=8961\r\nallow-to=10.30.0.5\r\n")
    done = call("unit", "--answers", str(tmp_path / "answers"), "--prefix", str(tmp_path / "program"))
    assert done.returncode == 0, done.stderr
    assert "serve --port 8961 --no-setup-link\n" in done.stdout
    assert "IPAddressAllow=localhost 10.30.0.5\n" in done.stdout


def test_who_is_not_root_is_told_to_use_sudo() -> None:
    assert os.geteuid() == 0, "it takes root to be somebody else"
    words = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups", "sh", "-s", "--", "doctor"]
    with SCRIPT.open() as text:
        done = subprocess.run(
            [*words, "--user", "root"], stdin=text, capture_output=True, text=True, timeout=120, cwd="/"
        )
    assert done.returncode == 2
    assert "only root works for another user, root\nhint: run with sudo\n" in done.stderr


def test_a_script_cut_off_in_its_download_does_nothing() -> None:
    lines = SCRIPT.read_text().splitlines()
    assert lines[-1] == 'main "$@"'
    done = subprocess.run(
        ["sh", "-s", "install"], input="\n".join(lines[:-1]), capture_output=True, text=True, check=False
    )
    assert (done.returncode, done.stdout, done.stderr) == (0, "", "")


def test_without_a_terminal_nothing_is_installed_unasked(site: Site) -> None:
    done = site.run("install")
    assert done.returncode == 2
    assert "say --yes" in done.stderr
    assert snapshot(site.folder) == {}
