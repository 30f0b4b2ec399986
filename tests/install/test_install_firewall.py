"""The kernel's lock, loaded where nothing else is: for the server's user every way out is refused at once and counted,
whatever tries it; the addresses of the site stay reachable; other users are not touched; unloading leaves nothing.

It needs root, network namespaces and nftables; `make test` sees to the last.
"""

import json
import os
import re
import subprocess
import sys
from pathlib import Path

from appliance.service.egress.egress import PROBE
from tests.install.install_site import SCRIPT
from tests.service.test_service_egress import KINDS, OPEN

NOBODY = 65534
PYTHON = Path(sys.executable).resolve()


def rules(*options: str) -> str:
    done = subprocess.run(
        ["sh", str(SCRIPT), "firewall", "--user", "nobody", *options], capture_output=True, text=True, check=True
    )
    return done.stdout


def in_locked_namespace(tmp_path: Path, script: str, *options: str) -> str:
    """Run `script` where the network is open but for the rules; `as_nobody` runs a program as the server's user."""
    (tmp_path / "rules.nft").write_text(rules(*options))
    (tmp_path / "probe.py").write_bytes(PROBE.read_bytes())
    tmp_path.chmod(0o755)
    prelude = f"{OPEN}\nmkdir /tmp/probe-$$; cp {tmp_path}/probe.py /tmp/probe-$$/; nft -f {tmp_path}/rules.nft\n"
    prelude += "trap 'rm -rf /tmp/probe-$$' EXIT\n"
    prelude += f'as_nobody() {{ setpriv --reuid {NOBODY} --regid {NOBODY} --clear-groups "$@"; }}\n'
    done = subprocess.run(
        ["unshare", "--net", "bash", "-c", prelude + script], capture_output=True, text=True, timeout=240
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_every_way_out_is_refused_and_counted_for_the_server_alone(tmp_path):
    assert os.geteuid() == 0, "loading firewall rules needs root"
    python = "/usr/bin/python3"  # one that another user may start
    script = f"""
as_nobody {python} -I /tmp/probe-$$/probe.py --timeout 10 || true  # what is refused never waits so long
nft list table inet cloister_egress
{python} -I /tmp/probe-$$/probe.py --timeout 0.3 || true
nft delete table inet cloister_egress
nft list ruleset
true
"""
    output = in_locked_namespace(tmp_path, script)
    locked, unlocked = (json.loads(line)["attempts"] for line in output.splitlines() if line.startswith('{"attempts"'))
    assert {one["kind"] for one in locked} == KINDS
    assert [one for one in locked if one["result"] != "refused"] == []
    assert {one["kind"] for one in unlocked if one["result"] == "left"} >= KINDS - {"dns"}
    counted = re.search(r"counter packets (\d+) bytes \d+ reject", output)
    assert int(counted[1]) >= len(KINDS) - 1
    assert (
        output.splitlines()[-1] == output.splitlines()[-1].strip() and "cloister_egress" not in output.splitlines()[-1]
    )


def test_what_the_site_allows_is_reachable_and_nothing_beside_it(tmp_path):
    attempt = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ({!r}, 514))"
    script = f"""
as_nobody /usr/bin/python3 -c "{attempt.format("10.20.0.5")}" && echo allowed
as_nobody /usr/bin/python3 -c "{attempt.format("10.20.1.5")}" 2>/dev/null || echo refused
as_nobody /usr/bin/python3 -c "{attempt.format("127.0.0.53")}" 2>/dev/null || echo no resolver
"""
    output = in_locked_namespace(tmp_path, script, "--allow-to", "10.20.0.0/24")
    assert output.split("\n")[:3] == ["allowed", "refused", "no resolver"]


def test_loading_twice_is_loading_once(tmp_path):
    output = in_locked_namespace(tmp_path, f"nft -f {tmp_path}/rules.nft; nft list tables")
    assert output.count("cloister_egress") == 1
