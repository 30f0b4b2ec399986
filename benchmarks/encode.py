"""How fast the worker encodes, against ONNX Runtime and PyTorch on the same weights, token ids and threads.

    python -m benchmarks.encode --base FOLDER [--rounds 5] [--threads 2] [--json]

FOLDER holds `model.safetensors` and `vocab.txt`. Everything else is made from them here: GGUF files of each type, the
ONNX graph and its int8 version (`onnxruntime.quantization`, dynamic). Contenders take turns; a figure is the median
over the rounds, a ratio is against PyTorch fp32. Cloister's figures include messages, batching and queueing of the
real worker process; the others are called in this one with the batches that suit them (sorted by length, padded).
"""

from __future__ import annotations

import argparse
import asyncio
import hashlib
import json
import statistics
import tempfile
import time
import warnings
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import onnxruntime
import torch
from onnxruntime.quantization import QuantType, quantize_dynamic

from appliance.config import EngineConfig
from appliance.engine.client import Engine
from appliance.engine.machine import usable_cores
from appliance.specialists.base_conversion import convert
from appliance.specialists.base_model import BertShape, StorageType
from appliance.training.minilm import Encoder, load_encoder
from appliance.types import Adapter, EncodeInput, Head

SHAPE = BertShape(layers=6, heads=12)
STORAGES = ("bf16", "f16", "q8_0")
LORA_RANKS = (8, 16)
LORA_TARGETS = ("attn_q", "attn_k", "attn_v", "attn_output", "ffn_up", "ffn_down")
FEATURES, HIDDEN, LABELS, WIDTH = 24, 128, 40, 3  # a head of the size that a tagger has
REFERENCE = "PyTorch fp32"
BATCH_SEQUENCES = 16
PLAIN = Adapter("plain", None, None, Head("none", 0, None, None, None, None))

Run = Callable[[list[np.ndarray]], Awaitable[None]]


@dataclass(frozen=True)
class Workload:
    """Token sequences of `documents` texts."""

    name: str
    documents: int
    sequences: list[np.ndarray]

    @property
    def tokens(self) -> int:
        return sum(map(len, self.sequences))


