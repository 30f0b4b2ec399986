"""The life of a specialist over HTTP, on the shared server: two administrators, a user, and what each is refused."""

import hashlib
import io
import zipfile

import pytest

from appliance.crypto import ecdsa
from appliance.service.specialist_life import signature_of
from tests.specialist_files import REAL_BASE, write_classifier

BOSS_PASSWORD = "granite-lantern-river-5"
PRIVATE = ecdsa.generate()


@pytest.fixture
def boss(server, admin):
    """A second administrator."""
    body = {"username": "boss", "password": BOSS_PASSWORD, "roles": ["admin"]}
    assert admin.post("/v1/accounts", json=body).status_code in (201, 409)
    with server.client("boss", BOSS_PASSWORD) as client:
        yield client


@pytest.fixture
def made(tmp_path, request):
    """Files of a specialist of this test alone."""
    name = "life-" + hashlib.sha256(request.node.name.encode()).hexdigest()[:8]

    def of(version="0.1.0", **changes):
        values = {"base": REAL_BASE, "version": version, "specialist_id": name} | changes
        return write_classifier(tmp_path / f"{name}.gguf", **values).read_bytes()

    of.name = name
    return of


def post_file(client, content, signature=None, **fields):
    files = {"file": ("some.gguf", content)} | ({"signature": ("some.sig", signature)} if signature else {})
    return client.post("/v1/specialists", files=files, data=fields)


def refused(answer, status, code):
    assert (answer.status_code, answer.json()["error"]["code"]) == (status, code), answer.text
    return answer.json()["error"]


def test_two_people_bring_a_version_into_service_and_one_call_undoes_it(admin, boss, ana, made):
    for version in ("0.1.0", "0.2.0"):
        placed = f"/v1/specialists/{made.name}/versions/{version}"
        installed = post_file(admin, made(version), reason="pilot-ward-3")
        assert installed.status_code == 201, installed.text
        assert installed.json()["state"] == "awaiting_approval"
        refused(ana.post(f"{placed}/approve"), 403, "permission_denied")
        error = refused(admin.post(f"{placed}/approve"), 409, "second_person_needed")
        assert "another person" in error["message"]
        refused(boss.post(f"{placed}/promote"), 409, "conflict")
        assert boss.post(f"{placed}/approve").json()["state"] == "approved"
        refused(admin.post(f"{placed}/promote"), 409, "second_person_needed")
        assert boss.post(f"{placed}/promote").json()["state"] == "active"
    card = ana.get(f"/v1/specialists/{made.name}").json()
    assert (card["version"], card["state"], card["signed"], card["signer"]) == ("0.2.0", "active", False, None)
    assert card["approved_by"] == boss.get("/v1/sessions/current").json()["user"]["id"]
    run = ana.post(f"/v1/specialists/{made.name}/run", json={"text": "hello"}).json()
    assert (run["specialist"]["version"], run["label"]) == ("0.2.0", "urgent")
    refused(admin.delete(f"/v1/specialists/{made.name}/versions/0.2.0"), 409, "conflict")
    done = admin.post(f"/v1/specialists/{made.name}/rollback").json()
    assert (done["retired"]["version"], done["active"]["version"]) == ("0.2.0", "0.1.0")
    run = ana.post(f"/v1/specialists/{made.name}/run", json={"text": "hello"}).json()
    assert run["specialist"]["version"] == "0.1.0"
    assert admin.delete(f"/v1/specialists/{made.name}/versions/0.2.0").status_code == 200
    states = {row["version"]: row["state"] for row in ana.get(f"/v1/specialists/{made.name}/versions").json()["data"]}
    assert states == {"0.1.0": "active"}
    assert made.name in {row["id"] for row in ana.get("/v1/specialist-versions").json()["data"]}
    admin.post(f"/v1/specialists/{made.name}/rollback")


