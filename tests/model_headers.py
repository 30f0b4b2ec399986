"""Small GGUF files that say they are models: real headers, weights of zeros. They are read, never run.

path = write_model(folder / "tiny.gguf", context=2048)
"""

from pathlib import Path

import gguf
import numpy as np

LAYERS, WIDTH, HEADS, SHARED_HEADS, VOCABULARY = 2, 64, 4, 2, 300


def write_model(path: Path, *, architecture: str = "llama", context: int = 2048, seed: int = 0, **more: object) -> Path:
    """A model of two layers. `more`: further metadata by key (dots as two underscores), texts or integers."""
    writer = gguf.GGUFWriter(path, architecture)
    writer.add_name("Tiny of the tests")
    writer.add_license("Apache-2.0")
    writer.add_context_length(context)
    writer.add_block_count(LAYERS)
    writer.add_embedding_length(WIDTH)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(SHARED_HEADS)
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q8_0)
    writer.add_token_list([f"token {number}" for number in range(VOCABULARY)])
    writer.add_array("tests.flags", [True, False])
    writer.add_chat_template("{{ messages[0].content }}")
    for key, value in more.items():
        name = key.replace("__", ".")
        (writer.add_string if isinstance(value, str) else writer.add_uint32)(name, value)
    numbers = np.full((8, WIDTH), seed, np.float32)
    stored = gguf.GGMLQuantizationType.Q8_0
    writer.add_tensor("token_embd.weight", gguf.quants.quantize(numbers, stored), raw_dtype=stored)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path