def workloads(seed: int = 11) -> list[Workload]:
    """Equal lengths show the shapes; notes are what the de-identifier sends: windows of 128 and a ragged last one."""
    rng = np.random.default_rng(seed)

    def sequence(length: int) -> np.ndarray:
        return rng.integers(1000, 30000, length).astype(np.int32)

    equal = [
        Workload(f"{length} tokens", 4096 // length, [sequence(length) for _ in range(4096 // length)])
        for length in (32, 128, 256)
    ]
    notes = [[sequence(128) for _ in range(5)] + [sequence(int(rng.integers(10, 128)))] for _ in range(6)]
    return [*equal, Workload("notes", len(notes), [window for note in notes for window in note])]


def padded(sequences: list[np.ndarray]) -> list[tuple[np.ndarray, np.ndarray]]:
    """Batches of ids and lengths, sorted by length, as anybody serving these libraries would cut them."""
    ordered = sorted(sequences, key=len)
    batches = []
    for start in range(0, len(ordered), BATCH_SEQUENCES):
        batch = ordered[start : start + BATCH_SEQUENCES]
        ids = np.zeros((len(batch), max(map(len, batch))), dtype=np.int64)
        for row, sequence in enumerate(batch):
            ids[row, : len(sequence)] = sequence
        batches.append((ids, np.array([len(sequence) for sequence in batch], dtype=np.int64)))
    return batches


def torch_run(encoder: Encoder) -> Run:
    """Forward passes without gradients."""

    async def run(sequences: list[np.ndarray]) -> None:
        with torch.inference_mode():
            for ids, lengths in padded(sequences):
                encoder(torch.from_numpy(ids), torch.from_numpy(lengths))

    return run


def onnx_run(path: Path, threads: int) -> Run:
    """One session with all graph optimisations."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    options.inter_op_num_threads = 1
    session = onnxruntime.InferenceSession(path, options, providers=["CPUExecutionProvider"])

    async def run(sequences: list[np.ndarray]) -> None:
        for ids, lengths in padded(sequences):
            session.run(None, {"token_ids": ids, "lengths": lengths})

    return run


def engine_run(engine: Engine, adapter: Adapter) -> Run:
    """One request per 6 sequences, all at once: what several callers look like."""

    async def run(sequences: list[np.ndarray]) -> None:
        features = {len(ids): np.zeros((len(ids), FEATURES), np.float32) for ids in sequences}
        inputs = [EncodeInput(ids, features[len(ids)] if adapter.head.feature_count else None) for ids in sequences]
        await asyncio.gather(*(engine.encode(adapter.key, inputs[n : n + 6]) for n in range(0, len(inputs), 6)))

    return run


def export_onnx(encoder: Encoder, folder: Path) -> tuple[Path, Path]:
    """The fp32 graph and its dynamically quantised version."""
    plain, int8 = folder / "fp32.onnx", folder / "int8.onnx"
    example = (torch.ones((2, 16), dtype=torch.int64), torch.tensor([16, 9]))
    dynamic = {"token_ids": {0: "batch", 1: "tokens"}, "lengths": {0: "batch"}, "states": {0: "batch", 1: "tokens"}}
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        torch.onnx.export(
            encoder,
            example,
            plain,
            input_names=["token_ids", "lengths"],
            output_names=["states"],
            dynamic_axes=dynamic,
            opset_version=17,
            dynamo=False,
        )
    quantize_dynamic(plain, int8, weight_type=QuantType.QInt8)
    return plain, int8


def write_adapter(path: Path, encoder: Encoder, rank: int) -> Adapter:
    """A random LoRA on every matrix of every layer and a random head: the cost does not depend on the values."""
    rng = np.random.default_rng(rank)
    writer = gguf.GGUFWriter(path, "bert")
    writer.add_type("adapter")
    writer.add_string("adapter.type", "lora")
    writer.add_float32("adapter.lora.alpha", float(rank))
    for name, weight in encoder.named_parameters():
        if name.split(".")[-2] in LORA_TARGETS and name.endswith(".weight"):
            outputs, inputs = weight.shape
            writer.add_tensor(f"{name}.lora_a", (rng.standard_normal((rank, inputs)) / 50).astype(np.float32))
            writer.add_tensor(f"{name}.lora_b", (rng.standard_normal((outputs, rank)) / 50).astype(np.float32))
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    arrays = [
        (rng.standard_normal(shape) / 50).astype(np.float32)
        for shape in ((WIDTH, encoder.states + FEATURES, HIDDEN), (HIDDEN,), (HIDDEN, LABELS), (LABELS,))
    ]
    return Adapter(f"rank {rank}", path, sha256(path), Head("token", FEATURES, *arrays))


def sha256(path: Path) -> str:
    """Hex digest of a file."""
    return hashlib.sha256(path.read_bytes()).hexdigest()


async def contenders(base: Path, folder: Path, threads: int) -> tuple[dict[str, Run], list[Engine]]:
    """Everything that takes part, by name, and the engines to close."""
    torch.set_num_threads(threads)
    encoder = load_encoder(base / "model.safetensors", SHAPE).eval()
    plain, int8 = export_onnx(encoder, folder)
    runs = {
        REFERENCE: torch_run(encoder),
        "PyTorch bf16": torch_run(load_encoder(base / "model.safetensors", SHAPE).eval().bfloat16()),
        "ONNX Runtime fp32": onnx_run(plain, threads),
        "ONNX Runtime int8": onnx_run(int8, threads),
    }
    vocabulary = tuple((base / "vocab.txt").read_text(encoding="utf-8").splitlines())
    adapters = [write_adapter(folder / f"rank{rank}.gguf", encoder, rank) for rank in LORA_RANKS]
    engines = []
    for storage in STORAGES:
        target = folder / f"{storage}.gguf"
        convert(base / "model.safetensors", vocabulary, target, SHAPE, StorageType(storage), name="bench")
        engine = await Engine.start(EngineConfig(threads=threads), target, sha256(target), folder)
        engines.append(engine)
        await engine.load(PLAIN)
        runs[f"Cloister {storage}"] = engine_run(engine, PLAIN)
        if storage == STORAGES[0]:
            for adapter in adapters:
                await engine.load(adapter)
                runs[f"Cloister {storage}, {adapter.key} and head"] = engine_run(engine, adapter)
    return runs, engines


async def measure(runs: dict[str, Run], loads: list[Workload], rounds: int) -> dict[str, dict[str, float]]:
    """Median tokens per second by workload and contender; the contenders alternate within each round."""
    figures: dict[str, dict[str, float]] = {}
    for load in loads:
        seconds: dict[str, list[float]] = {name: [] for name in runs}
        for number in range(rounds + 1):
            for name, run in runs.items():
                began = time.perf_counter()
                await run(load.sequences)
                if number:  # the first round warms caches and thread pools
                    seconds[name].append(time.perf_counter() - began)
        figures[load.name] = {name: load.tokens / statistics.median(took) for name, took in seconds.items()}
    return figures


def show(figures: dict[str, dict[str, float]], loads: list[Workload]) -> None:
    """A table: tokens per second and the ratio to PyTorch fp32; for notes also documents per second."""
    names = list(next(iter(figures.values())))
    print(f"{'tokens per second (ratio)':38}" + "".join(f"{load.name:>18}" for load in loads) + f"{'notes/s':>10}")
    for name in names:
        cells = "".join(
            f"{rate[name]:,.0f} ({rate[name] / rate[REFERENCE]:.2f})".rjust(18)
            for rate in (figures[load.name] for load in loads)
        )
        last = loads[-1]
        print(f"{name:38}{cells}{figures[last.name][name] * last.documents / last.tokens:>10.1f}")


async def main() -> None:
    """Build, measure, print."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--base", type=Path, required=True)
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--threads", type=int, default=usable_cores())
    parser.add_argument("--json", action="store_true")
    arguments = parser.parse_args()
    loads = workloads()
    with tempfile.TemporaryDirectory() as folder:
        runs, engines = await contenders(arguments.base, Path(folder), arguments.threads)
        figures = await measure(runs, loads, arguments.rounds)
        for engine in engines:
            await engine.close()
    if arguments.json:
        print(json.dumps({"threads": arguments.threads, "tokens_per_s": figures}, indent=2))
    else:
        print(f"{arguments.threads} threads, median of {arguments.rounds} rounds")
        show(figures, loads)


if __name__ == "__main__":
    asyncio.run(main())
