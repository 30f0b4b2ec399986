"""The base is stored as BF16 only where the processor multiplies it; what the kernel says of a processor is read as it
is written for x86 and for Arm, and a system that says nothing gets the type that is never slow."""

import pytest

from appliance.specialists.base_model import StorageType
from appliance.specialists.storage_choice import processor_flags, storage_for

X86 = "processor\t: 0\nmodel name\t: a processor\nflags\t\t: fpu avx2 f16c {}\n\nprocessor\t: 1\nflags\t\t: amx_bf16\n"
ARM = "processor\t: 0\nBogoMIPS\t: 50.00\nFeatures\t: fp asimd {}\n"


@pytest.mark.parametrize(
    ("text", "storage"),
    [
        (X86.format(""), StorageType.F16),
        (X86.format("avx512f avx512_bf16"), StorageType.BF16),
        (X86.format("amx_bf16"), StorageType.BF16),
        (ARM.format(""), StorageType.F16),
        (ARM.format("bf16"), StorageType.BF16),
        ("flags", StorageType.F16),
        ("", StorageType.F16),
    ],
    ids=["AVX2", "AVX-512 BF16", "AMX", "Arm", "Arm with BF16", "no flags", "empty"],
)
def test_bf16_is_for_processors_that_multiply_it(tmp_path, text, storage):
    path = tmp_path / "cpuinfo"
    path.write_text(text)
    assert storage_for(processor_flags(path)) is storage


def test_a_system_that_does_not_say_gets_f16(tmp_path):
    assert processor_flags(tmp_path / "absent") == frozenset()
    assert storage_for(frozenset()) is StorageType.F16
