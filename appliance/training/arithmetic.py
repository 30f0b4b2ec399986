"""Where a training step is computed and in which arithmetic: one decision for taggers, classifiers and readers.

    device = device_named("cuda")
    with autocast(device):
        logits = model(...)

On a processor bfloat16 is twice as fast as float32 where it is multiplied in hardware, and over twenty times slower
where it has to be emulated: it is used only where the processor says that it has AVX-512 with BF16, or AMX. On a GPU
of NVIDIA's, products of float32 are taken in TF32: these models are so small that launching kernels takes the time.
"""

from __future__ import annotations

from collections.abc import Iterable
from contextlib import AbstractContextManager, nullcontext

import numpy as np
import torch
from torch import Tensor

from appliance.errors import ConfigInvalid

CPU = torch.device("cpu")
DEVICES = ("cpu", "cuda")
_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def device_named(name: str) -> torch.device:
    """One of `DEVICES`. Raises `ConfigInvalid` where this machine, or this build of PyTorch, has no such device."""
    if name == "cuda":
        if not torch.cuda.is_available():
            raise ConfigInvalid(
                "this machine has no GPU that PyTorch can use",
                hint="train with --device cpu, or install a CUDA build of PyTorch and the driver",
            )
        torch.set_float32_matmul_precision("high")
    return torch.device(name)


def autocast(device: torch.device) -> AbstractContextManager[object]:
    """bfloat16 inside, if this is a processor that multiplies it; otherwise nothing changes."""
    if device.type == "cpu" and multiplies_bfloat16():
        return torch.autocast("cpu", dtype=torch.bfloat16)
    return nullcontext()


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _BFLOAT16)


def on(device: torch.device, arrays: Iterable[np.ndarray]) -> tuple[Tensor, ...]:
    """Arrays as tensors of that device."""
    return tuple(torch.from_numpy(array).to(device, non_blocking=True) for array in arrays)


def device_of(parameters: Iterable[Tensor]) -> torch.device:
    """Where a model lies, from its parameters."""
    return next(iter(parameters)).device
