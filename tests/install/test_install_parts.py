"""What a bundle brings beside the program, installed with it: Debian packages that the machine lacks, by dpkg from the
verified copy, and specialists, which go the way of every other one: a signature that the site trusts, then a second
person's approval. The product and dpkg are real; see `machine.py` for what stands in for systemd.
"""

import json
import os
import shutil
import subprocess

import pytest

from appliance.crypto import ecdsa
from appliance.service.bundle.contents import gather
from appliance.service.specialist_life import signature_of
from tests.conftest import link_or_copy, run_appliance
from tests.install.install_site import SCRIPT
from tests.install.machine import APPLIANCE, machine
from tests.service.bundle_maker import Maker, fingerprint
from tests.specialist_files import REAL_BASE, write_classifier

FOREVER = {"created": "2020-01-01", "expires": "2099-01-01"}


def write_deb(folder, name: str):
    """A package that puts one file into a folder that the machine has of its own."""
    tree = folder / name
    (tree / "DEBIAN").mkdir(parents=True)
    (tree / "opt" / "from-deb").mkdir(parents=True)
    (tree / "opt" / "from-deb" / name).write_text("here\n")
    control = f"Package: {name}\nVersion: 1.0\nArchitecture: all\nMaintainer: Tests\nDescription: for a test\n"
    (tree / "DEBIAN" / "control").write_text(control)
    for path in (tree, *tree.rglob("*")):
        path.chmod(0o755 if path.is_dir() else 0o644)
    deb = folder / f"{name}_1.0_all.deb"
    subprocess.run(["dpkg-deb", "--build", "--root-owner-group", tree, deb], check=True, capture_output=True)
    return deb


@pytest.fixture
def site(home_template, tmp_path):
    """A machine that trusts a vendor, and a bundle with a signed specialist, an unsigned one, and a package."""
    shutil.copytree(home_template, tmp_path / "home", copy_function=link_or_copy)
    private = ecdsa.generate()
    (tmp_path / "vendor.pem").write_text(ecdsa.public_of(private))
    done = run_appliance(
        "specialists", "trust", str(tmp_path / "vendor.pem"), "--name", "Vendor", home=tmp_path / "home"
    )
    assert done.returncode == 0, done.stderr
    signed = write_classifier(tmp_path / "parts" / "signed.gguf", base=REAL_BASE, version="0.1.0")
    signature = signed.with_name("signed.gguf.sig")
    signature.write_bytes(signature_of(signed.read_bytes(), "vendor", private))
    unsigned = write_classifier(tmp_path / "parts" / "unsigned.gguf", base=REAL_BASE, version="0.2.0")
    (tmp_path / "machine").mkdir()
    with machine(tmp_path / "machine", tmp_path / "home") as made:
        maker = Maker(tmp_path / "maker")
        parts = {"specialists": [signed, signature, unsigned], "debs": [write_deb(tmp_path, "cloister-test-part")]}
        contents = gather(wheels=tmp_path / "machine" / "opt" / "wheels", installer=SCRIPT, **parts)
        root = maker.root(expires=FOREVER["expires"])
        bundle = maker.bundle("usb", root=root, contents=contents, arch=os.uname().machine, **FOREVER)
        shutil.copy(bundle.path, tmp_path / "machine" / "opt" / "usb.bundle")
        options = ("--bundle", "/opt/usb.bundle", "--trust-fingerprint", fingerprint(root), "--no-service")
        yield made, options


@pytest.mark.timeout(900)
def test_what_is_missing_is_installed_and_no_rule_for_specialists_is_passed_by(site) -> None:
    machine, options = site
    planned = machine.installer("install", *options, "--dry-run")
    assert "install the Debian packages cloister-test-part_1.0_all.deb" in planned.stdout
    assert not machine.exists("/opt/from-deb")
    done = machine.installer("install", *options)
    assert done.returncode == 0, done.stdout + done.stderr
    assert machine.exists("/opt/from-deb/cloister-test-part")
    assert "PASS  signatures: valid" in done.stdout
    assert "refused    unsigned.gguf" in done.stdout and "not signed" in done.stderr
    listed = machine.run(APPLIANCE, "specialists", "versions", "--json")
    assert listed.returncode == 0, done.stdout + done.stderr + listed.stderr
    versions = json.loads(listed.stdout)
    waiting = [(one["id"], one["signer"]) for one in versions if one["state"] == "awaiting_approval"]
    assert waiting == [("signed", "Vendor")]
    assert "unsigned" not in {one["id"] for one in versions}
    again = machine.installer("install", *options)
    assert "no change" in again.stdout, again.stdout
    gone = machine.installer("uninstall")
    assert (
        "kept       Debian packages of the bundle, which others may need: cloister-test-part_1.0_all.deb" in gone.stdout
    )
