"""Guaranteed: what was measured at the machine is what administrators and auditors read over the API, and nobody else;
what protects the site is told with a remedy for each part that is not in order. A real server, a real measurement."""

from __future__ import annotations

import json

import pytest

from tests.conftest import run_appliance

FACTS = {"egress", "backup", "drill", "recovery_kit", "certificate", "checks"}


def test_capacity_is_shown_as_it_was_measured_and_before_that_how_to_measure(server, model, admin, auditor):
    def shown(client) -> dict:
        return {one["model"]: one for one in client.get("/v1/system/capacity").json()["data"]}

    assert shown(admin)[model]["command"] == f"appliance doctor --capacity {model}"
    done = run_appliance("doctor", "--capacity", model, "--json", home=server.home)
    assert done.returncode == 0, done.stderr
    measured = json.loads(done.stdout)
    for client in (admin, auditor):
        kept = shown(client)[model]["capacity"]
        assert (kept["rows"], kept["users"], kept["device"]) == (
            measured["rows"], measured["users"], measured["device"]
        )  # fmt: skip


def test_protection_names_a_remedy_for_each_part_that_is_not_in_order(admin, auditor):
    for client in (admin, auditor):
        body = client.get("/v1/system/protection").json()
        assert set(body) == FACTS
        assert [check["name"] for check in body["checks"]] == ["egress", "backup", "recovery kit", "certificate"]
        assert all(check["remedy"] for check in body["checks"] if check["state"] != "ok")


@pytest.mark.parametrize("path", ["/v1/system/capacity", "/v1/system/protection"])
def test_facts_of_the_site_are_refused_to_its_users(ana, path):
    answer = ana.get(path)
    assert (answer.status_code, answer.json()["error"]["code"]) == (403, "permission_denied")
