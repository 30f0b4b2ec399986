"""Low-rank adapters on the linear layers of a frozen encoder.

    adapters = add_adapters(encoder, rank=16, alpha=32.0)      # {"blk.0.attn_q": LoraLinear, ...}

Only the adapters' two small matrices are trained: `y = W x + b + (alpha / rank) * B (A x)`, the formula that llama.cpp
applies when it loads them from a file.
"""

from __future__ import annotations

import math

import torch
from torch import Tensor, nn
from torch.nn import functional


class LoraLinear(nn.Module):
    """A frozen linear layer and its trainable low-rank correction, which starts at zero."""

    weight: Tensor
    bias: Tensor

    def __init__(self, frozen: nn.Linear, rank: int, alpha: float) -> None:
        super().__init__()
        self.scale = alpha / rank
        self.register_buffer("weight", frozen.weight.detach(), persistent=False)
        self.register_buffer("bias", frozen.bias.detach(), persistent=False)
        self.lora_a = nn.Parameter(torch.empty(rank, frozen.in_features))
        self.lora_b = nn.Parameter(torch.zeros(frozen.out_features, rank))
        nn.init.kaiming_uniform_(self.lora_a, a=math.sqrt(5))

    def forward(self, x: Tensor) -> Tensor:
        base = functional.linear(x, self.weight, self.bias)
        return base + functional.linear(functional.linear(x, self.lora_a), self.lora_b * self.scale)


def add_adapters(encoder: nn.Module, rank: int, alpha: float, first_layer: int = 0) -> dict[str, LoraLinear]:
    """Replace the linear layers of `encoder` from transformer layer `first_layer` on in place; the new ones by name."""
    adapters = {}
    for name, module in list(encoder.named_modules()):
        if isinstance(module, nn.Linear) and int(name.split(".")[1]) >= first_layer:
            parent, _, child = name.rpartition(".")
            adapters[name] = LoraLinear(module, rank, alpha)
            setattr(encoder.get_submodule(parent), child, adapters[name])
    return adapters
