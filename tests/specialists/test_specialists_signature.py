"""Guaranteed here: signatures of the reference library (`model-signing`) are read and ours verify there; a signature of
another file, of another key or out of shape is refused by its own class, whatever bytes it is made of.

The library signs and verifies in this process, offline; the stored vectors are its own output, so that a later release
of it which writes otherwise shows here.
"""

import base64
import hashlib
import json
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st
from model_signing import signing, verifying

from appliance.crypto import ecdsa
from appliance.errors import InvalidRequest, SignatureInvalid, SignerUntrusted
from appliance.specialists.signature import (
    SIGNATURE_BYTES_MAX,
    check_signed_file,
    read_signature,
    signer_of,
    trusted_key,
    write_signature,
)

VECTORS = Path(__file__).parent / "vectors" / "signature"
CONTENT = b"the bytes of a specialist file"
SHA256 = hashlib.sha256(CONTENT).hexdigest()
PRIVATE = ecdsa.generate()
KEY = trusted_key("Vendor Ltd", ecdsa.public_of(PRIVATE))
STRANGER = trusted_key("Somebody", ecdsa.public_of(ecdsa.generate()))


@pytest.fixture
def keys(tmp_path):
    (tmp_path / "key.pem").write_text(PRIVATE)
    (tmp_path / "public.pem").write_text(KEY.public_pem)
    (tmp_path / "triage.gguf").write_bytes(CONTENT)
    return tmp_path


def ours():
    return json.loads(write_signature(PRIVATE, name="triage.gguf", sha256=SHA256))


def statement_of(bundle):
    return json.loads(base64.b64decode(bundle["dsseEnvelope"]["payload"]))


