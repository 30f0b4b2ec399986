"""llama.cpp is made ready from its own folder: nothing that lies where a process happens to start is ever loaded.

Left to itself, a portable build looks for its modules beside the interpreter and in the current folder.
`.ci/wheelhouse` runs this file on the portable package that it made; elsewhere it looks at the build of the machine.
"""

import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from appliance.engine.llamacpp import cpu_verdict, freest_gpu, ggml_version

PLANTED = """
#include <stdio.h>
__attribute__((constructor)) static void planted(void) { puts("PLANTED"); fflush(stdout); }
int ggml_backend_score(void) { return 1 << 20; }
void *ggml_backend_init(void) { return 0; }
"""
BEGIN = """
from appliance.engine.llamacpp import begin, cpu_verdict
begin()
begin()
print(cpu_verdict())
"""


def ready_in(folder: Path) -> str:
    """What a process prints that makes llama.cpp ready in this folder."""
    command = [sys.executable, "-P", "-c", BEGIN]
    path = [str(Path(__file__).parents[2]), *sys.path]
    environment = {"PYTHONPATH": ":".join(place for place in path if place), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, capture_output=True, text=True, cwd=folder, env=environment)
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_libraries_planted_in_the_current_folder_are_not_loaded(tmp_path):
    (tmp_path / "planted.c").write_text(PLANTED)
    subprocess.run(["cc", "-shared", "-fPIC", "-o", tmp_path / "planted", tmp_path / "planted.c"], check=True)
    for kind in ("cpu-haswell", "cpu-zen4", "cpu-x64", "blas", "cuda", "vulkan", "rpc"):
        shutil.copy(tmp_path / "planted", tmp_path / f"libggml-{kind}.so")
    # Loaded, it would be seen.
    loaded = [sys.executable, "-c", f"import ctypes; ctypes.CDLL({str(tmp_path / 'libggml-blas.so')!r})"]
    assert "PLANTED" in subprocess.run(loaded, capture_output=True, text=True, check=True).stdout
    assert ready_in(tmp_path).startswith("CPU")
    assert "PLANTED" not in ready_in(tmp_path)


def test_which_code_computes_is_said():
    """A portable build has chosen a module; a native one has no choice."""
    said = ready_in(Path("/"))
    assert said.startswith(("CPU: llama.cpp's code for ", "CPU: llama.cpp as it was built for this machine"))


@pytest.mark.parametrize("asked", [cpu_verdict, ggml_version])
def test_what_is_said_of_the_library_is_text(asked):
    assert isinstance(asked(), str) and asked()


def test_without_a_gpu_none_is_found():
    assert freest_gpu() == ("", 0)
