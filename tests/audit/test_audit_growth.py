"""A log that grows needs no more memory, and its proofs grow with the logarithm of its size.

Verification time is measured in `benchmarks/`; here is what must hold on any machine.
"""

import resource
import shutil
import subprocess
import sys

import pytest

from appliance.audit import auditverify
from appliance.audit.checkpoint import parse_checkpoint
from appliance.audit.clock import read_clock
from appliance.audit.keystore import open_keystore
from appliance.audit.log import _start
from appliance.audit.reader import LogReader
from appliance.audit.writer import LogWriter
from appliance.config import Home
from appliance.crypto import signing
from appliance.crypto.merkle import root_from_inclusion
from appliance.crypto.note import verifier_key
from tests.audit.audit_home import config_of
from tests.audit.faults.driver import id_of, sealed
from tests.audit.faults.look import signer_note
from tests.audit.faults.memory import memory_folder

BATCH = 1000
GROWN_KIB_MAX = 48 * 1024  # beyond what the smallest log needs
VERIFIER_KIB_MAX = 200 * 1024
PROOF_MAX = 24
# The verifier as a process of its own. `ru_maxrss` would be that of whoever started it, hence the kernel's own mark.
MEASURED = (
    "import sys, re, runpy\n"
    "status = runpy.run_path(sys.argv[1])['verify'](sys.argv[2:])\n"
    "print(re.search(r'VmHWM:\\s+(\\d+)', open('/proc/self/status').read())[1])\nsys.exit(status)"
)


@pytest.fixture
def folder():
    with memory_folder() as folder:
        yield folder


@pytest.fixture
def home(_first_home, folder):
    return Home(shutil.copytree(_first_home, folder / "home"))


def grow(writer, first, last):
    for number in range(first, last, BATCH):
        writer.commit([sealed(i, 200) for i in range(number, min(last, number + BATCH))])


def verifier_kib(start, folder):
    """The most memory that `auditverify` used; it must say 0."""
    (folder / "trusted").write_text(signer_note(start))
    key = verifier_key(start.origin, signing.public_key(start.seed))
    arguments = [start.database, "--pub", key, "--trusted", folder / "trusted"]
    command = [sys.executable, "-I", "-c", MEASURED, auditverify.__file__, *map(str, arguments)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=1200)
    assert done.returncode == 0, done.stdout + done.stderr
    return int(done.stdout.splitlines()[-1])


def grown_log(home, root_key, folder, sizes):
    """The log at each of these sizes: memory of the verifier and of the writer, and the longest proof."""
    start = _start(config_of(home), open_keystore(home, root_key))
    writer = LogWriter.open(start, clock=read_clock)
    measured, done = [], 0
    for size in sizes:
        grow(writer, done, size)
        done = size
        before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        grow(writer, done, done + BATCH)
        done += BATCH
        after = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
        measured.append((verifier_kib(start, folder), after - before))
    writer.close()
    reader = LogReader(home, open_keystore(home, root_key))
    try:
        for number in (0, done // 2, done - 1):
            receipt = reader.receipt(id_of(number))
            assert len(receipt.proof) <= PROOF_MAX
            signed = parse_checkpoint(receipt.checkpoint.partition("\n\n")[0] + "\n")
            assert root_from_inclusion(receipt.seq, receipt.size, receipt.leaf, receipt.proof) == signed.root
    finally:
        reader.close()
    return measured


def bounded(measured):
    print("verifier KiB, writer's growth KiB:", measured)
    assert max(verifier for verifier, _ in measured) < VERIFIER_KIB_MAX
    smallest = measured[0][0]
    for verifier, writer in measured[1:]:
        assert verifier - smallest < GROWN_KIB_MAX
        assert writer < GROWN_KIB_MAX


def test_memory_and_proofs_stay_small_while_a_log_grows_sample(home, root_key, folder):
    bounded(grown_log(home, root_key, folder, [1000, 5000]))


@pytest.mark.long
@pytest.mark.timeout(3600)
def test_memory_and_proofs_stay_small_up_to_a_million_records(home, root_key, folder):
    bounded(grown_log(home, root_key, folder, [1000, 10_000, 100_000, 1_000_000]))
