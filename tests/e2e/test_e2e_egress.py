"""Nothing leaves the machine: a whole run, from creating a data folder to verifying its log, pages included, makes no
attempt to reach another address or to look up a name. And the detector that says so sees each kind of attempt.

The run happens in a network namespace with a loopback and nothing else, whose counters the kernel keeps; so it also
shows that the appliance needs no network.
"""

import json
import shutil
import sys

import pytest

from tests.e2e.offline import run_offline

ATTEMPTS = {
    "TCP": "socket.create_connection(('192.0.2.1', 443), timeout=1)",
    "UDP": "socket.socket(socket.AF_INET, socket.SOCK_DGRAM).sendto(b'x', ('192.0.2.1', 53))",
    "IPv6": "socket.create_connection(('2001:db8::1', 443), timeout=1)",
    "a name": "socket.getaddrinfo('telemetry.example.org', 443)",
    "a child process": "__import__('subprocess').run([sys.executable, '-c', "
    "'import socket; socket.create_connection((chr(49) + \".1.1.1\", 443))'], check=True, stderr=-3)",
}


@pytest.mark.parametrize("kind", ATTEMPTS)
def test_detector_sees_an_attempt_to_leave(tmp_path, kind):
    done, attempts = run_offline(tmp_path, sys.executable, "-c", f"import socket, sys; {ATTEMPTS[kind]}")
    assert done.returncode != 0
    assert sum(attempts.values()) > 0


def test_detector_leaves_the_machine_itself_alone(tmp_path):
    talk = (
        "import socket; server = socket.create_server(('127.0.0.1', 0)); "
        "socket.create_connection(server.getsockname()); socket.socketpair()"
    )
    done, attempts = run_offline(tmp_path, sys.executable, "-c", talk)
    assert done.returncode == 0, done.stderr
    assert not any(attempts.values())


@pytest.mark.timeout(600)  # a busy machine takes its time; each wait has a bound of its own
def test_whole_run_makes_no_attempt_to_leave(tmp_path, base_model):
    (tmp_path / "home").mkdir(mode=0o700)
    shutil.copytree(base_model, tmp_path / "home" / "models")
    done, attempts = run_offline(tmp_path, sys.executable, "-m", "tests.e2e.whole_run", str(tmp_path))
    assert done.returncode == 0, done.stderr
    assert not any(attempts.values()), attempts
    told = json.loads(done.stdout)
    assert (told["page"], told["verdict"]) == (200, "ok")
    assert "[EMAIL 1]" in told["answer"]
