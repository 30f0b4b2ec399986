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

    def __init__(self, encoder: Encoder, adapters: dict[str, LoraLinear], labels: int, dropout: float) -> None:
        super().__init__()
        self.encoder = encoder
        self.adapters = adapters
        self.dropout = nn.Dropout(dropout)
        self.out = nn.Linear(encoder.states, labels)

    def forward(self, token_ids: Tensor, lengths: Tensor, segments: Tensor) -> Tensor:
        states = self.encoder(token_ids, lengths)
        inside = segments >= 0
        places = segments[inside]
        count = int(places.max()) + 1
        rows = states[inside].float()
        sums = torch.zeros(count, states.shape[2]).index_add_(0, places, rows)
        sizes = torch.zeros(count).index_add_(0, places, torch.ones_like(places, dtype=torch.float32))
        return self.out(self.dropout(sums / sizes[:, None]))

    def trainable(self) -> dict[str, nn.Parameter]:
        """Parameters by name: adapters and output."""
        return {name: parameter for name, parameter in self.named_parameters() if parameter.requires_grad}

    def numpy_head(self, kind: str) -> Head:
        """The head as the engine takes it; `kind` is `pooled` or, for sentences of a document, `token`."""
        weight = np.ascontiguousarray(self.out.weight.detach().float().numpy().T)
        bias = np.ascontiguousarray(self.out.bias.detach().float().numpy())
        return Head(kind, 0, None, None, weight, bias)  # type: ignore[arg-type]


def build_classifier(
    weights: Path, shape: BertShape, *, labels: int, rank: int, alpha: float, dropout: float
) -> Classifier:
    """An untrained classifier over the published encoder."""
    encoder = load_encoder(weights, shape)
    return Classifier(encoder, add_adapters(encoder, rank, alpha), labels, dropout)
