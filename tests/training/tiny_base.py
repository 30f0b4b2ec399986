"""A BERT of two layers with random weights, in the published layout and converted: it stands in for the real base."""

from pathlib import Path

import numpy as np
from safetensors.numpy import save_file

from appliance.specialists.base_conversion import BertShape, StorageType, convert, tensor_names
from appliance.specialists.tokenization import WordPiece

SHAPE = BertShape(layers=2, heads=2)
STATES, INNER, POSITIONS = 64, 128, 64
LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *"-/.,:")
WORDPIECE = WordPiece.from_tokens(VOCABULARY)


def write_tiny_base(folder: Path) -> None:
    """`model.safetensors` and `base.gguf`, the same weights in both."""
    rng = np.random.default_rng(3)
    rows_of = {"word_embeddings": len(VOCABULARY), "position_embeddings": POSITIONS, "token_type_embeddings": 2}
    weights = {}
    for theirs, ours in tensor_names(SHAPE):
        part = ours.split(".")[-2]
        rows = rows_of.get(theirs.split(".")[1], INNER if part == "ffn_up" else STATES)
        columns = INNER if part == "ffn_down" else STATES
        flat = theirs.endswith("bias") or "norm" in ours
        shift = 1.0 if "norm" in ours and theirs.endswith("weight") else 0.0
        scale = 0.1 if flat else columns**-0.5
        weights[theirs] = (shift + scale * rng.standard_normal((rows,) if flat else (rows, columns))).astype(np.float32)
    save_file(weights, folder / "model.safetensors")
    convert(folder / "model.safetensors", VOCABULARY, folder / "base.gguf", SHAPE, StorageType.F32, name="tiny")
