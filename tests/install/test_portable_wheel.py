"""The wheel of llama.cpp that goes into bundles has each library once, and libgomp with its licence, and lists them."""

import base64
import csv
import hashlib
import subprocess
import sys
import zipfile
from pathlib import Path

PROGRAM = Path(__file__).parents[2] / ".ci" / "portable_wheel.py"
INFO = "llama_cpp_python-0.3.36.dist-info"
BUILT = ["libllama.so", "libllama.so.0", "libllama.so.0.5.0", "libggml.so", "libggml.so.0", "libggml-base.so"]
BUILT += [
    "libggml-base.so.0",
    "libggml-base.so.0.25.3",
    "libllama-common.so",
    "libggml-cpu-zen4.so",
    "libggml-cpu-x64.so",
]
KEPT = ["libggml-base.so.0", "libggml-cpu-x64.so", "libggml-cpu-zen4.so", "libggml.so", "libggml.so.0", "libgomp.so.1"]


def test_each_library_is_kept_under_the_names_it_is_asked_for_and_what_they_need_is_beside_them(tmp_path):
    wheel = tmp_path / "llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl"
    with zipfile.ZipFile(wheel, "w") as file:
        for name in BUILT:
            file.writestr(f"llama_cpp/lib/{name}", name.encode())
        for name in ("llama_cpp/__init__.py", "include/ggml.h", "lib/cmake/ggml.cmake", "llama_cpp/include/llama.h"):
            file.writestr(name, b"text")
        for name in ("METADATA", "RECORD", "licenses/LICENSE.md"):
            file.writestr(f"{INFO}/{name}", b"text")
    subprocess.run([sys.executable, PROGRAM, wheel], check=True)
    with zipfile.ZipFile(wheel) as file:
        files = {name: file.read(name) for name in file.namelist()}
    libraries = sorted(Path(name).name for name in files if name.startswith("llama_cpp/lib/"))
    assert libraries == sorted([*KEPT, "libllama.so"])
    others = {name for name in files if not name.startswith("llama_cpp/lib/")}
    said = {f"{INFO}/{name}" for name in ("METADATA", "RECORD", "licenses/LICENSE.md", "licenses/libgomp-NOTICE.txt")}
    assert others == {"llama_cpp/__init__.py"} | said
    assert b"Runtime Library Exception" in files[f"{INFO}/licenses/libgomp-NOTICE.txt"]
    for name, digest, size in csv.reader(files[f"{INFO}/RECORD"].decode().splitlines()):
        if name != f"{INFO}/RECORD":
            found = base64.urlsafe_b64encode(hashlib.sha256(files.pop(name)).digest()).rstrip(b"=").decode()
            assert digest == f"sha256={found}" and int(size) > 0
    assert set(files) == {f"{INFO}/RECORD"}
    first = wheel.read_bytes()
    subprocess.run([sys.executable, PROGRAM, wheel], check=True)
    assert wheel.read_bytes() == first
