"""A call that cannot be meant is refused with status 2 and a hint, before anything is looked at or touched; the help
names every verb and option that the script reads. The script is POSIX: every shell here that is not bash reads it too.
"""

import re
import shutil
import subprocess

import pytest

from tests.install.install_site import SCRIPT, Site, snapshot

SHELLS = [shell for shell in ("sh", "dash", "bash", "busybox") if shutil.which(shell)]


def call(*arguments: str, shell: str = "sh") -> subprocess.CompletedProcess[str]:
    command = [shell, "sh"] if shell == "busybox" else [shell]
    return subprocess.run([*command, str(SCRIPT), *arguments], capture_output=True, text=True, timeout=30, check=False)


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
        (("upgrade",), "unknown verb or option: upgrade"),
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
    ],
)
def test_a_call_that_cannot_be_meant_is_refused(arguments: tuple[str, ...], complaint: str) -> None:
    done = call(*arguments)
    assert done.returncode == 2
    assert complaint in done.stderr
    assert "hint: sh install.sh --help" in done.stderr


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
