"""The verifier gives every vector of the test kit its verdict, and the committed kit is the one that its script makes.

The kit is for any verifier (`testkit/README.md`); this runs ours on it, as a command, in this process.
"""

import io
import json
import sys
from contextlib import redirect_stdout
from pathlib import Path

import pytest

from appliance.audit import auditverify

KIT = Path(__file__).parent / "testkit"
VECTORS = json.loads((KIT / "vectors.json").read_text())["vectors"]


def run(vector, module=auditverify):
    """The verifier's answer to one vector."""
    arguments = [str(KIT / word[1:]) if word.startswith("@") else word for word in vector["arguments"]]
    inputs = [str(KIT / path) for path in vector["inputs"]]
    printed = io.StringIO()
    with redirect_stdout(printed):
        code = module.verify([*inputs, *arguments, "--json"])
    answer = json.loads(printed.getvalue())
    assert answer["exit_code"] == code
    return answer


@pytest.mark.parametrize("vector", VECTORS, ids=lambda vector: vector["name"])
def test_every_vector_gets_its_verdict(vector):
    answer = run(vector)
    assert answer["exit_code"] == vector["exit_code"], answer["messages"]
    if vector["first_bad_seq"] is not None:
        assert answer["first_bad_seq"] == vector["first_bad_seq"], answer["messages"]
    assert answer["exit_code"] == 0 or answer["messages"], "a verdict without a reason"


def test_the_kit_is_large_covers_every_code_and_is_the_one_that_its_script_makes():
    sys.path.insert(0, str(KIT))
    import make_testkit

    made = make_testkit.made()
    assert (KIT / "vectors.json").read_text() == make_testkit.as_json(made)
    stored = {path.relative_to(KIT / "files").as_posix() for path in (KIT / "files").rglob("*") if path.is_file()}
    assert stored == set(made.files)
    for name, content in made.files.items():
        assert (KIT / "files" / name).read_bytes() == content, name
    assert len(VECTORS) >= 100
    assert {vector["exit_code"] for vector in VECTORS} == set(auditverify.VERDICTS)
    assert sum(map(len, made.files.values())) < 1_500_000


def test_without_the_cryptography_package_decryption_says_so(monkeypatch):
    vector = next(vector for vector in VECTORS if vector["name"] == "keys-right")
    monkeypatch.setitem(sys.modules, "cryptography.hazmat.primitives.ciphers", None)
    answer = run(vector)
    assert answer["exit_code"] == 30 and "integrity needs no keys" in answer["messages"][0]
