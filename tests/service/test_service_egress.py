"""The proof that nothing leaves bites: where the network is open it says so, where the kernel refuses it says that, and
either way the log has it. Tried in network namespaces of its own, with nothing but a dead link in them.
"""

import asyncio
import errno
import json
import os
import subprocess
import sys
from types import SimpleNamespace

import pytest

from appliance.accounts.actions import local_operator
from appliance.audit.log import AuditLog
from appliance.audit.root_key import read_root_key
from appliance.config import load_config
from appliance.service.egress import probe
from appliance.service.egress.egress import (
    PROBE,
    Attempt,
    EgressTest,
    last_test,
    tripwire_armed,
    try_regularly,
    try_to_leave,
)
from appliance.types import Outcome

KINDS = {"tcp", "udp", "tcp6", "udp6", "dns", "metadata", "subprocess", "native"}
# A link that leads nowhere, with routes over it: what is sent is gone, and nobody answers.
OPEN = """
set -e
ip link set lo up
ip link add out0 type veth peer name out1
ip addr add 10.9.0.1/24 dev out0
ip -6 addr add fd00::1/64 dev out0 nodad
ip link set out0 up; ip link set out1 up
ip neigh add 10.9.0.2 lladdr 02:00:00:00:00:01 dev out0
ip -6 neigh add fd00::2 lladdr 02:00:00:00:00:01 dev out0
ip route add default via 10.9.0.2
ip -6 route add default via fd00::2
"""


def in_namespace(script: str, *command: str, timeout_s: float = 0.3) -> dict[str, tuple[str, str]]:
    """What the probe found there: {kind: (result, why)}."""
    namespace = ["unshare", "--net"] if os.geteuid() == 0 else ["unshare", "--map-root-user", "--net"]
    words = [*command, sys.executable, "-I", str(PROBE), "--timeout", str(timeout_s)]
    done = subprocess.run(
        [*namespace, "sh", "-c", f'{script}\nexec "$@"', "sh", *words], capture_output=True, timeout=120
    )
    assert done.stdout, done.stderr.decode()
    return {one["kind"]: (one["result"], one["why"]) for one in json.loads(done.stdout)["attempts"]}


def test_where_there_is_no_network_every_way_out_is_refused():
    found = in_namespace("ip link set lo up")
    assert set(found) == KINDS and {result for result, _ in found.values()} == {"refused"}, found


def test_where_the_network_is_open_every_way_out_is_seen():
    found = in_namespace(OPEN)
    left = {kind for kind, (result, _) in found.items() if result == "left"}
    assert left >= KINDS - {"dns"}, found  # the resolver of this machine may be out of reach there
    assert found["tcp"] == ("left", "nobody answered") and found["udp"] == ("left", "sent")


def test_a_resolver_on_this_machine_that_answers_is_a_way_out():
    resolver = """
import socket, subprocess, sys
with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as server:
    server.bind(("127.0.0.53", 53))
    child = subprocess.Popen(sys.argv[1:])
    asked, where = server.recvfrom(512)
    server.sendto(asked[:2] + b"\\x81\\x83" + asked[4:], where)
    sys.exit(child.wait())
"""
    found = in_namespace("ip link set lo up", sys.executable, "-c", resolver, timeout_s=30)  # all else answers at once
    assert found["dns"] == ("left", "resolver 127.0.0.53: it answered")
    assert found["tcp"][0] == "refused"


def test_a_late_refusal_is_a_packet_that_left():
    assert probe._judged(113, began=-10.0)[0] is False


@pytest.mark.parametrize(
    ("seconds", "tries", "refused"),
    [([0.0], 1, True), ([5.0, 0.0], 2, True), ([5.0, 5.0, 5.0, 0.0], 3, False)],
    ids=["at once", "late once", "late every time"],
)
def test_a_refusal_that_a_busy_machine_was_told_late_is_asked_for_again(monkeypatch, seconds, tries, refused):
    monkeypatch.setattr(probe, "time", SimpleNamespace(monotonic=lambda: 1000.0))
    left = list(seconds)
    verdict = probe.settled(lambda: probe._judged(errno.EPERM, began=1000.0 - left.pop(0)))
    assert (verdict[0], len(seconds) - len(left)) == (refused, tries)


@pytest.mark.parametrize(
    ("others", "why", "result"),
    [
        ("refused", "EACCES, not at once", "refused"),
        ("left", "EACCES, not at once", "left"),
        ("refused", "EHOSTUNREACH, not at once", "left"),
        ("refused", "nobody answered", "left"),
    ],
)
def test_a_late_refusal_by_ipv6_is_believed_only_beside_early_ones(others, why, result):
    found = [{"kind": kind, "result": others, "why": "EPERM"} for kind in ("tcp", "udp6")]
    late = {"kind": "tcp6", "result": "left", "why": why}
    assert {one["kind"]: one["result"] for one in probe.judged_together([*found, late])}["tcp6"] == result


def test_resolvers_are_those_of_the_file_and_the_local_one(tmp_path):
    (tmp_path / "resolv.conf").write_text("# x\nnameserver 10.0.0.1\nnameserver bad.name\nnameserver 10.0.0.1\n")
    assert probe.resolvers(tmp_path / "resolv.conf") == ["10.0.0.1", "127.0.0.53"]
    assert probe.resolvers(tmp_path / "none") == ["127.0.0.53"]


def with_log(home, work):
    home.config_file.write_text("[egress]\ntimeout_s = 0.2\n")
    config = load_config(home.root)

    async def run():
        log = await AuditLog.open(config, read_root_key(home.root_key_file))
        try:
            return await work(config, log)
        finally:
            await log.close()

    return asyncio.run(run())


def test_the_result_is_in_the_log_with_a_word_for_each_kind(home):
    async def work(config, log):
        assert last_test(log) is None
        found = await try_to_leave(config, log, local_operator(0))
        last = last_test(log)
        assert last.record_id == found.receipt.record_id.hex()
        assert set(last.attributes) == {"verdict", *KINDS} and last.attributes["verdict"] == found.verdict
        assert last.outcome == (Outcome.COMPLETED if found.verdict == "blocked" else Outcome.FAILED)

    with_log(home, work)


def test_a_server_tests_once_and_then_waits(home):
    async def work(config, log):
        for _ in range(2):
            task = asyncio.create_task(try_regularly(config, log, first_s=0.0))
            async with asyncio.timeout(60):
                while last_test(log) is None:
                    await asyncio.sleep(0.05)
            await asyncio.sleep(0)
            task.cancel()
        assert len(log.records(limit=10, event="egress.tested")) == 1
        assert last_test(log).attributes["tripwire"] == tripwire_armed()

    with_log(home, work)


@pytest.mark.parametrize(("left", "verdict"), [((False, False), "blocked"), ((False, True), "open")])
def test_one_way_out_is_an_open_network(left, verdict):
    assert EgressTest(tuple(Attempt("tcp", each, "") for each in left)).verdict == verdict
