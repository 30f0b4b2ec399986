"""The trainable tagger: frozen encoder, adapters, and a head of one convolution over states and word shapes.

    tagger = build_tagger(base / "model.safetensors", MINILM.shape, HeadShape(88, 5, 160, 39), rank=24, alpha=48.0)
    logits = tagger(token_ids, features, lengths)    # (batch, tokens, classes)

The head is the formula of `engine/heads.py`, in PyTorch; a test compares the two.
"""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional

from appliance.specialists.base_model import BertShape
from appliance.training.lora import LoraLinear, add_adapters
from appliance.training.minilm import Encoder, load_encoder
from appliance.types import Head


@dataclass(frozen=True, slots=True)
class HeadShape:
    """Inputs and outputs of the head besides the encoder's states."""

    features: int
    conv_width: int
    hidden: int
    classes: int


class Tagger(nn.Module):
    """Encoder and head. What is trained is `trainable()`; everything else is as published."""

    def __init__(self, encoder: Encoder, adapters: dict[str, LoraLinear], head: HeadShape) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapters = adapters
        self.shape = head
        self.dropout = nn.Dropout(0.1)
        self.conv = nn.Conv1d(
            encoder.states + head.features, head.hidden, head.conv_width, padding=head.conv_width // 2
        )
        self.out = nn.Linear(head.hidden, head.classes)

    def forward(self, token_ids: Tensor, features: Tensor, lengths: Tensor) -> Tensor:
        states = self.encoder(token_ids, lengths)
        inside = torch.arange(token_ids.shape[1], device=lengths.device)[None, :] < lengths[:, None]
        # Padding must look like the zeros beyond a sequence's end, or the convolution would see it.
        inputs = torch.cat((self.dropout(states), features.to(states.dtype)), dim=2) * inside[:, :, None]
        hidden = functional.gelu(self.conv(inputs.transpose(1, 2)), approximate="tanh")
        return self.out(self.dropout(hidden.transpose(1, 2))).float()

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters by name: adapters, convolution, output."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def numpy_head(self) -> Head:
        """The head as the engine takes it."""
        return Head(
            kind="token",
            feature_count=self.shape.features,
            conv_weight=_array(self.conv.weight.permute(2, 1, 0)),
            conv_bias=_array(self.conv.bias),
            out_weight=_array(self.out.weight.T),
            out_bias=_array(self.out.bias),
        )


def build_tagger(
    weights: Path, shape: BertShape, head: HeadShape, *, rank: int, alpha: float, first_layer: int = 0
) -> Tagger:
    """An untrained tagger over the published encoder, with adapters from `first_layer` on."""
    encoder = load_encoder(weights, shape)
    return Tagger(encoder, add_adapters(encoder, rank, alpha, first_layer), head)


def _array(tensor: Tensor | None) -> np.ndarray:
    assert tensor is not None
    return np.ascontiguousarray(tensor.detach().float().cpu().numpy())
