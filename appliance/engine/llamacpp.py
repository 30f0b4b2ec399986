"""The library llama.cpp in this process: made ready, asked for its reasons and its GPUs. Only importer of `llama_cpp`.

    begin()
    model = llama.llama_model_load_from_file(b"base.gguf", llama.llama_model_default_params())

Specialists compute in `llama_encoder.py`, models that write in `generation/llama_decoder.py`. Both run in a worker
process and nowhere else: a malformed file can abort the process. They use the low-level interface, because the
high-level one copies token states one float at a time and knows no adapter switching.
"""

from __future__ import annotations

import ctypes
import os
import re
from collections import deque
from dataclasses import dataclass
from pathlib import Path

from llama_cpp import llama_cpp as llama

from appliance.engine.gpu_pack import Machine, Program, examine
from appliance.errors import EngineUnavailable, SpecialistFileInvalid

_LOG_LEVEL_WARN, _LOG_LEVEL_ERROR = 3, 4
_GPU_DEVICES = (1, 2)  # GGML_BACKEND_DEVICE_TYPE_GPU, _IGPU
# ggml's functions as llama.cpp itself finds them. A wheel has no links, so that the library lies there under two names;
# opened under the other one (as `llama_cpp._ggml` does) it is a second one, whose backends llama.cpp never sees.
_ggml: ctypes.CDLL = llama._lib
_FOLDER = Path(_ggml._name).parent
log_tail: deque[str] = deque(maxlen=4)


@llama.llama_log_callback
def _keep_log_line(level: int, text: bytes, _user_data: object) -> None:
    """Errors of the library explain a refused file; everything else is noise on a server."""
    if level in (_LOG_LEVEL_WARN, _LOG_LEVEL_ERROR):
        log_tail.append(text.decode(errors="replace").strip())


def begin() -> None:
    """Make llama.cpp ready, once a process; again forgets what it complained about and changes nothing else.

    A portable build keeps what each kind of processor needs as a module of its own beside the library. They are loaded
    from there by name: left to itself, llama.cpp looks beside the interpreter and in the current directory, where
    others may have put theirs.
    """
    llama.llama_log_set(_keep_log_line, None)
    if _ggml.ggml_backend_reg_count() == 0:
        _ggml.ggml_backend_load_all_from_path(os.fsencode(_FOLDER))
    if _ggml.ggml_backend_reg_count() == 0:
        raise EngineUnavailable(
            "llama.cpp has no code for this processor",
            hint="install the package that was made for it: make wheelhouse, or build it on this machine",
        )
    llama.llama_backend_init()
    log_tail.clear()


def cpu_verdict() -> str:
    """Which of the modules of a portable build was chosen for this processor; a native build has only one."""
    try:
        mapped = Path("/proc/self/maps").read_text()
    except OSError:
        return "CPU"
    found = re.search(r"/libggml-cpu-([a-z0-9_]+)\.so", mapped)
    return f"CPU: llama.cpp's code for {found.group(1)}" if found else "CPU: llama.cpp as it was built for this machine"


def load_gpu_pack(folder: Path) -> str:
    """Load the GPU pack that lies there, once a process. Returns why it is not used; nothing: it is, or there is none.

    The libraries are loaded by path, dependencies first, so that the loader looks for none of them anywhere else.
    """
    verdict = examine(folder, Program.installed(ggml_version()), Machine.here())
    if verdict.pack is None:
        return verdict.why
    *needed, library = verdict.pack.libraries
    try:
        for path in needed:
            ctypes.CDLL(str(path), mode=ctypes.RTLD_GLOBAL)
    except OSError as error:
        return f"{path.name} cannot be loaded: {str(error)[:300]}"
    log_tail.clear()
    load = _ggml.ggml_backend_load
    load.restype, load.argtypes = ctypes.c_void_p, [ctypes.c_char_p]
    if not load(os.fsencode(library)):
        return f"{library.name} cannot be loaded{reason()}"
    return ""


@dataclass(slots=True)
class GpuAttempt:
    """A pack's folder, if a GPU is wanted and one is installed; after `load`, why it is not in use."""

    folder: Path | None
    refused: str = ""

    def load(self) -> None:
        """Everything of a GPU's driver that makes threads, sockets or files happens here."""
        begin()
        if self.folder is not None:
            self.refused = load_gpu_pack(self.folder)
        freest_gpu()  # asked for its memory, a device is opened


def ggml_version() -> str:
    """Version and commit of the library that is loaded: 0.25.3-0c1e570."""
    parts = []
    for asked in (_ggml.ggml_version, _ggml.ggml_commit):
        asked.restype = ctypes.c_char_p
        parts.append(asked().decode(errors="replace").removesuffix("-dirty"))
    return "-".join(parts)


def reason() -> str:
    return f": {log_tail[-1]}" if log_tail else ""


def freest_gpu() -> tuple[str, int]:
    """Name and free bytes of the GPU with the most free memory; no name: there is none."""
    library = _ggml
    library.ggml_backend_dev_count.restype = ctypes.c_size_t
    library.ggml_backend_dev_get.restype = ctypes.c_void_p
    library.ggml_backend_dev_description.restype = ctypes.c_char_p
    best = ("", 0)
    for number in range(library.ggml_backend_dev_count()):
        device = ctypes.c_void_p(library.ggml_backend_dev_get(ctypes.c_size_t(number)))
        if library.ggml_backend_dev_type(device) not in _GPU_DEVICES:
            continue
        free, total = ctypes.c_size_t(), ctypes.c_size_t()
        library.ggml_backend_dev_memory(device, ctypes.byref(free), ctypes.byref(total))
        if free.value > best[1]:
            best = library.ggml_backend_dev_description(device).decode(errors="replace"), free.value
    return best


def read_adapter(model: ctypes.c_void_p, path: Path) -> ctypes.c_void_p:
    log_tail.clear()
    return known_adapter(llama.llama_adapter_lora_init(model, str(path).encode()))


def known_adapter(adapter: ctypes.c_void_p | None) -> ctypes.c_void_p:
    if not adapter:
        raise SpecialistFileInvalid(
            f"llama.cpp cannot read the specialist's adapter{reason()}",
            hint="the file is damaged or made for another base model; install it again from its source",
        )
    return adapter


def set_adapter(context: ctypes.c_void_p, adapter: ctypes.c_void_p | None) -> None:
    if adapter is None:
        status = llama.llama_set_adapters_lora(context, None, 0, None)
    else:
        pointers = (llama.llama_adapter_lora_p_ctypes * 1)(adapter)  # type: ignore[misc]  # opaque
        status = llama.llama_set_adapters_lora(context, pointers, 1, (ctypes.c_float * 1)(1.0))
    if status != 0:
        raise EngineUnavailable(f"llama.cpp could not switch adapters{reason()}")
