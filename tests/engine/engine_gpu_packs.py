"""GPU packs for tests: of bytes, to be looked at; of a small compiled library that says it is a GPU, to be loaded."""

import hashlib
import json
import subprocess
from importlib.metadata import version
from pathlib import Path

from appliance.engine.gpu_pack import FORMAT, GGML_API, MANIFEST, Machine, Program
from appliance.engine.llamacpp import ggml_version

OURS = Program(version("llama-cpp-python"), ggml_version())
FIT = Machine(nvidia="580.65.06", vulkan_loader=True, vulkan_driver=True)
FAKE_GPU = """
#include <stddef.h>
typedef struct reg reg; typedef struct dev dev;
typedef struct { const char *(*name)(dev *); const char *(*about)(dev *); void (*memory)(dev *, size_t *, size_t *);
    int (*type)(dev *); void *rest[16]; } dev_iface;
struct dev { dev_iface iface; reg *owner; void *context; };
typedef struct { const char *(*name)(reg *); size_t (*count)(reg *); dev *(*get)(reg *, size_t);
    void *(*address)(reg *, const char *); } reg_iface;
struct reg { int api; reg_iface iface; void *context; };
extern int dependency(void);
static const char *name(dev *d) { (void)d; return "FAKE0"; }
static const char *about(dev *d) { (void)d; return "Fake accelerator"; }
static void memory(dev *d, size_t *free, size_t *total) { (void)d; *free = *total = (size_t)8 << 30; }
static int type(dev *d) { (void)d; return 1; }
static dev device = { { name, about, memory, type, { 0 } }, NULL, NULL };
static const char *reg_name(reg *r) { (void)r; return "FAKE"; }
static size_t count(reg *r) { (void)r; return dependency() == 42 ? COUNT : 0; }
static dev *get(reg *r, size_t n) { (void)n; device.owner = r; return &device; }
static void *address(reg *r, const char *n) { (void)r; (void)n; return NULL; }
static reg registry = { API, { reg_name, count, get, address }, NULL };
reg *ggml_backend_init(void) { return &registry; }
"""


def write_pack(folder: Path, contents: dict[str, bytes] | None = None, **changed: object) -> Path:
    folder.mkdir(mode=0o755, exist_ok=True)
    contents = contents or {"libcudart.so.13": b"runtime", "libggml-cuda.so": b"kernels"}
    for name, content in contents.items():
        if not (folder / name).exists():
            (folder / name).write_bytes(content)
        (folder / name).chmod(0o644)
    manifest = {
        "format": FORMAT,
        "kind": "cuda",
        "llama_cpp_python": OURS.llama_cpp_python,
        "ggml": OURS.ggml,
        "ggml_api": GGML_API,
        "toolkit": "13.0",
        "driver_min": "580",
        "architectures": ["90-real"],
        "libraries": [described(folder / name) for name in contents],
    }
    (folder / MANIFEST).write_text(json.dumps(manifest | changed))
    (folder / MANIFEST).chmod(0o644)
    return folder


def described(path: Path) -> dict[str, object]:
    content = path.read_bytes()
    return {"name": path.name, "size": len(content), "sha256": hashlib.sha256(content).hexdigest()}


def compiled(folder: Path, *, api: int = GGML_API, count: int = 1) -> Path:
    """A pack for Vulkan, which needs no driver of NVIDIA's: a library that is a GPU, and one that it needs."""
    folder.mkdir(mode=0o755)
    (folder / "needed.c").write_text("int dependency(void) { return 42; }\n")
    (folder / "gpu.c").write_text(FAKE_GPU)
    build = ["cc", "-shared", "-fPIC", "-O0"]
    needed, library = folder / "libneeded.so.1", folder / "libggml-fake.so"
    subprocess.run([*build, "-Wl,-soname,libneeded.so.1", "-o", needed, folder / "needed.c"], check=True)
    said = [f"-DAPI={api}", f"-DCOUNT={count}"]
    subprocess.run([*build, *said, "-o", library, folder / "gpu.c", needed], check=True)
    return write_pack(folder, {needed.name: b"", library.name: b""}, kind="vulkan", driver_min="")


def on_a_machine(machine: Machine, program: str) -> str:
    """A program of Python's that finds these drivers."""
    return f"import appliance.engine.gpu_pack as p; p.Machine.here = classmethod(lambda cls: p.{machine!r})\n{program}"
