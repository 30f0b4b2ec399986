"""Preflight looks and changes nothing. Every FAIL stands with its remedy on the next line and gives status 3, to
`install` as well, which then has not begun. Each test makes one thing wrong on an otherwise fit place.
"""

import re
import shutil
import socket
import subprocess
from pathlib import Path

import pytest

from tests.install.install_site import Site, snapshot


def failed(done: subprocess.CompletedProcess[str]) -> str:
    """The one line marked FAIL; its remedy must follow."""
    found = re.findall(r"^FAIL  (.+)\n      \S.+$", done.stdout, re.MULTILINE)
    assert len(found) == done.stdout.count("FAIL") == 1, done.stdout
    assert done.returncode == 3
    return found[0]


def test_a_fit_place_passes_and_stays_untouched(site: Site) -> None:
    done = site.run("preflight")
    assert done.returncode == 0, done.stdout + done.stderr
    assert "FAIL" not in done.stdout
    for subject in ("release", "Python 3", "llama.cpp", "prefix folder", "data folder", "memory", "port 8943 is free"):
        assert re.search(rf"^PASS  .*{subject}", done.stdout, re.MULTILINE), subject
    assert snapshot(site.folder) == {}


def test_a_port_in_use_fails(site: Site) -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        assert f"port {port}" in failed(site.run("preflight", "--port", str(port)))


def test_a_prefix_with_foreign_files_fails(site: Site) -> None:
    site.prefix.mkdir()
    (site.prefix / "theirs").touch()
    before = snapshot(site.folder)
    assert "holds files that this installer did not make" in failed(site.run("install", "--yes"))
    assert snapshot(site.folder) == before


def test_a_data_folder_with_foreign_files_fails(site: Site) -> None:
    site.data.mkdir()
    (site.data / "theirs").touch()
    assert "no data folder of Cloister" in failed(site.run("install", "--yes"))
    assert not site.prefix.exists()


def test_a_prefix_of_a_later_installer_fails(site: Site) -> None:
    site.prefix.mkdir()
    site.manifest.write_text("# cloister manifest 2\n")
    assert "a later installer wrote it" in failed(site.run("install", "--yes"))


def test_a_folder_whose_parent_is_missing_fails(site: Site) -> None:
    missing = site.folder / "nowhere"
    assert f"there is no {missing}" in failed(site.run("preflight", "--data-dir", str(missing / "data")))


@pytest.mark.parametrize("package", ["cloister_appliance", "llama_cpp_python"])
def test_an_offline_bundle_without_the_product_fails(site: Site, tmp_path: Path, package: str) -> None:
    incomplete = tmp_path / "incomplete"
    shutil.copytree(site.wheels, incomplete, ignore=shutil.ignore_patterns(f"{package}-*"))
    done = site.run("preflight", "--wheels", str(incomplete))
    if package == "cloister_appliance":
        assert "has no package cloister_appliance" in failed(done)
    else:  # then it is compiled here, for which there has to be a compiler
        assert re.search(r"^(PASS|FAIL)  (no )?C\+\+ compiler", done.stdout, re.MULTILINE)


def test_a_base_model_folder_without_the_vocabulary_fails(site: Site, tmp_path: Path) -> None:
    (tmp_path / "model.safetensors").touch()
    assert "no readable vocab.txt" in failed(site.run("preflight", "--base-model", str(tmp_path)))
