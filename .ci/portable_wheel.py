"""What llama-cpp-python's build leaves in its wheel becomes one for any machine: each library once, and what they need.

    python .ci/portable_wheel.py wheelhouse/llama_cpp_python-0.3.36-py3-none-linux_x86_64.whl

The build writes every library three times, because a wheel has no links, and one that Python never loads. It leaves
out libgomp, which a bare Debian does not have; it is taken from the compiler of this machine, as other packages take
theirs (numpy's libgfortran), with its licence: GPL with the GCC Runtime Library Exception. Done twice, it is the same.
"""

from __future__ import annotations

import base64
import hashlib
import re
import subprocess
import sys
import zipfile
from pathlib import Path

FOLDER = "llama_cpp/lib/"
# What Python opens has its plain name, what these ask for that of the short version; libggml is needed under both.
KEPT = re.compile(r"lib(llama|ggml|ggml-cpu-[a-z0-9_]+)\.so|libggml(-base)?\.so\.0")
GOMP = "libgomp.so.1"
NOTICE = """libgomp.so.1, in llama_cpp/lib, is part of GCC: Copyright Free Software Foundation, Inc.

It is free software under the GNU General Public License, version 3 or later, with the GCC Runtime Library Exception,
version 3.1 (https://www.gnu.org/licenses/gcc-exception-3.1.html). Its source is that of GCC, as published with the
distribution of Linux that this package was built on ({built_on}).
"""


def main(wheel: Path) -> None:
    """Rewrite the wheel in place, with a new list of its contents; the same input gives the same bytes."""
    with zipfile.ZipFile(wheel) as file:
        files = {name: file.read(name) for name in file.namelist() if not name.endswith("/")}
    (record,) = [name for name in files if re.fullmatch(r"[^/]+\.dist-info/RECORD", name)]
    kept = {name: content for name, content in files.items() if name != record and stays(name)}
    kept.setdefault(FOLDER + GOMP, gomp())
    kept[record.replace("RECORD", "licenses/libgomp-NOTICE.txt")] = NOTICE.format(built_on=built_on()).encode()
    lines = [f"{name},sha256={digest(content)},{len(content)}\n" for name, content in sorted(kept.items())]
    kept[record] = "".join([*lines, f"{record},,\n"]).encode()
    part = wheel.with_suffix(".part")
    with zipfile.ZipFile(part, "w", zipfile.ZIP_DEFLATED, compresslevel=9) as file:
        for name, content in sorted(kept.items(), key=lambda one: (one[0] == record, one[0])):
            entry = zipfile.ZipInfo(name)
            entry.compress_type, entry.external_attr = zipfile.ZIP_DEFLATED, 0o644 << 16
            file.writestr(entry, content)
    part.replace(wheel)


def stays(name: str) -> bool:
    """Python's part whole, no headers and build files, each library once."""
    if name.startswith(FOLDER):
        return name == FOLDER + GOMP or KEPT.fullmatch(name.removeprefix(FOLDER)) is not None
    return (name.startswith("llama_cpp/") and not name.startswith("llama_cpp/include/")) or ".dist-info/" in name


def gomp() -> bytes:
    """The library as the compiler finds it."""
    found = subprocess.run(
        ["cc", f"-print-file-name={GOMP}"], capture_output=True, text=True, check=True
    ).stdout.strip()
    if not Path(found).is_absolute():
        sys.exit(f"error: the compiler has no {GOMP}\nhint: apt-get install -y libgomp1")
    return Path(found).read_bytes()


def built_on() -> str:
    """The distribution's name of itself."""
    found = re.search(r'^PRETTY_NAME="?([^"\n]*)', Path("/etc/os-release").read_text(), re.M)
    return found.group(1) if found else "unknown"


def digest(content: bytes) -> str:
    """As RECORD writes it."""
    return base64.urlsafe_b64encode(hashlib.sha256(content).digest()).rstrip(b"=").decode()


if __name__ == "__main__":
    main(Path(sys.argv[1]))
