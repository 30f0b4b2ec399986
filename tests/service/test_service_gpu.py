"""What the doctor says of a GPU: in use, not wanted, none, or a loud reason with its remedy."""

import asyncio

import pytest

from appliance.config import GenerationConfig
from appliance.engine.gpu_pack import FORMAT, GGML_API, Machine, Pack, PackManifest, PackVerdict
from appliance.engine.gpu_trial import Trial
from appliance.service.gpu import gpu_finding, judge

NONE, NVIDIA = Machine("", False, False), Machine("580.65.06", False, False)
MANIFEST = PackManifest(FORMAT, "cuda", "0.3.36", "0.25.3-x", GGML_API, "13.0", "580", (), ())
FIT = PackVerdict(Pack("cuda", (), MANIFEST))
OLD = PackVerdict(None, "it needs NVIDIA's driver 580 or later, and this machine has 535.1", "update the driver")


@pytest.mark.parametrize(
    ("verdict", "trial", "machine", "state", "found", "remedy"),
    [
        (FIT, Trial("NVIDIA L4", 22 << 30), NVIDIA, "ok", "NVIDIA L4, 22528 MiB free; cuda 13.0", ""),
        (FIT, Trial("", 0, "llama.cpp finds no GPU"), NVIDIA, "warn", "not used: llama.cpp finds no GPU", "nvidia-smi"),
        (OLD, None, NVIDIA, "warn", "not used: it needs NVIDIA's driver 580", "update the driver"),
        (PackVerdict(None), None, NVIDIA, "warn", "driver 580.65.06 is here and no GPU pack", "--gpu cuda"),
        (PackVerdict(None), None, NONE, "ok", "none; models that write compute on the CPU", ""),
    ],
)
def test_each_state_of_a_gpu_is_said_with_what_to_do(verdict, trial, machine, state, found, remedy):
    finding = judge(verdict, trial, machine)
    assert finding.state == state and found in finding.found and remedy in finding.remedy
    assert (finding.remedy == "") == (state == "ok")


def test_a_site_that_wants_no_gpu_is_not_warned():
    finding = asyncio.run(gpu_finding(GenerationConfig(gpu_layers=0)))
    assert finding.state == "ok" and "generation.gpu_layers is 0" in finding.found
