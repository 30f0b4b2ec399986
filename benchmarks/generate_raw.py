"""The raw batched limit: `llama_decode` over fixed tokens, nothing chosen, nobody served. Started by `generate.py`.

python -m benchmarks.generate_raw MODEL SEQUENCES PROMPT_TOKENS TOKENS THREADS      # one line of JSON
"""

from __future__ import annotations

import ctypes
import json
import sys
import time

import numpy as np
from llama_cpp import llama_cpp as llama

BATCH_TOKENS = 256


@llama.llama_log_callback
def _quiet(_level: int, _text: bytes, _data: object) -> None:
    return


def main(path: str, sequences: int, prompt: int, tokens: int, threads: int) -> None:
    """Prompts one after another, then one token of every sequence per step."""
    llama.llama_log_set(_quiet, None)
    llama.llama_backend_init()
    model = llama.llama_model_load_from_file(path.encode(), llama.llama_model_default_params())
    parameters = llama.llama_context_default_params()
    parameters.n_ctx, parameters.n_seq_max = 256 * sequences, sequences
    parameters.n_batch = parameters.n_ubatch = BATCH_TOKENS
    parameters.n_threads = parameters.n_threads_batch = threads
    parameters.kv_unified, parameters.no_perf = False, True
    context = llama.llama_init_from_model(model, parameters)
    vocabulary = llama.llama_vocab_n_tokens(llama.llama_model_get_vocab(model))
    batch = llama.llama_batch_init(BATCH_TOKENS, 0, 1)
    rng = np.random.default_rng(2)

    def decode(entries: list[tuple[int, int, bool]]) -> None:
        """(sequence, position, whether its logits are needed)"""
        for place, (sequence, position, output) in enumerate(entries):
            batch.token[place], batch.pos[place] = int(rng.integers(300, vocabulary)), position
            batch.n_seq_id[place], batch.seq_id[place][0], batch.logits[place] = 1, sequence, output
        batch.n_tokens = len(entries)
        assert llama.llama_decode(context, batch) == 0
        assert ctypes.cast(llama.llama_get_logits(context), ctypes.c_void_p).value

    decode([(0, 0, True)])
    llama.llama_memory_clear(llama.llama_get_memory(context), True)
    began, cpu = time.perf_counter(), time.process_time()
    entries = [(n, position, position == prompt - 1) for n in range(sequences) for position in range(prompt)]
    for start in range(0, len(entries), BATCH_TOKENS):
        decode(entries[start : start + BATCH_TOKENS])
    # As many steps as the engine needs: its first token comes with the last of the prompt.
    for step in range(tokens - 1):
        decode([(sequence, prompt + step, True) for sequence in range(sequences)])
    wall, used = time.perf_counter() - began, time.process_time() - cpu
    print(json.dumps({"tokens": sequences * tokens, "wall_s": wall, "cpu_s": used}))


if __name__ == "__main__":
    main(sys.argv[1], *map(int, sys.argv[2:]))
