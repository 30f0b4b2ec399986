"""Guaranteed here: bfloat16 is used exactly where the processor multiplies it. Needs the extra `training`."""

import pytest

pytestmark = pytest.mark.long


def test_training_uses_bfloat16_exactly_where_the_processor_has_it() -> None:
    import torch

    from appliance.training.arithmetic import CPU, autocast, multiplies_bfloat16

    with autocast(CPU):
        product = torch.ones(2, 2) @ torch.ones(2, 2)
    found = torch.cpu.get_capabilities()
    assert multiplies_bfloat16() == (found.get("avx512_bf16", False) or found.get("amx_bf16", False))
    assert product.dtype == (torch.bfloat16 if multiplies_bfloat16() else torch.float32)
