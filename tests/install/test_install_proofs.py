"""What an installation ends with: proofs that the installed program gave, and next steps in a file for root alone. The
one-time link is in no log. For scripts all of it is one JSON object on standard output, however the run ends.
"""

import json
import re
import stat

from tests.install.install_site import Site, snapshot

LINK = "/setup#one-time-secret"


def proofs(output: str) -> dict[str, str]:
    """Verdict and finding by name, of the paragraph of proofs."""
    lines = output.split("\nProofs\n")[1].split("\n\n")[0]
    return dict(re.findall(r"^(?:PASS|WARN|FAIL)  (\w+): (.+)$", lines, re.MULTILINE))


def logs(site: Site) -> str:
    return "".join(path.read_text() for path in (site.prefix / "logs").iterdir())


def test_an_installation_ends_with_what_the_installed_program_proved(site: Site) -> None:
    done = site.run("install", "--yes")
    assert done.returncode == 0, done.stderr
    found = proofs(done.stdout)
    assert found["audit"] == "verified; ok: 7 records"
    assert found["egress"] == "egress blocked; record 7 of the log says so"
    assert found["specialists"] == "2 of 2 answered"
    assert found["engine"].startswith("CPU: no GPU backend")
    assert "no model that writes" in found["capacity"]
    assert {"doctor", "doctor --egress", "audit verify"} <= set(site.calls())


def test_the_next_steps_are_kept_for_root_alone_and_no_log_has_the_link(site: Site) -> None:
    done = site.run("install", "--yes")
    steps = site.prefix / "next-steps.txt"
    assert stat.S_IMODE(steps.stat().st_mode) == 0o600
    assert f"http://127.0.0.1:8943{LINK}" in steps.read_text()
    assert steps.read_text() in done.stdout
    assert "Proofs" in logs(site)
    assert LINK not in logs(site)


def test_a_way_out_is_told_and_does_not_undo_an_installation_that_had_no_lock(site: Site) -> None:
    (site.folder / "open-way").touch()
    done = site.run("install", "--yes")
    assert done.returncode == 0
    assert "WARN  egress: egress open; record 7 of the log says so" in done.stdout


def test_for_scripts_the_result_is_one_object_and_the_link_is_in_the_file_alone(site: Site) -> None:
    done = site.run("install", "--yes", "--json")
    result = json.loads(done.stdout)
    assert (result["verb"], result["outcome"], result["exit_status"]) == ("install", "done", 0)
    assert result["release"] == (site.prefix / "current").readlink().name
    assert (result["address"], result["certificate"]) == ("http://127.0.0.1:8943", "")
    assert any(change.startswith("create the data folder") for change in result["changed"])
    assert {proof["name"]: proof["verdict"] for proof in result["proofs"]}["egress"] == "PASS"
    assert "Proofs" in done.stderr
    assert LINK not in done.stdout + done.stderr

    before = snapshot(site.folder)
    again = json.loads(site.run("install", "--json").stdout)
    assert (again["outcome"], again["changed"]) == ("no change", [])
    planned = json.loads(site.run("uninstall", "--dry-run", "--json").stdout)
    assert (planned["outcome"], planned["exit_status"]) == ("planned", 0)
    assert snapshot(site.folder) == before


def test_a_run_that_fails_says_so_to_scripts_too(site: Site) -> None:
    (site.folder / "unwell").touch()
    done = site.run("install", "--yes", "--json")
    result = json.loads(done.stdout)
    assert (done.returncode, result["exit_status"], result["outcome"]) == (6, 6, "failed")
    assert "not healthy" in result["error"]


def test_how_many_people_a_model_serves_is_measured_once_a_person_waits_for_it(site: Site) -> None:
    (site.data / "keys").mkdir(parents=True)
    (site.data / "home.json").write_text("{}")
    for model in ("alpha", "beta"):
        (site.data / "models" / "library" / model).mkdir(parents=True)
    done = site.run("install", "--yes")
    assert proofs(done.stdout)["capacity"].startswith("alpha: this machine serves 5 people at once")
    assert [call for call in site.calls() if "--capacity" in call] == ["doctor --capacity alpha"]


def test_the_installed_release_is_asked_again_by_doctor(installed: Site) -> None:
    before = snapshot(installed.prefix)
    done = installed.run("doctor")
    assert done.returncode == 0, done.stdout + done.stderr
    assert proofs(done.stdout)["audit"] == "verified; ok: 7 records"
    (installed.folder / "unwell").touch()
    try:
        done = installed.run("doctor", "--json")
    finally:
        (installed.folder / "unwell").unlink()
    assert (done.returncode, json.loads(done.stdout)["outcome"]) == (6, "failed")
    assert "FAIL  disk" in done.stderr
    assert {**snapshot(installed.prefix), "tmp": None} == {**before, "tmp": None}


def test_a_backup_is_made_by_the_installed_release(installed: Site) -> None:
    done = installed.run("backup", "--backup-dir", "/mnt/backups", "--json")
    assert json.loads(done.stdout)["proofs"][0]["said"] == "/mnt/backups/one.cloister-backup"
    refused = installed.run("backup", "--yes")
    assert refused.returncode == 1 and "no backup was made" in refused.stderr


def test_nothing_is_asked_of_what_is_not_installed(site: Site) -> None:
    for verb in ("doctor", "backup", "seal"):
        assert site.run(verb).returncode == 3
    assert snapshot(site.folder) == {}
