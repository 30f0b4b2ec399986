"""A model file is opened only if its bytes are the registered ones, and loaded only if it fits."""

import hashlib

import pytest

from appliance.engine.backend import available_bytes, check_memory, descriptor_path, open_checked, pss_bytes
from appliance.errors import ModelFileRefused

MIB = 1024**2


def test_the_registered_file_opens_and_its_descriptor_survives_a_swap_of_the_path(tmp_path):
    path = tmp_path / "base.gguf"
    path.write_bytes(b"registered")
    with open_checked(path, hashlib.sha256(b"registered").hexdigest()) as file:
        (tmp_path / "new").write_bytes(b"swapped in")
        (tmp_path / "new").replace(path)
        assert descriptor_path(file, path).read_bytes() == b"registered"


def test_another_file_under_that_name_is_refused(tmp_path):
    (tmp_path / "base.gguf").write_bytes(b"something else")
    with pytest.raises(ModelFileRefused, match="not the registered one"):
        open_checked(tmp_path / "base.gguf", hashlib.sha256(b"registered").hexdigest())


def test_a_missing_file_is_refused_by_name_without_its_folder(tmp_path):
    with pytest.raises(ModelFileRefused) as caught:
        open_checked(tmp_path / "base.gguf", "00")
    assert "base.gguf" in caught.value.message and str(tmp_path) not in caught.value.message


def test_what_does_not_fit_is_refused_with_both_figures():
    with pytest.raises(ModelFileRefused, match=r"200 MiB.*allows 100 MiB"):
        check_memory(200 * MIB, 100 * MIB, "the base model")
    with pytest.raises(ModelFileRefused, match="this machine has"):
        check_memory(1 << 60, 1 << 61, "the base model")
    check_memory(1, 100 * MIB, "the base model")


def test_memory_figures_are_positive_where_the_system_gives_them():
    assert pss_bytes() >= 0
    assert (available_bytes() or 1) > 0
