"""The root key of an installation as a service: sealed to the machine by the real `systemd-creds`, in its own slot;
the key file goes once a recovery kit exists, and not before; on another board the service stays closed and says the
commands that open it, which work. The product is real; see `machine.py` for what stands in for systemd.
"""

import json
import re

import pytest

from tests.e2e.sites import eventually
from tests.install.machine import APPLIANCE, CREDENTIAL, DATA, HOST_KEY, OPTIONS, PREFIX, STEPS, machine

UNIT = "/etc/systemd/system/cloister.service"
KEY_FILE = f"{DATA}/keys/root.key"


@pytest.fixture
def site(home_template, tmp_path):
    with machine(tmp_path, home_template) as made:
        yield made


def make_kit(site) -> str:
    """A kit as a person makes one: read, and typed back."""
    with site.talk(APPLIANCE, "recovery-kit", "create") as kit:
        text = kit.stdout.readline() + kit.stdout.readline()
        kit.communicate(text)
    assert kit.returncode == 0
    return text


def slots(site) -> list[tuple[str, str | None]]:
    listed = json.loads(site.run(APPLIANCE, "keys", "list", "--json").stdout)
    return [(slot["kind"], slot["use"]) for slot in listed["slots"]]


def succeed(done) -> str:
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


@pytest.mark.timeout(900)
def test_the_key_is_sealed_and_its_file_stays_while_nothing_else_would_open_another_board(site) -> None:
    output = succeed(site.install())
    assert site.serves()
    assert f"kept       {KEY_FILE} until there is a recovery kit" in output
    assert "PASS  root key: from the credential; it opens slot 1" in output
    assert site.exists(KEY_FILE)
    assert site.run("stat", "-c", "%a %U", STEPS, CREDENTIAL).stdout.split() == ["600", "root", "600", "root"]
    scored = site.run("systemd-analyze", "security", "--offline=true", "--no-pager", UNIT).stdout
    assert float(re.search(r"exposure level for \S+ (\d+\.\d)", scored)[1]) <= 2.0, scored
    assert f"{APPLIANCE} recovery-kit use, then: sudo sh {PREFIX}/install.sh seal" in site.run("cat", STEPS).stdout
    assert f"LoadCredentialEncrypted=cloister-root-key:{CREDENTIAL}" in site.run("cat", UNIT).stdout
    assert "no change" in succeed(site.install())
    assert "no change" in succeed(site.installer("seal"))


@pytest.mark.long
@pytest.mark.timeout(900)
def test_another_board_is_opened_with_the_kit_and_nothing_else(site) -> None:
    succeed(site.install())
    kit = make_kit(site)
    succeed(site.installer("seal"))
    assert not site.exists(KEY_FILE)
    assert slots(site) == [("file", None), ("file", "recovery")]
    assert "opens slot 1" in succeed(site.run(APPLIANCE, "keys", "check"))
    succeed(site.run("systemctl", "restart", "cloister.service"))
    assert site.serves()
    assert "no change" in succeed(site.install())

    site.run("rm", HOST_KEY)  # what a new board or a cleared TPM comes to
    assert site.run("systemctl", "restart", "cloister.service").returncode != 0
    assert not site.serves()
    refused = site.run(APPLIANCE, "doctor")
    assert refused.returncode == 20
    assert f"{APPLIANCE} recovery-kit use" in refused.stderr and f"sh {PREFIX}/install.sh seal" in refused.stderr
    refused = site.installer("seal")
    assert refused.returncode == 20 and "recovery-kit use" in refused.stderr

    succeed(site.run(APPLIANCE, "recovery-kit", "use", stdin=kit))
    succeed(site.run("sh", f"{PREFIX}/install.sh", "seal"))  # as the message says it: what it was told, it knows
    assert site.serves() and not site.exists(KEY_FILE)
    assert "opens slot 4" in succeed(site.run(APPLIANCE, "keys", "check"))

    kept = succeed(site.installer("uninstall"))
    assert f"kept       {CREDENTIAL}" in kept
    assert "PASS  root key: from the credential" in succeed(site.install())  # the data goes on, its key with it
    succeed(site.purge())
    for gone in (DATA, PREFIX, STEPS, CREDENTIAL, "/etc/cloister", UNIT):
        assert not site.exists(gone), gone


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_run_killed_while_it_seals_is_ended_by_the_next_one_and_no_slot_is_left_behind(site) -> None:
    with site.talk("sh", "/mnt/source/install.sh", "install", *OPTIONS, "--wheels", "/opt/wheels") as run:
        for line in run.stdout:
            if "doing      seal a root key" in line:
                break
        eventually(lambda: site.exists(f"{CREDENTIAL}.new"), "there is a sealed key that opens nothing yet")
        site.run("pkill", "-KILL", "-f", "install.sh install")
        run.communicate()
    assert run.returncode != 0 and not site.exists(CREDENTIAL)
    output = succeed(site.install())
    assert "PASS  root key: from the credential; it opens slot 1" in output
    assert slots(site) == [("file", None), ("file", None)]
    assert site.serves()
