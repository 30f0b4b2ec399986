"""A GPU pack is used only unaltered, where nobody else can write, from the program's own llama.cpp, with a fit driver.

Packs are written on the spot. Those that are loaded hold a small library compiled here that says it is a GPU; it is
loaded in a process of its own, because what a process loaded it keeps.
"""

import subprocess
import sys
from pathlib import Path

import pytest
from engine_gpu_packs import FIT, OURS, compiled, on_a_machine, write_pack

from appliance.engine.generation.llama_decoder import choose_layers
from appliance.engine.generation.model_file import MemoryEstimate
from appliance.engine.gpu_pack import GGML_API, MANIFEST, Machine, driver_version, examine, main, older

NEED = MemoryEstimate(1000, 1000, 200 * 1024**2)
CHOOSE = """
import sys
from pathlib import Path
from appliance.engine.generation.llama_decoder import choose_layers
from appliance.engine.generation.model_file import MemoryEstimate
from appliance.engine.llamacpp import GpuAttempt, llama
class Header:
    layers = 4
gpu = GpuAttempt(Path(sys.argv[1]))
gpu.load()
print(choose_layers(Header, MemoryEstimate(1000, 1000, 200 * 1024**2), None, gpu.refused))
print("llama.cpp sees a GPU" if llama.llama_supports_gpu_offload() else "llama.cpp sees none")
"""


def test_a_fit_pack_names_its_libraries_by_path_dependencies_first(tmp_path):
    folder = write_pack(tmp_path / "gpu")
    verdict = examine(folder, OURS, FIT)
    assert verdict.pack is not None and verdict.why == ""
    assert verdict.pack.libraries == (folder / "libcudart.so.13", folder / "libggml-cuda.so")
    assert str(verdict.pack) == f"cuda 13.0, for llama-cpp-python {OURS.llama_cpp_python}"


def test_without_a_pack_nothing_is_wrong(tmp_path):
    assert examine(tmp_path / "gpu", OURS, FIT) == examine(tmp_path, OURS, FIT)
    assert (examine(tmp_path, OURS, FIT).pack, examine(tmp_path, OURS, FIT).why) == (None, "")


@pytest.mark.parametrize(
    ("changed", "why"),
    [
        ({"llama_cpp_python": "0.3.35"}, "made for llama-cpp-python 0.3.35"),
        ({"ggml": "0.24.0"}, "ggml 0.24.0"),
        ({"ggml_api": GGML_API + 1}, f"interface {GGML_API + 1}"),
        ({"driver_min": "595.10"}, "needs NVIDIA's driver 595.10 or later, and this machine has 580.65.06"),
        ({"format": "cloister-gpu-pack/2"}, "of a later release"),
        ({"kind": "metal"}, "damaged"),
        ({"libraries": []}, "damaged"),
        ({"libraries": [{"name": "../libx.so", "size": 1, "sha256": ""}]}, "damaged"),
        ({"driver_min": "new"}, "damaged"),
    ],
)
def test_a_pack_of_another_llama_cpp_driver_or_format_is_refused(tmp_path, changed, why):
    verdict = examine(write_pack(tmp_path / "gpu", **changed), OURS, FIT)
    assert verdict.pack is None and why in verdict.why and verdict.remedy


@pytest.mark.parametrize("name", ["libcudart.so.13", "libggml-cuda.so"])
def test_an_altered_or_missing_library_is_refused(tmp_path, name):
    folder = write_pack(tmp_path / "gpu")
    content = (folder / name).read_bytes()
    (folder / name).write_bytes(content[:-1] + b"!")
    assert f"{name} is not the file that was packed" in examine(folder, OURS, FIT).why
    (folder / name).unlink()
    assert f"{name} cannot be read" in examine(folder, OURS, FIT).why


@pytest.mark.parametrize("name", [".", MANIFEST, "libggml-cuda.so"])
def test_what_others_may_write_is_never_loaded(tmp_path, name):
    folder = write_pack(tmp_path / "gpu")
    path = folder / name
    path.chmod(path.stat().st_mode | 0o020)
    assert "others may write" in examine(folder, OURS, FIT).why


