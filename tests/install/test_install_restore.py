"""A lost machine and its successor: a backup by the installed release, then on a machine that never saw the data the
bundle, the backup and the recovery kit make an installation that serves, with a root key sealed to it. Without the
right kit nothing is there afterwards. The product is real; see `machine.py` for what stands in for systemd.
"""

import json
import shutil

import pytest

from tests.install.machine import APPLIANCE, DATA, PREFIX, USER, machine
from tests.install.test_install_key import make_kit, succeed


@pytest.mark.long
@pytest.mark.timeout(900)
def test_a_new_machine_goes_on_from_bundle_backup_and_kit(home_template, tmp_path) -> None:
    first, second = tmp_path / "first", tmp_path / "second"
    first.mkdir()
    second.mkdir()
    with machine(first, home_template) as lost:
        succeed(lost.install())
        kit = make_kit(lost)
        lost.run("mkdir", "/opt/backups")
        lost.run("chown", USER, "/opt/backups")
        told = json.loads(succeed(lost.installer("backup", "--backup-dir", "/opt/backups", "--json")))
        (backup,) = [proof["said"] for proof in told["proofs"]]
        assert lost.exists(backup)
        doctor = lost.installer("doctor")
        assert doctor.returncode == 0 and "PASS  egress: egress blocked" in doctor.stdout, doctor.stdout + doctor.stderr
    with machine(second) as new:
        shutil.copy(first / backup.removeprefix("/"), second / "opt" / "backup")
        (second / "opt" / "kit").write_text(kit)
        words = ("restore", "--wheels", "/opt/wheels", "--backup", "/opt/backup", "--kit-file", "/opt/kit")
        (second / "opt" / "wrong").write_text("AAAA")
        refused = new.installer(*words[:-1], "/opt/wrong")
        assert refused.returncode in (1, 20) and "there is no data in" in refused.stderr, refused.stderr
        assert not new.exists(f"{DATA}/home.json") and not new.serves()
        output = succeed(new.installer(*words))
        assert new.serves()
        assert "PASS  root key: from the credential" in output
        epochs = json.loads(succeed(new.run(APPLIANCE, "audit", "epochs", "--json")))
        assert [epoch["number"] for epoch in epochs["data"]] == [2, 1]
        again = new.run("sh", f"{PREFIX}/install.sh", "restore", "--backup", "/opt/backup", "--kit-file", "/opt/kit")
        assert again.returncode == 3 and "there is something in" in again.stdout