def signed_again(bundle, statement):
    """The bundle with another statement under a good signature."""
    payload = json.dumps(statement).encode()
    signature = ecdsa.sign(PRIVATE, ecdsa.envelope_message("application/vnd.in-toto+json", payload))
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(payload).decode()
    bundle["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(signature).decode()
    return json.dumps(bundle).encode()


def test_the_reference_library_verifies_what_we_sign(keys):
    (keys / "s.sig").write_bytes(write_signature(PRIVATE, name="triage.gguf", sha256=SHA256))
    check = verifying.Config().use_elliptic_key_verifier(public_key=keys / "public.pem")
    check.verify(keys / "triage.gguf", keys / "s.sig")
    (keys / "triage.gguf").write_bytes(CONTENT + b".")
    with pytest.raises(ValueError, match="mismatch"):
        check.verify(keys / "triage.gguf", keys / "s.sig")


@pytest.mark.parametrize("folder", [False, True], ids=["a file", "a folder with the file alone"])
def test_we_verify_what_the_reference_library_signs(keys, folder, tmp_path):
    model = keys / "triage.gguf"
    if folder:
        model = keys / "model"
        model.mkdir()
        (model / "triage.gguf").write_bytes(CONTENT)
    signing.Config().use_elliptic_key_signer(private_key=keys / "key.pem").sign(model, tmp_path / "theirs.sig")
    signature = read_signature((tmp_path / "theirs.sig").read_bytes())
    check_signed_file(signature, SHA256)
    assert signer_of(signature, [STRANGER, KEY]) == KEY


@pytest.mark.parametrize("name", ["reference-1.1.1.sig", "reference-1.1.1-folder.sig", "cloister.sig"])
def test_stored_signatures_verify(name):
    key = trusted_key("vector", (VECTORS / "public.pem").read_text())
    signature = read_signature((VECTORS / name).read_bytes())
    check_signed_file(signature, hashlib.sha256((VECTORS / "content.bin").read_bytes()).hexdigest())
    assert signer_of(signature, [STRANGER, key]) == key


def test_a_signature_without_a_hint_finds_its_key():
    bundle = ours()
    bundle["verificationMaterial"]["publicKey"] = {}
    signature = read_signature(json.dumps(bundle).encode())
    assert signer_of(signature, [STRANGER, KEY]) == KEY
    with pytest.raises(SignerUntrusted):
        signer_of(signature, [STRANGER])


def test_a_good_signature_of_a_stranger_is_told_apart_from_a_bad_one():
    signature = read_signature(write_signature(PRIVATE, name="a", sha256=SHA256))
    with pytest.raises(SignerUntrusted, match="not trusted") as untrusted:
        signer_of(signature, [STRANGER])
    assert KEY.fingerprint[:16] in str(untrusted.value) and untrusted.value.hint
    forged = ours()
    forged["dsseEnvelope"]["signatures"][0]["sig"] = base64.b64encode(b"\x30\x06\x02\x01\x01\x02\x01\x01").decode()
    with pytest.raises(SignatureInvalid, match="Vendor Ltd"):
        signer_of(read_signature(json.dumps(forged).encode()), [KEY])


def test_a_signature_of_another_file_is_refused():
    signature = read_signature(write_signature(PRIVATE, name="a", sha256=SHA256))
    with pytest.raises(SignatureInvalid, match="another file"):
        check_signed_file(signature, hashlib.sha256(b"other").hexdigest())


def test_a_statement_that_was_changed_is_not_what_was_signed():
    bundle, statement = ours(), statement_of(ours())
    other = hashlib.sha256(b"other").hexdigest()
    statement["predicate"]["resources"][0]["digest"] = other
    statement["subject"][0]["digest"]["sha256"] = hashlib.sha256(bytes.fromhex(other)).hexdigest()
    bundle["dsseEnvelope"]["payload"] = base64.b64encode(json.dumps(statement).encode()).decode()
    signature = read_signature(json.dumps(bundle).encode())
    check_signed_file(signature, other)
    with pytest.raises(SignatureInvalid):
        signer_of(signature, [KEY])


def changed_statements():
    yield "another type", lambda s: s.update(_type="https://example.org")
    yield "another predicate", lambda s: s.update(predicateType="https://slsa.dev/provenance/v1")
    yield "two files", lambda s: s["predicate"]["resources"].append(s["predicate"]["resources"][0])
    yield "no file", lambda s: s["predicate"].update(resources=[])
    yield "shards", lambda s: s["predicate"]["serialization"].update(method="shards")
    yield "another hash", lambda s: s["predicate"]["resources"][0].update(algorithm="blake3")
    yield "a root that does not fit", lambda s: s["subject"][0]["digest"].update(sha256="0" * 64)
    yield "a short digest", lambda s: s["predicate"]["resources"][0].update(digest="ab")
    yield "no subject", lambda s: s.pop("subject")


@pytest.mark.parametrize(("what", "change"), list(changed_statements()), ids=lambda value: str(value)[:30])
def test_statements_of_another_shape_are_refused_though_well_signed(what, change):
    bundle = ours()
    statement = statement_of(bundle)
    change(statement)
    with pytest.raises(SignatureInvalid):
        read_signature(signed_again(bundle, statement))


def changed_bundles():
    yield lambda b: b.update(mediaType="application/json")
    yield lambda b: b.pop("dsseEnvelope")
    yield lambda b: b.update(verificationMaterial={"certificate": {"rawBytes": ""}})
    yield lambda b: b["dsseEnvelope"].update(payloadType="text/plain")
    yield lambda b: b["dsseEnvelope"].update(signatures=[])
    yield lambda b: b["dsseEnvelope"].update(payload="not base64!")
    yield lambda b: b["dsseEnvelope"]["signatures"].append(b["dsseEnvelope"]["signatures"][0])


@pytest.mark.parametrize("change", list(changed_bundles()))
def test_bundles_of_another_shape_are_refused(change):
    bundle = ours()
    change(bundle)
    with pytest.raises(SignatureInvalid):
        read_signature(json.dumps(bundle).encode())


@given(st.binary(max_size=300))
def test_any_bytes_are_a_signature_or_a_refusal(content):
    with pytest.raises(SignatureInvalid):
        read_signature(content)


@given(st.integers(0, 1400), st.integers(1, 255))
def test_no_changed_byte_makes_a_signature_of_something_else(place, change):
    content = bytearray(write_signature(PRIVATE, name="triage.gguf", sha256=SHA256))
    content[place % len(content)] ^= change
    try:
        signature = read_signature(bytes(content))
        key = signer_of(signature, [KEY])
    except (SignatureInvalid, SignerUntrusted):
        return
    assert (key, signature.file_sha256) == (KEY, SHA256)  # a byte that says nothing, such as a space


def test_large_files_and_wrong_keys_are_refused_with_a_remedy():
    with pytest.raises(SignatureInvalid, match="larger"):
        read_signature(b" " * (SIGNATURE_BYTES_MAX + 1))
    for pem in ("", "no key", KEY.public_pem):
        with pytest.raises(InvalidRequest) as refused:
            write_signature(pem, name="a", sha256=SHA256)
        assert refused.value.hint
    for name, pem in (("", KEY.public_pem), ("a\nb", KEY.public_pem), ("x" * 65, KEY.public_pem), ("a", PRIVATE)):
        with pytest.raises(InvalidRequest) as refused:
            trusted_key(name, pem)
        assert refused.value.hint and "PRIVATE" not in str(refused.value)