def test_a_signature_counts_while_its_key_is_trusted(admin, boss, made):
    content = made()
    signature = signature_of(content, "some.gguf", PRIVATE)
    error = refused(post_file(admin, content, signature), 409, "signer_untrusted")
    assert error["hint"]
    key = {"name": "Vendor Ltd", "public_key": ecdsa.public_of(PRIVATE)}
    added = boss.post("/v1/specialist-keys", json=key)
    assert added.status_code == 201, added.text
    try:
        assert added.json()["fingerprint"] in {
            row["fingerprint"] for row in admin.get("/v1/specialist-keys").json()["data"]
        }
        refused(boss.post("/v1/specialist-keys", json=key), 409, "conflict")
        refused(post_file(admin, made(favourite="routine"), signature), 422, "signature_invalid")
        card = post_file(admin, content, signature).json()
        assert (card["signed"], card["signer"], card["admitted"]) == (True, "Vendor Ltd", "signature")
        verified = admin.post(f"/v1/specialists/{made.name}/versions/0.1.0/verify").json()
        assert verified["verified"] == "signature"
        answer = admin.get(f"/v1/specialists/{made.name}/versions/0.1.0/file")
        with zipfile.ZipFile(io.BytesIO(answer.content)) as archive:
            assert archive.read(f"{made.name}-0.1.0.gguf") == content
            assert archive.read(f"{made.name}-0.1.0.gguf.sig") == signature
    finally:
        assert boss.delete("/v1/specialist-keys/Vendor Ltd").status_code == 204
    refused(boss.delete("/v1/specialist-keys/Vendor Ltd"), 404, "not_found")
    refused(admin.post(f"/v1/specialists/{made.name}/versions/0.1.0/verify"), 409, "signer_untrusted")


def test_bad_files_are_refused_with_the_reason_and_change_nothing(admin, made):
    good = made()
    other = REAL_BASE.__class__(name="bge", weights_sha256="1" * 64, vocabulary_sha256="2" * 64)
    refused(post_file(admin, good), 409, "signer_untrusted")
    error = refused(post_file(admin, made(base=other), reason="pilot"), 409, "model_file_refused")
    assert "another base model" in error["message"]
    error = refused(
        post_file(admin, good.replace(b'"unclear"', b'"unc","e"'), reason="pilot"), 422, "specialist_file_invalid"
    )
    assert "labels need" in error["message"]
    refused(post_file(admin, b"not a model", reason="pilot"), 422, "specialist_file_invalid")
    refused(post_file(admin, good, reason="Dr. Weber"), 400, "invalid_request")
    assert admin.get(f"/v1/specialists/{made.name}/versions").status_code == 404


def test_what_is_no_form_with_a_file_is_refused(admin, ana, made):
    refused(admin.post("/v1/specialists", json={"file": "x"}), 400, "invalid_request")
    refused(admin.post("/v1/specialists", files={"model": b"x"}), 400, "invalid_request")
    refused(admin.post("/v1/specialists", files={"signature": b"x"}), 400, "invalid_request")
    headers = {"Content-Type": "multipart/form-data; boundary=x"}
    refused(admin.post("/v1/specialists", content=b"no parts here", headers=headers), 400, "invalid_request")
    headers = {"Content-Type": "multipart/form-data"}
    refused(admin.post("/v1/specialists", content=b"no boundary", headers=headers), 400, "invalid_request")
    refused(post_file(ana, made(), reason="pilot"), 403, "permission_denied")


def test_of_somebody_who_may_not_install_no_form_is_read(ana):
    refused(ana.post("/v1/specialists", json={"file": "x"}), 403, "permission_denied")


def test_a_bundled_specialist_says_that_the_release_admitted_it(ana):
    (card,) = ana.get("/v1/specialists/phi-deid/versions").json()["data"][-1:]
    assert (card["admitted"], card["state"], card["signed"]) == ("bundled", "active", False)
    verified = ana.post(f"/v1/specialists/phi-deid/versions/{card['version']}/verify")
    assert verified.json()["verified"] == "release"


def test_the_page_passes_a_file_on_and_hands_it_out_again(admin, ana, made):
    content, form = made(), {"data": {"reason": "pilot-ward-3"}, "headers": {"sec-fetch-site": "same-origin"}}
    files = {"file": ("../../other.gguf", content)}
    refused(ana.post("/specialists/files", files=files, **form), 403, "permission_denied")
    refused(
        admin.post("/specialists/files", files={"file": ("x.gguf", b"no model")}, **form),
        422,
        "specialist_file_invalid",
    )
    sent = admin.post("/specialists/files", files=files, **form)
    assert (sent.status_code, sent.json()["id"], sent.json()["state"]) == (200, made.name, "awaiting_approval")
    link = f"/specialists/{made.name}/0.1.0/file"
    assert ana.get(link).status_code == 403
    with zipfile.ZipFile(io.BytesIO(admin.get(link).content)) as archive:
        assert archive.namelist() == [f"{made.name}-0.1.0.gguf"]
        assert archive.read(f"{made.name}-0.1.0.gguf") == content
    assert admin.delete(f"/v1/specialists/{made.name}/versions/0.1.0").status_code == 200
