"""Which arithmetic a training step uses on this processor: one decision for taggers and classifiers.

    with autocast():
        logits = model(...)

bfloat16 is twice as fast as float32 where the processor multiplies it, and over twenty times slower where it has to be
emulated: it is used only where the processor says that it has AVX-512 with BF16, or AMX. Elsewhere float32.
"""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch

_BFLOAT16 = ("avx512_bf16", "amx_bf16")


def autocast() -> AbstractContextManager[object]:
    """bfloat16 inside, if this processor multiplies it; otherwise nothing changes."""
    return torch.autocast("cpu", dtype=torch.bfloat16) if multiplies_bfloat16() else nullcontext()


def multiplies_bfloat16() -> bool:
    """Whether this processor has instructions for products of bfloat16."""
    found = torch.cpu.get_capabilities()
    return any(found.get(name, False) for name in _BFLOAT16)
