"""The trainable reader: frozen encoder, adapters, and two outputs per token, for the start and the end of an answer.

    reader = build_reader(base / "model.safetensors", MINILM.shape, rank=32, alpha=64.0, first_layer=2, dropout=0.1)
    logits = reader(token_ids, lengths)              # (batch, tokens, 2)

The states times a matrix is the formula of `engine/heads.py` for a `token` head without a convolution.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
from torch import Tensor, nn

from appliance.specialists.base_model import BertShape
from appliance.specialists.tasks.answer import COLUMNS
from appliance.training.lora import LoraLinear, add_adapters
from appliance.training.minilm import Encoder, load_encoder
from appliance.types import Head


class Reader(nn.Module):
    """Encoder and head. What is trained is `trainable()`; everything else is as published."""

    def __init__(self, encoder: Encoder, adapters: dict[str, LoraLinear], dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapters = adapters
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(encoder.states, COLUMNS)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        logits: Tensor = self.out(self.dropout(self.encoder(token_ids, lengths)))
        return logits.float()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters by name: adapters and output."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def numpy_head(self) -> Head:
        """The head as the engine takes it."""
        weight = np.ascontiguousarray(self.out.weight.detach().float().cpu().numpy().T)
        bias = np.ascontiguousarray(self.out.bias.detach().float().cpu().numpy())
        return Head("token", 0, None, None, weight, bias)


def build_reader(
    weights: Path, shape: BertShape, *, rank: int, alpha: float, first_layer: int, dropout: float
) -> Reader:
    """An untrained reader over the published encoder, with adapters from `first_layer` on."""
    encoder = load_encoder(weights, shape)
    return Reader(encoder, add_adapters(encoder, rank, alpha, first_layer), dropout)