def test_a_link_is_no_library(tmp_path):
    folder = write_pack(tmp_path / "gpu")
    (folder / "libggml-cuda.so").rename(tmp_path / "elsewhere")
    (folder / "libggml-cuda.so").symlink_to(tmp_path / "elsewhere")
    assert "is a link" in examine(folder, OURS, FIT).why


@pytest.mark.parametrize(
    ("kind", "machine", "why"),
    [
        ("cuda", Machine("", True, True), "NVIDIA's driver is not loaded"),
        ("cuda", Machine("535.183.01", True, True), "this machine has 535.183.01"),
        ("vulkan", Machine("580.65.06", False, True), "libvulkan.so.1 is not on this machine"),
        ("vulkan", Machine("580.65.06", True, False), "no driver for Vulkan"),
    ],
)
def test_a_driver_that_is_missing_or_too_old_is_named(tmp_path, kind, machine, why):
    verdict = examine(write_pack(tmp_path / "gpu", kind=kind), OURS, machine)
    assert verdict.pack is None and why in verdict.why and verdict.remedy


def test_the_driver_s_version_is_read_as_nvidia_writes_it():
    module = "NVRM version: NVIDIA UNIX Open Kernel Module for x86_64  580.65.06  Release Build  (dvs-builder@U22-I3)\n"
    assert driver_version(module + "GCC version:  gcc version 12.2.0\n") == "580.65.06"
    assert driver_version("NVRM version: NVIDIA UNIX x86_64 Kernel Module  535.54.03  Tue Jun  6\n") == "535.54.03"
    assert driver_version("570.133.20\n") == "570.133.20"
    assert driver_version("") == ""
    assert older("570.133.20", "580") and not older("580.65.06", "580") and not older("1000.1", "580.65")


def test_the_installer_is_told_by_a_line_and_a_status(tmp_path, capsys):
    assert main([str(tmp_path)]) == 2
    folder = write_pack(tmp_path / "gpu", llama_cpp_python="0.1.0")
    assert main([str(folder)]) == 1
    assert "made for llama-cpp-python 0.1.0" in capsys.readouterr().out


def test_layers_on_the_cpu_say_why():
    class Header:
        layers = 4

    assert choose_layers(Header, NEED, 0) == (0, "CPU: generation.gpu_layers is 0")
    assert choose_layers(Header, NEED, None)[1].startswith("CPU: no GPU pack is installed")
    refused = choose_layers(Header, NEED, None, "it was made for another")
    assert refused == (0, "CPU: the GPU pack is not used: it was made for another")


def chosen_in_a_process(folder: Path, machine: Machine = FIT) -> str:
    """What a process says that finds this pack on such a machine."""
    done = subprocess.run(
        [sys.executable, "-c", on_a_machine(machine, CHOOSE), str(folder)],
        capture_output=True,
        text=True,
        cwd=Path(__file__).parents[2],
    )
    assert done.returncode == 0, done.stderr
    return done.stdout.strip()


def test_a_pack_that_loads_gets_as_many_layers_as_its_gpu_has_memory_for(tmp_path):
    chosen, seen = chosen_in_a_process(compiled(tmp_path / "gpu")).split("\n")
    assert chosen == "(5, 'GPU: 5 of 5 layers on Fake accelerator, 8192 MiB free')"
    assert seen == "llama.cpp sees a GPU"


def test_a_pack_that_finds_no_gpu_leaves_the_cpu(tmp_path):
    assert "or it finds no GPU" in chosen_in_a_process(compiled(tmp_path / "gpu", count=0))


def test_a_library_of_another_interface_is_refused_by_llama_cpp_itself(tmp_path):
    said = chosen_in_a_process(compiled(tmp_path / "gpu", api=GGML_API + 1))
    assert "CPU: the GPU pack is not used: libggml-fake.so cannot be loaded" in said
