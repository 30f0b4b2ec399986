"""The base encoder in plain PyTorch, loaded from the same safetensors file that serving converts.

    encoder = load_encoder(base / "model.safetensors", SHAPE)
    states = encoder(token_ids, lengths)             # (batch, tokens, 384)

Module names are the GGUF tensor names of the converted base (`blk.0.attn_q`, ...), so that an adapter trained here
needs no table of names when it is exported. No dropout: the adapters are small and see each text once.
"""

from __future__ import annotations

from pathlib import Path

import torch
from safetensors.torch import load_file
from torch import Tensor, nn
from torch.nn import functional

from appliance.specialists.base_conversion import tensor_names
from appliance.specialists.base_model import BertShape


class Layer(nn.Module):
    """One post-norm transformer layer."""

    def __init__(self, states: int, inner: int, heads: int, epsilon: float) -> None:
        super().__init__()
        self.heads = heads
        self.attn_q = nn.Linear(states, states)
        self.attn_k = nn.Linear(states, states)
        self.attn_v = nn.Linear(states, states)
        self.attn_output = nn.Linear(states, states)
        self.attn_output_norm = nn.LayerNorm(states, epsilon)
        self.ffn_up = nn.Linear(states, inner)
        self.ffn_down = nn.Linear(inner, states)
        self.layer_output_norm = nn.LayerNorm(states, epsilon)

    def forward(self, x: Tensor, mask: Tensor) -> Tensor:
        batch, tokens, states = x.shape

        def split(projected: Tensor) -> Tensor:
            return projected.view(batch, tokens, self.heads, -1).transpose(1, 2)

        query, key, value = split(self.attn_q(x)), split(self.attn_k(x)), split(self.attn_v(x))
        mixed = functional.scaled_dot_product_attention(query, key, value, attn_mask=mask)
        x = self.attn_output_norm(x + self.attn_output(mixed.transpose(1, 2).reshape(batch, tokens, states)))
        return self.layer_output_norm(x + self.ffn_down(functional.gelu(self.ffn_up(x))))


class Encoder(nn.Module):
    """Token ids to token states."""

    def __init__(self, words: int, positions: int, types: int, states: int, inner: int, shape: BertShape) -> None:
        super().__init__()
        self.states = states
        self.token_embd = nn.Embedding(words, states)
        self.position_embd = nn.Embedding(positions, states)
        self.token_types = nn.Embedding(types, states)
        self.token_embd_norm = nn.LayerNorm(states, shape.layer_norm_epsilon)
        layers = (Layer(states, inner, shape.heads, shape.layer_norm_epsilon) for _ in range(shape.layers))
        self.blk = nn.ModuleList(layers)

    def forward(self, token_ids: Tensor, lengths: Tensor) -> Tensor:
        """`token_ids` (batch, tokens), padded at the end; `lengths` (batch,). States of padding are meaningless."""
        return self.through(self.embedded(token_ids), lengths, 0, len(self.blk))

    def embedded(self, token_ids: Tensor) -> Tensor:
        """What enters the first layer: (batch, tokens, states)."""
        places = torch.arange(token_ids.shape[1], device=token_ids.device)
        return self.token_embd_norm(
            self.token_embd(token_ids) + self.position_embd(places) + self.token_types.weight[0]
        )

    def through(self, x: Tensor, lengths: Tensor, first: int, stop: int) -> Tensor:
        """`x` (batch, tokens, states) through layers `first` to `stop - 1`."""
        mask = (torch.arange(x.shape[1], device=x.device)[None, :] < lengths[:, None])[:, None, None, :]
        for layer in self.blk[first:stop]:
            x = layer(x, mask)
        return x


def load_encoder(path: Path, shape: BertShape) -> Encoder:
    """The encoder with its published weights, frozen."""
    weights = load_file(path)
    words, states = weights["embeddings.word_embeddings.weight"].shape
    positions = weights["embeddings.position_embeddings.weight"].shape[0]
    types = weights["embeddings.token_type_embeddings.weight"].shape[0]
    inner = weights["encoder.layer.0.intermediate.dense.weight"].shape[0]
    encoder = Encoder(words, positions, types, states, inner, shape)
    encoder.load_state_dict({ours: weights[theirs] for theirs, ours in tensor_names(shape)})
    return encoder.requires_grad_(False)
