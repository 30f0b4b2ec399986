"""A process that isolated itself cannot reach a listening socket, by either wall alone or by both.

Each case runs in a child process, which prints what happened; a real socket listens in this one, so a missing wall
would be seen as a connection.
"""

import os
import socket
import subprocess
import sys

import pytest

from appliance.engine import isolation

TRY = """
import errno, os, socket, sys
from appliance.engine import isolation
try:
    {before}
    connection = socket.create_connection(("127.0.0.1", int(sys.argv[1])), timeout=2)
    print("connected")
except OSError as error:
    print(errno.errorcode.get(error.errno, error))
{after}
"""


@pytest.fixture
def port():
    with socket.create_server(("127.0.0.1", 0)) as listener:
        yield listener.getsockname()[1]


def child(port: int, before: str, after: str = "") -> list[str]:
    script = TRY.format(before=before, after=after)
    done = subprocess.run([sys.executable, "-c", script, str(port)], capture_output=True, text=True, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout.split("\n")[:-1]


def test_without_a_wall_the_connection_is_made(port):
    assert child(port, "pass") == ["connected"]


def test_the_network_namespace_alone_refuses_the_connection(port):
    found = child(port, "entered = isolation.enter_network_namespace()", "print(entered)")
    if found[-1] == "True":
        assert found[0] in ("ENETUNREACH", "ECONNREFUSED")  # an empty namespace, or a loopback on which nobody listens
    else:  # this kernel or container allows none: then it says so and has closed nothing, and the other wall stands
        assert found[0] == "connected"


def test_the_system_call_filter_alone_refuses_the_connection_and_other_programs(port):
    after = "try: os.execv('/bin/true', ['true'])\nexcept OSError as error: print(errno.errorcode[error.errno])"
    assert child(port, "assert isolation.filter_system_calls()", after) == ["EPERM", "EPERM"]


def test_the_audit_hook_alone_refuses_the_connection(port):
    assert child(port, "isolation.refuse_sockets_in_python()") == ["EPERM"]


def test_isolate_says_which_walls_stand_and_they_do(port):
    found = child(port, "verdict = isolation.isolate(os.getppid())", "print(verdict); print(verdict.kernel)")
    assert found[0] in ("EPERM", "ENETUNREACH")
    assert found[1].startswith("no network: ")
    assert found[2] == str("namespace" in found[1] or "seccomp" in found[1])


def test_files_still_open_and_none_can_be_written(port, tmp_path):
    (tmp_path / "weights").write_text("ok")
    after = (
        f"print(open({str(tmp_path / 'weights')!r}).read())\n"
        f"try: os.write(os.open({str(tmp_path / 'dump')!r}, os.O_CREAT | os.O_WRONLY), b'text')\n"
        "except OSError as error: print(errno.errorcode[error.errno])"
    )
    assert child(port, "isolation.isolate(os.getppid())", after)[1:] == ["ok", "EFBIG"]


def test_descriptors_other_than_the_kept_ones_are_closed(port):
    before = "kept, other = os.pipe(); isolation.close_descriptors([kept]); os.fstat(kept); os.fstat(other)"
    assert child(port, before) == ["EBADF"]


def test_a_worker_whose_server_is_gone_already_ends_itself():
    script = "from appliance.engine import isolation; isolation.die_with_parent(1 << 22); print('still here')"
    done = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=120)
    assert (done.returncode, done.stdout) == (0, "")


@pytest.mark.parametrize("machine", ["x86_64", "aarch64"])
def test_the_filter_refuses_exactly_the_listed_calls(machine):
    architecture, refused = isolation._ARCHITECTURES[machine]
    program = isolation.seccomp_program(architecture, refused)
    for number in range(600):
        assert evaluate(program, architecture, number) == ("EPERM" if number in refused else "allow")
    assert evaluate(program, architecture, 0x40000000 + refused[0]) == "EPERM"  # the x32 numbering
    assert evaluate(program, architecture ^ 1, 0) == "kill"


def evaluate(program: bytes, architecture: int, number: int) -> str:
    """The four BPF instructions that the filter uses."""
    lines = [
        (int.from_bytes(program[n : n + 2], sys.byteorder), program[n + 2], program[n + 3], program[n + 4 : n + 8])
        for n in range(0, len(program), 8)
    ]
    place, loaded = 0, 0
    while True:
        code, if_true, if_false, raw = lines[place]
        value = int.from_bytes(raw, sys.byteorder)
        if code == 0x06:
            return {0x7FFF0000: "allow", 0x80000000: "kill", 0x00050001: "EPERM"}[value]
        if code == 0x20:
            loaded = {0: number, 4: architecture}[value]
            place += 1
        else:
            holds = loaded == value if code == 0x15 else loaded >= value
            place += 1 + (if_true if holds else if_false)


def test_an_ordinary_user_is_isolated_too(port):
    become = "os.setgroups([]); os.setgid(65534); os.setuid(65534)" if os.getuid() == 0 else "pass"
    before = f"import encodings.idna; {become}; isolation.isolate(os.getppid())"
    assert child(port, before)[0] in ("EPERM", "ENETUNREACH")


DRIVER = """
import errno, os, socket, threading
from appliance.engine import isolation
begun, made = threading.Event(), []

def later():
    begun.wait()
    try:
        socket.socket()
        made.append("a socket")
    except OSError as error:
        made.append(errno.errorcode[error.errno])

def load():
    thread = threading.Thread(target=later)
    thread.start()
    socket.socket(socket.AF_UNIX, socket.SOCK_SEQPACKET).bind("\\0driver")
    memory = os.memfd_create("driver")
    os.ftruncate(memory, 4096)
    made.append(thread)

verdict = isolation.isolate(os.getppid(), between=load)
begun.set()
made[0].join()
print(made[1], "seccomp" in str(verdict))
"""


def test_what_a_driver_needs_is_made_between_the_walls_and_its_threads_are_behind_both():
    done = subprocess.run([sys.executable, "-c", DRIVER], capture_output=True, text=True, timeout=120)
    assert (done.stdout, done.returncode) == ("EPERM True\n", 0), done.stderr
