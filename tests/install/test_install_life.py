"""From nothing to an installation and back: a dry run changes nothing; a second run changes nothing; a run that stopped
half-way is repeated; a release that is not well is never put to use; two runs cannot collide; uninstall removes what
was made, keeps the data, and deletes that only when the machine's name is typed. With the real pip and virtual
environments.
"""

import os
import re
import shlex
import shutil
import stat
import subprocess
import time
from pathlib import Path

import pytest

from tests.install.install_site import HOSTNAME, PURGE, VERSION, Site, snapshot


def test_a_dry_run_says_the_plan_and_changes_nothing(site: Site) -> None:
    done = site.run("install", "--dry-run")
    assert done.returncode == 0, done.stderr
    for planned in ("build .+", "create the data folder .+", "check the health .+", "make .+ the current release"):
        assert re.search(f"would do   {planned}", done.stdout), planned
    assert "nothing was changed" in done.stdout
    assert snapshot(site.folder) == {}


def test_the_release_is_current_and_its_command_knows_the_data_folder(installed: Site) -> None:
    current = (installed.prefix / "current").readlink()
    assert current.parts[0] == "releases"
    assert current.name.startswith(f"{VERSION}-")
    before = len(installed.calls())
    done = subprocess.run([installed.prefix / "bin" / "appliance", "users", "list"], env={}, check=False)
    assert done.returncode == 0
    assert installed.calls()[before:] == ["users list"]


def test_health_is_checked_after_the_data_folder_is_made(installed: Site) -> None:
    assert installed.calls()[:2] == ["init --if-missing", "doctor"]


def test_nobody_else_reads_the_data_folder(installed: Site) -> None:
    assert stat.S_IMODE(installed.data.stat().st_mode) == 0o700


def test_what_is_imported_is_compiled_because_nothing_may_be_written_there_later(installed: Site) -> None:
    site = next((installed.prefix / "current/venv/lib").glob("python3.*/site-packages"))
    assert list((site / "__pycache__").glob("stand_in.*.pyc"))


def test_nothing_temporary_stays(installed: Site) -> None:
    assert sorted(path.name for path in installed.prefix.iterdir()) == [
        ".installed", ".settings", "bin", "current", "install.sh", "logs", "next-steps.txt", "releases", "run"
    ]  # fmt: skip


def test_a_second_run_changes_nothing_and_says_so(installed: Site) -> None:
    before = snapshot(installed.folder)
    done = installed.run("install")  # not even asked: there is nothing to confirm
    assert done.returncode == 0, done.stderr
    assert "no change" in done.stdout
    assert snapshot(installed.folder) == before


def test_a_dry_uninstall_changes_nothing(installed: Site) -> None:
    before = snapshot(installed.folder)
    done = installed.run("uninstall", "--purge", "--dry-run")
    assert done.returncode == 0, done.stderr
    assert f"would do   delete the data folder {installed.data}" in done.stdout
    assert snapshot(installed.folder) == before


def test_another_release_is_not_replaced(installed: Site, tmp_path: Path) -> None:
    other = tmp_path / "other"
    shutil.copytree(installed.wheels, other)
    with (other / "more-1.0-py3-none-any.whl").open("wb") as more:
        more.write(b"another content")
    before = snapshot(installed.folder)
    done = installed.run("install", "--yes", "--wheels", str(other))
    assert done.returncode == 3
    assert "does not replace it" in done.stderr
    assert "upgrade" in done.stderr
    assert snapshot(installed.folder) == before


def test_another_data_folder_for_the_same_prefix_is_refused(installed: Site, tmp_path: Path) -> None:
    done = installed.run("install", "--yes", "--data-dir", str(tmp_path / "other"))
    assert done.returncode == 3
    assert f"was installed with --data-dir {installed.data}" in done.stdout


