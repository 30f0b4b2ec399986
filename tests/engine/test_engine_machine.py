"""Thread counts follow what this process may use, not what the machine has."""

import os

import pytest

from appliance.engine.machine import quota_cores, usable_cores


@pytest.mark.parametrize(
    ("line", "cores"),
    [
        ("200000 100000", 2),
        ("150000 100000", 2),
        ("50000 100000", 1),
        ("max 100000", 65536),
        ("", 65536),
        ("1 0", 65536),
    ],
)
def test_a_quota_counts_as_whole_cores(line, cores):
    assert quota_cores(line) == cores


def test_at_least_one_core_and_no_more_than_we_may_run_on():
    assert 1 <= usable_cores() <= (os.cpu_count() or 1)
