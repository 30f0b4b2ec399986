"""The bundle's GPU pack for this machine lies beside the release, chosen by the release itself; where none is fit the
installer says so aloud and goes on, and the unit opens devices only for a pack that is there.

Packages and packs are stand-ins: a pack is fit if it says so. `tests/engine` has how real ones are judged.
"""

import io
import os
import re
import subprocess
import tarfile
from pathlib import Path

import pytest

from appliance.service.bundle.contents import Contents
from tests.install.install_site import SCRIPT, Site
from tests.service.bundle_maker import Maker, fingerprint

ARCH = os.uname().machine
FOREVER = {"expires": "2099-01-01"}
OLD_DRIVER = "it needs NVIDIA's driver 580 or later, and this machine has 535.1; update the driver"


def write_pack(folder: Path, kind: str, said: str) -> Path:
    path = folder / f"cloister-gpu-{kind}-0.3.36-{ARCH}.tar.gz"
    with tarfile.open(path, "w:gz") as archive:
        for name, content in (("pack.json", said.encode()), (f"libggml-{kind}.so", b"kernels")):
            member = tarfile.TarInfo(name)
            member.size, member.mode, member.uid = len(content), 0o666, 12345
            archive.addfile(member, io.BytesIO(content))
    return path


@pytest.fixture(scope="module")
def maker(tmp_path_factory):
    return Maker(tmp_path_factory.mktemp("maker"))


@pytest.fixture
def install(maker, tmp_path):
    """Installs a bundle with these packs; the answer, and the release's folder."""
    root = maker.root(**FOREVER)
    (tmp_path / "site").mkdir()
    site = Site(tmp_path / "site", maker.wheels)
    numbers = iter(range(1, 9))

    def installed(*options: str, verb: str = "install", **packs: str) -> tuple[subprocess.CompletedProcess[str], Path]:
        if packs:
            number = next(numbers)
            place = tmp_path / f"packs-{number}"
            place.mkdir()
            whole = maker.contents()
            files = {f"gpu-packs/{path.name}": path for path in (write_pack(place, *pack) for pack in packs.items())}
            plan = {"serial": number, "arch": ARCH, "created": "2020-01-01", **FOREVER}
            contents = Contents(whole.files | files, whole.packages)
            name = f"{tmp_path.name}-{number}"
            installed.bundle = maker.bundle(name, root=root, contents=contents, **plan).path
        command = [word for word in site.command(verb, "--yes") if word not in ("--wheels", str(maker.wheels))]
        command += ["--bundle", str(installed.bundle), "--trust-fingerprint", fingerprint(root), *options]
        environment = {"PATH": os.environ["PATH"], "HOME": str(tmp_path)}
        done = subprocess.run(command, capture_output=True, text=True, timeout=600, cwd=tmp_path, env=environment)
        assert done.returncode == 0, done.stdout + done.stderr
        return done, site.prefix / "current"

    return installed


def test_a_fit_pack_lies_beside_the_release_and_only_its_owner_may_write_there(install):
    done, release = install("--gpu", "cuda", cuda="fit")
    assert "PASS  the bundle has a GPU pack for cuda" in done.stdout and "GPU pack: fit" in done.stdout
    files = {path.name: path for path in (release / "gpu").iterdir()}
    assert set(files) == {"pack.json", "libggml-cuda.so"}
    for path in (release / "gpu", *files.values()):
        assert path.stat().st_mode & 0o022 == 0 and path.stat().st_uid == os.getuid()
    again, _ = install("--gpu", "cuda")
    assert "no change" in again.stdout


def test_a_pack_that_is_not_fit_is_said_aloud_and_the_next_one_is_tried(install):
    done, release = install("--gpu", "cuda", cuda=OLD_DRIVER, vulkan="fit")
    assert f"WARN  the GPU pack for cuda is not used: {OLD_DRIVER}" in done.stdout
    assert "models that write compute on the processor" in done.stdout
    assert not (release / "gpu").exists()
    other, release = install("--gpu", "vulkan")
    assert "GPU pack: fit" in other.stdout and (release / "gpu" / "libggml-vulkan.so").exists()


def test_a_pack_goes_when_it_is_not_wanted_any_more(install):
    _, release = install("--gpu", "vulkan", vulkan="fit")
    assert (release / "gpu").exists()
    done, release = install("--gpu", "none")
    assert not (release / "gpu").exists() and "WARN  the bundle" not in done.stdout


def test_a_bundle_without_the_wanted_pack_installs_with_a_warning(install):
    done, release = install("--gpu", "cuda", vulkan="fit")
    assert "WARN  the bundle has no GPU pack for cuda" in done.stdout and not (release / "gpu").exists()


def test_what_is_asked_for_is_checked_and_packs_come_in_bundles_alone(tmp_path):
    asked = ["sh", str(SCRIPT), "preflight", "--prefix", str(tmp_path / "p"), "--data-dir", str(tmp_path / "d")]
    wrong = subprocess.run([*asked, "--gpu", "metal"], capture_output=True, text=True, timeout=600)
    assert wrong.returncode == 2 and "--gpu metal: auto, none, cuda or vulkan" in wrong.stderr
    without = subprocess.run([*asked, "--gpu", "cuda"], capture_output=True, text=True, timeout=600)
    assert "WARN  --gpu cuda: GPU packs come in bundles" in without.stdout


@pytest.mark.parametrize(("kind", "opened"), [("none", []), ("cuda", ["nvidia*"]), ("vulkan", ["nvidia*", "drm"])])
def test_the_unit_opens_the_devices_of_the_pack_and_no_other(site, kind, opened):
    unit = site.run("unit", "--gpu", kind).stdout
    assert re.findall(r"^DeviceAllow=char-(\S+) rw$", unit, re.M) == opened
    assert ("PrivateDevices=yes" in unit) == ("MemoryDenyWriteExecute=yes" in unit) == (not opened)
    assert "DevicePolicy=closed" in unit