def test_while_one_run_works_another_is_turned_away(site: Site) -> None:
    site.prefix.mkdir()
    holder = subprocess.Popen(
        ["flock", site.prefix, "sh", "-c", "echo held; read -r _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert holder.stdout.readline() == b"held\n"
        done = site.run("install", "--yes")
        assert done.returncode == 8
        assert "another run" in done.stderr
        site.manifest.write_text("# cloister manifest 1\n")
        assert site.run("uninstall").returncode == 8
        assert [path.name for path in site.prefix.iterdir()] == [".installed"]
    finally:
        holder.communicate()


def test_failed_runs_are_repeated_until_one_succeeds_and_kept_data_is_gone_on_with(site: Site) -> None:
    key = keep_data_of_an_earlier_installation(site)
    before = key.stat()

    broken = shutil.copytree(site.wheels, site.folder / "broken")
    product = next(broken.glob("cloister_appliance-*"))
    product.write_bytes(product.read_bytes()[:-200])
    done = site.run("install", "--yes", "--wheels", str(broken))
    assert done.returncode == 1
    assert "pip could not install the packages" in done.stderr
    assert str(site.prefix / "logs") in done.stderr

    unwell = site.folder / "unwell"
    unwell.touch()
    done = site.run("install", "--yes")
    assert done.returncode == 6
    assert "FAIL  disk" in done.stdout
    assert sorted(path.name for path in site.prefix.iterdir()) == [".installed", "bin", "logs", "releases", "run"]
    (release,) = (site.prefix / "releases").iterdir()  # the half-built one is gone
    built = (release / ".complete").stat()

    unwell.unlink()
    assert site.run("install", "--yes").returncode == 0
    assert (site.prefix / "current").resolve() == release
    assert (release / ".complete").stat() == built  # not built a second time
    assert site.calls()[:4] == ["upgrade", "doctor", "upgrade", "doctor"]

    (site.prefix / "bin" / "theirs").write_text("not ours")
    done = site.run("uninstall")
    assert done.returncode == 0, done.stderr
    assert f"kept       {site.data}: keys" in done.stdout
    assert "it holds files that this installer did not make" in done.stdout
    assert [path for path in site.prefix.rglob("*") if path.is_file()] == [site.prefix / "bin" / "theirs"]
    assert key.stat() == before


def test_what_comes_next_is_told_also_where_the_first_run_was_stopped_before_its_end(site: Site) -> None:
    assert site.run("install", "--yes").returncode == 0
    steps = site.prefix / "next-steps.txt"
    recorded = site.manifest.read_text().splitlines(keepends=True)
    steps.unlink()  # as it is where a run was killed while it looked for its proofs
    site.manifest.write_text("".join(line for line in recorded if str(steps) not in line))
    done = site.run("install", "--yes")
    assert done.returncode == 0, done.stderr
    assert f"would do   write {steps}" in done.stdout
    assert "users setup-link" in steps.read_text() and steps.read_text() in done.stdout
    steps.unlink()  # whoever read it may
    assert "no change" in site.run("install").stdout


def test_of_the_logs_the_newest_stay_and_what_is_not_ours_too(site: Site) -> None:
    assert site.run("install", "--yes").returncode == 0
    logs, theirs = site.prefix / "logs", site.prefix / "logs" / "install-notes.log"
    (newest,) = logs.iterdir()
    theirs.touch()
    with site.manifest.open("a") as manifest:
        for day in range(10, 31):
            old = logs / f"{'upgrade' if day % 2 else 'install'}-202001{day}T000000Z.log"
            old.touch()
            manifest.write(f"file {old}\n")
    mode = site.manifest.stat().st_mode
    assert site.run("install", "--yes", "--port", "8944").returncode == 0
    kept = sorted(path.name.partition("-")[2] for path in logs.iterdir() if path != theirs)
    assert len(kept) == 20 and newest.exists() and theirs.exists()
    assert kept[0] == "20200113T000000Z.log"
    recorded = site.manifest.read_text().splitlines()
    assert {line for line in recorded if line.startswith(f"file {logs}/")} == {
        f"file {path}" for path in logs.iterdir() if path != theirs
    }
    assert site.manifest.stat().st_mode == mode


# In place of `setsid`, which starts pip: a pip that works for as long as it may, and needs a moment to end when told.
PIP = """#!/bin/sh
touch {folder}/began
exec {folder}/setsid sh -c 'trap "sleep 1; exit 1" TERM; sleep 600'
"""


@pytest.mark.parametrize("moment", ["before pip is started", "while pip works"])
def test_a_run_told_to_stop_frees_the_lock_and_leaves_nothing_half_way_in_use(
    site: Site, tmp_path_factory: pytest.TempPathFactory, moment: str
) -> None:
    assert os.geteuid() == 0, "putting a program in the place of another one takes root"
    folder, setsid = tmp_path_factory.mktemp("programs"), Path(shutil.which("setsid")).resolve()
    shutil.copy(setsid, folder / "setsid")
    (folder / "pip").write_text(PIP.format(folder=folder))
    (folder / "pip").chmod(0o755)
    install = shlex.join(map(str, site.command("install", "--yes")))
    script = f"mount --make-rprivate /; mount --bind {folder}/pip {setsid}; exec {install}"
    words = ["unshare", "--mount", "sh", "-euc", script]
    with subprocess.Popen(words, stdout=subprocess.PIPE, text=True, cwd=site.folder) as run:
        for line in run.stdout:
            if "doing      build" in line:
                while moment == "while pip works" and not (folder / "began").exists():
                    assert run.poll() is None, "it ended without pip"
                    time.sleep(0.02)
                run.terminate()
    assert run.returncode == 143
    assert sorted(path.name for path in site.prefix.iterdir()) == [".installed", "bin", "logs", "releases", "run"]
    subprocess.run(["flock", "-n", site.prefix, "true"], check=True)
    assert site.run("uninstall").returncode == 0
    assert snapshot(site.folder) == {}


def keep_data_of_an_earlier_installation(site: Site) -> Path:
    key = site.data / "keys" / "root.key"
    key.parent.mkdir(parents=True)
    key.write_text("made by an earlier installation")
    (site.data / "home.json").write_text("{}")
    return key


def test_kept_data_is_deleted_only_when_the_name_of_the_machine_is_typed(site: Site) -> None:
    keep_data_of_an_earlier_installation(site)
    before = snapshot(site.folder)
    done = site.run("uninstall", "--purge", stdin="yes\n")
    assert done.returncode == 2
    assert "nothing was changed" in done.stderr
    done = site.run("uninstall", "--purge", "--yes", "--confirm", f"not-{HOSTNAME}")
    assert done.returncode == 2
    assert snapshot(site.folder) == before
    done = site.run("uninstall", "--purge", stdin=f"{HOSTNAME}\n")
    assert done.returncode == 0, done.stderr
    assert done.stdout.index("destroy the keys") < done.stdout.index("delete the data folder")
    assert "kept       backups, wherever they are" in done.stdout
    assert snapshot(site.folder) == {}


def test_a_folder_that_is_no_data_folder_is_never_purged(site: Site) -> None:
    site.data.mkdir()
    (site.data / "theirs").touch()
    before = snapshot(site.folder)
    assert site.run("uninstall", *PURGE).returncode == 0
    assert snapshot(site.folder) == before


def test_uninstall_of_nothing_says_so(site: Site) -> None:
    done = site.run("uninstall", *PURGE)
    assert done.returncode == 0
    assert "Nothing is installed" in done.stdout
    assert snapshot(site.folder) == {}


def test_uninstall_removes_no_path_outside_the_prefix_whatever_the_record_says(site: Site) -> None:
    site.prefix.mkdir()
    theirs = site.folder / "theirs"
    theirs.mkdir()
    (theirs / "file").touch()
    escape = f"{site.prefix}/../theirs"
    site.manifest.write_text(f"# cloister manifest 1\ntree {theirs}\nfile {theirs}/file\ntree {escape}\nuser root\n")
    assert site.run("uninstall").returncode == 0
    assert (theirs / "file").exists()


def test_a_server_in_use_is_not_pulled_away(site: Site) -> None:
    (site.data / "run").mkdir(parents=True)
    (site.data / "home.json").touch()
    lock = site.data / "run" / "server.lock"
    lock.touch()
    server = subprocess.Popen(
        ["flock", lock, "sh", "-c", "echo held; read -r _"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    )
    try:
        assert server.stdout.readline() == b"held\n"
        before = snapshot(site.folder)
        done = site.run("uninstall", *PURGE)
        assert done.returncode == 3
        assert "a server is running" in done.stderr
        assert snapshot(site.folder) == before
    finally:
        server.communicate()
