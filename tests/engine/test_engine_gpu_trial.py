"""What a worker would compute on is tried in a process as isolated as one, and whatever ends it is an answer."""

import asyncio
import subprocess
import sys
from pathlib import Path

import msgspec
import pytest
from engine_gpu_packs import FIT, compiled, on_a_machine, write_pack

from appliance.engine.gpu_pack import GGML_API
from appliance.engine.gpu_trial import Trial, try_pack

PROGRAM = "import sys; from appliance.engine.gpu_trial import main; main(sys.argv[1])"


def tried_on_a_fit_machine(folder: Path) -> Trial:
    command = [sys.executable, "-c", on_a_machine(FIT, PROGRAM), str(folder)]
    done = subprocess.run(command, capture_output=True, cwd=Path(__file__).parents[2])
    assert done.returncode == 0, done.stderr
    return msgspec.json.decode(done.stdout, type=Trial)


def test_a_pack_that_loads_tells_its_gpu_from_behind_the_worker_s_walls(tmp_path):
    assert tried_on_a_fit_machine(compiled(tmp_path / "gpu")) == Trial("Fake accelerator", 8 << 30)


@pytest.mark.parametrize(
    ("changed", "why"), [({"count": 0}, "llama.cpp finds no GPU"), ({"api": GGML_API + 1}, "libggml-fake.so cannot be")]
)
def test_a_pack_that_gives_no_gpu_says_why(tmp_path, changed, why):
    found = tried_on_a_fit_machine(compiled(tmp_path / "gpu", **changed))
    assert found.gpu == "" and why in found.why


def test_a_pack_of_another_llama_cpp_is_not_tried(tmp_path):
    folder = write_pack(tmp_path / "gpu", kind="vulkan", llama_cpp_python="0.1.0")
    assert "made for llama-cpp-python 0.1.0" in asyncio.run(try_pack(folder, 60.0)).why


def test_a_process_that_does_not_answer_in_time_is_ended_and_said(tmp_path):
    assert asyncio.run(try_pack(tmp_path, 0.001)) == Trial("", 0, "llama.cpp did not find a GPU within 0.001 s")
