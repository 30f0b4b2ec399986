"""The trainable classifier: frozen encoder, adapters, and one linear layer over the mean of each segment's states.

    classifier = build_classifier(base / "model.safetensors", MINILM.shape, labels=77, rank=16, alpha=32.0)
    logits = classifier(token_ids, lengths, segments)        # (segments, labels)

The mean of the states times a matrix is the formula of `engine/heads.py` (`pooled`); for sentences of one document it
is the mean of the rows of a `token` head, which is the same number.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import torch
from torch import Tensor, nn

from appliance.specialists.base_model import BertShape
from appliance.training.lora import LoraLinear, add_adapters
from appliance.training.minilm import Encoder, load_encoder
from appliance.types import Head


class Classifier(nn.Module):
    """Encoder and head. What is trained is `trainable()`; everything else is as published."""

    def __init__(
        self, encoder: Encoder, adapters: dict[str, LoraLinear], labels: int, dropout: float, first_layer: int
    ) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapters = adapters
        self.first_layer = first_layer
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(encoder.states, labels)

    def forward(self, token_ids: Tensor, lengths: Tensor, segments: Tensor, states: Tensor | None = None) -> Tensor:
        """Logits (segments, labels). `states`: what `below` gave for these ids, to save computing it again."""
        return self.out(self.dropout(self.means(token_ids, lengths, segments, states)))

    def below(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """States (batch, tokens, S) that enter the first layer with adapters; training does not change them."""
        with torch.no_grad():
            return self.encoder.through(self.encoder.embedded(token_ids), lengths, 0, self.first_layer)

    def means(self, token_ids: Tensor, lengths: Tensor, segments: Tensor, states: Tensor | None = None) -> Tensor:
        """The mean of each segment's final states (segments, S)."""
        if states is None:
            states = self.below(token_ids, lengths)
        states = self.encoder.through(states, lengths, self.first_layer, len(self.encoder.blk))
        inside = segments >= 0
        places = segments[inside]
        count = int(places.max()) + 1
        rows = states[inside].float()
        sums = rows.new_zeros(count, states.shape[2]).index_add_(0, places, rows)
        sizes = rows.new_zeros(count).index_add_(0, places, rows.new_ones(len(places)))
        return sums / sizes[:, None]

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters by name: adapters and output."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def numpy_head(self, kind: str) -> Head:
        """The head as the engine takes it; `kind` is `pooled` or, for sentences of a document, `token`."""
        weight = np.ascontiguousarray(self.out.weight.detach().float().cpu().numpy().T)
        bias = np.ascontiguousarray(self.out.bias.detach().float().cpu().numpy())
        return Head(kind, 0, None, None, weight, bias)  # type: ignore[arg-type]


def build_classifier(
    weights: Path, shape: BertShape, *, labels: int, rank: int, alpha: float, dropout: float, first_layer: int = 0
) -> Classifier:
    """An untrained classifier over the published encoder."""
    encoder = load_encoder(weights, shape)
    return Classifier(encoder, add_adapters(encoder, rank, alpha, first_layer), labels, dropout, first_layer)
