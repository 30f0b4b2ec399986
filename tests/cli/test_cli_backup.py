"""Backups from the terminal, from the recovery kit to a restored data folder. The kit is typed back by a script."""

import json
import subprocess
import sys

from tests.cli.test_cli_recorded import CONFIG, MADE_ELSEWHERE, events_of
from tests.conftest import run_appliance


def appliance(home, *words: str, stdin: bytes = b"", status: int = 0):
    done = run_appliance(*words, home=home.root, stdin=stdin)
    assert done.returncode == status, done.stderr.decode()
    return done


def make_kit(home) -> str:
    """What a script does: read the kit from standard output, type it back on standard input."""
    command = [sys.executable, "-m", "appliance", "recovery-kit", "create", "--home", str(home.root)]
    with subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE) as process:
        text = process.stdout.readline() + process.stdout.readline()
        process.stdin.write(text.lower())
        process.stdin.close()
        assert process.wait(60) == 0, process.stderr.read()
    return text.decode()


def test_from_a_kit_to_a_backup_to_a_data_folder_on_another_machine(home, tmp_path):
    home.config_file.write_text(CONFIG)
    share, target = tmp_path / "share", tmp_path / "new"
    share.mkdir()
    refused = appliance(home, "backup", "create", "--to", str(share), status=6)
    assert b"recovery-kit create" in refused.stderr
    kit = make_kit(home)
    made = json.loads(appliance(home, "backup", "create", "--to", str(share), "--json").stdout)
    listed = json.loads(appliance(home, "backup", "list", "--to", str(share), "--json").stdout)["data"]
    assert [row["file"] for row in listed] == [made["file"]]
    assert kit.encode() not in b"".join(path.read_bytes() for path in home.root.rglob("*") if path.is_file())
    wrong = run_appliance("restore", made["file"], home=target, stdin=b"AAAA" * 14)
    assert wrong.returncode == 4 and b"no recovery kit" in wrong.stderr and not target.exists()
    occupied = run_appliance("restore", made["file"], home=home.root, stdin=b"AAAA" * 14)  # no kit is asked for
    assert occupied.returncode == 21 and b"a restore never overwrites" in occupied.stderr
    done = run_appliance("restore", made["file"], home=target, stdin=kit.encode())
    assert done.returncode == 0, done.stderr.decode()
    assert b"epoch 2" in done.stderr and (target / "keys" / "root.key").exists()
    assert MADE_ELSEWHERE["restore"] in events_of(target)
    checks = json.loads(run_appliance("doctor", "--quick", "--json", home=target).stdout)
    assert {check["name"]: check["state"] for check in checks}["recovery kit"] == "ok"
