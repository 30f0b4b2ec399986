"""Whether the packages of a wheelhouse compute on this processor, or on one that is emulated (`.ci/wheelhouse`).

    PYTHONPATH=tests/engine .venv/bin/python .ci/wheel_check.py                    # CPU: llama.cpp's code for zen4
    PYTHONPATH=tests/engine qemu-x86_64 -cpu Nehalem .venv/bin/python .ci/wheel_check.py

A small random model is compared with a reference in numpy. An instruction that the processor does not have ends this.
"""

from __future__ import annotations

import sys
import tempfile
from pathlib import Path

import numpy as np
from engine_tiny_bert import encode, random_bert, write_base

from appliance.engine.llama_encoder import LlamaEncoder

TOLERANCE = 0.01  # llama.cpp keeps attention in half precision


def main() -> None:
    """Compute, compare, and say which code did it."""
    random = np.random.default_rng(7)
    model = random_bert(random)
    sequences = [random.integers(5, 96, length).astype(np.int32) for length in (3, 17, 64)]
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "base.gguf"
        write_base(path, model)
        encoder = LlamaEncoder.open(path, lanes=1, microbatch_tokens=128, sequences_max=8)
        states = np.split(encoder.encode(0, None, sequences).copy(), np.cumsum([len(one) for one in sequences])[:-1])
    error = max(np.abs(found - encode(model, list(one))).max() for found, one in zip(states, sequences, strict=True))
    if not error < TOLERANCE:
        sys.exit(f"error: {encoder.facts.device}: token states differ by {error}")
    print(f"{encoder.facts.device}; token states within {error:.4f} of the reference")


if __name__ == "__main__":
    main()
