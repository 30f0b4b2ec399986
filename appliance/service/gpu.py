"""Whether models that write get a GPU on this machine: what `appliance doctor` says of it.

await gpu_finding(config.generation)       # GpuFinding("warn", "it needs NVIDIA's driver 580 …", "update the driver …")
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import Literal

from appliance.config import GenerationConfig, gpu_folder
from appliance.engine.gpu_pack import Machine, PackVerdict, Program, examine
from appliance.engine.gpu_trial import Trial, try_pack

_ON_CPU = "models that write compute on the CPU"


@dataclass(frozen=True, slots=True)
class GpuFinding:
    """In the doctor's words: how well it is, what was found, what to do."""

    state: Literal["ok", "warn"]
    found: str
    remedy: str = ""


async def gpu_finding(config: GenerationConfig) -> GpuFinding:
    """Look at the pack and at the driver, then load the one with the other, in a process of its own."""
    if config.gpu_layers == 0:
        return GpuFinding("ok", f"not wanted: generation.gpu_layers is 0; {_ON_CPU}")
    machine = Machine.here()
    verdict = await asyncio.to_thread(examine, gpu_folder(), Program.installed(), machine)
    trial = await try_pack(gpu_folder(), config.start_s) if verdict.pack else None
    return judge(verdict, trial, machine)


def judge(verdict: PackVerdict, trial: Trial | None, machine: Machine) -> GpuFinding:
    """The finding from what was seen. `trial` None: there was nothing to be tried."""
    if verdict.pack is not None and trial is not None:
        if trial.gpu:
            return GpuFinding("ok", f"{trial.gpu}, {trial.free_bytes // 1024**2} MiB free; {verdict.pack}")
        remedy = "look at the driver (nvidia-smi, vulkaninfo) and at the rights on /dev/nvidia* or /dev/dri"
        return GpuFinding("warn", f"the GPU pack is not used: {trial.why}; {_ON_CPU}", remedy)
    if verdict.why:
        return GpuFinding("warn", f"the GPU pack is not used: {verdict.why}; {_ON_CPU}", verdict.remedy)
    if machine.nvidia:
        remedy = "install a bundle with a GPU pack: sh install.sh install --gpu cuda --bundle PATH"
        return GpuFinding("warn", f"NVIDIA's driver {machine.nvidia} is here and no GPU pack; {_ON_CPU}", remedy)
    return GpuFinding("ok", f"none; {_ON_CPU}")
