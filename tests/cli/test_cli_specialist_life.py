"""From a table of one's own to a specialist in service and back, through the real command alone: teach, approve by
another person, promote, run, roll back, remove. And whatever is refused on the way, with its exit status and reason.

One data folder for the module; every call is the command in a process of its own, over the real base model.
"""

import csv
import io
import json
import shutil
from pathlib import Path

import pytest

from appliance.crypto import ecdsa
from tests.conftest import link_or_copy, run_appliance
from tests.specialist_files import REAL_BASE, write_classifier

PASSWORD = b"granite-lantern-river-5\n"
ABOUT_CARDS = "my card was {} yesterday and I need a new one"
ABOUT_LOANS = "the rate of my loan was {} and I want to repay it early"
WORDS = "lost stolen broken blocked swallowed bent copied declined refused damaged scratched frozen taken".split()


@pytest.fixture(scope="module")
def folder(home_template, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("life")
    shutil.copytree(home_template, folder / "home", copy_function=link_or_copy)
    made = run_appliance("users", "add", "boss", "--role", "admin", home=folder / "home", stdin=PASSWORD)
    assert made.returncode == 0, made.stderr
    (folder / "tickets.csv").write_bytes(table())
    return folder


def table(rows=None) -> bytes:
    """Two kinds of requests that anybody can tell apart."""
    written = io.StringIO()
    lines = rows or [(text.format(word), label) for word in WORDS
                     for text, label in ((ABOUT_CARDS, "cards"), (ABOUT_LOANS, "loans"))]  # fmt: skip
    csv.writer(written).writerows([("message", "team"), *lines])
    return written.getvalue().encode()


@pytest.fixture
def call(folder):
    def of(*words, status=0, stdin=None):
        done = run_appliance("specialists", *words, home=folder / "home", stdin=stdin)
        assert done.returncode == status, done.stderr.decode()
        return done

    return of


def refused(done) -> str:
    text = done.stderr.decode()
    assert "Traceback" not in text and "appliance: error: " in text and "hint: " in text, text
    return text


@pytest.mark.timeout(600)  # a dozen processes, each of which opens the log
def test_from_a_table_to_service_and_back(folder, call):
    tickets = str(folder / "tickets.csv")
    taught = json.loads(call("teach", "desk-router", tickets, "--yes", "--json").stdout)
    report, version = taught["report"], taught["version"]
    assert (version["id"], version["version"], version["state"]) == ("desk-router", "1.0.0", "awaiting_approval")
    accuracy = report["metrics"]["accuracy"]
    assert accuracy["low"] <= accuracy["value"] <= accuracy["high"] and accuracy["value"] > 0.8
    assert {one["label"] for one in report["per_label"]} == {"cards", "loans"}
    assert report["learned_from"] + report["held_out"] == 2 * len(WORDS)

    place = ("desk-router", "1.0.0")
    assert "another person approves" in refused(call("approve", *place, status=6))
    assert "wrong" in refused(call("approve", *place, "--user", "boss", status=5, stdin=b"not the password\n"))
    approved = json.loads(call("approve", *place, "--user", "boss", "--json", stdin=PASSWORD).stdout)
    assert approved["state"] == "approved" and approved["approved_by"] != approved["installed_by"]
    assert json.loads(call("promote", *place, "--user", "boss", "--json", stdin=PASSWORD).stdout)["state"] == "active"

    lines = [{"id": 1, "text": ABOUT_CARDS.format("eaten")}, {"id": 2, "text": ABOUT_LOANS.format("doubled")}]
    (folder / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    ran = run_appliance("run", "desk-router", "--jsonl", str(folder / "in.jsonl"), "--out", str(folder / "out.jsonl"),
                        home=folder / "home")  # fmt: skip
    assert ran.returncode == 0, ran.stderr
    answers = [json.loads(line) for line in (folder / "out.jsonl").read_text().splitlines()]
    assert [answer["label"] for answer in answers] in (["cards", "loans"], ["cards", None], [None, "loans"])
    assert all(answer["receipt"] for answer in answers)

    card = json.loads(call("show", "desk-router", "--json").stdout)
    assert (card["admitted"], card["signed"]) == ("taught", False)
    assert card["evaluation"][0]["metrics"]["accuracy"] == accuracy["value"]
    assert "answers requests" in refused(call("remove", *place, status=6))
    call("rollback", "desk-router")
    call("remove", *place)
    assert call("versions", "--json").stdout.decode().count("desk-router") == 0
    events = run_appliance("audit", "list", "--json", "--limit", "200", home=folder / "home")
    seen = {record["event"] for record in json.loads(events.stdout)["data"]}
    assert seen >= {"teaching.table", "teaching.train", "specialist.install", "specialist.approve",
                    "specialist.promote", "specialist.run", "specialist.rollback", "specialist.remove"}  # fmt: skip


@pytest.mark.parametrize(
    ("content", "status", "reason"),
    [
        (table([(f"text number {n} about a card", "cards") for n in range(20)]), 4, "nothing can be told apart"),
        (b"", 4, "empty"),
        (b"PK\x03\x04\0\0", 4, "not a text file"),
        (table([(f"text number {word}", word) for word in WORDS]), 4, "no column looks like labels"),
        (b"x" * (33 * 1024 * 1024), 4, "larger than"),
    ],
    ids=["one class", "empty", "not text", "no labels", "too large"],
)
def test_tables_that_cannot_teach_are_refused_with_the_reason(folder, call, content, status, reason):
    (folder / "bad.csv").write_bytes(content)
    named = ("--text-column", "message", "--label-column", "team") if reason.startswith("nothing") else ("--yes",)
    said = refused(call("teach", "bad-router", str(folder / "bad.csv"), *named, status=status))
    assert reason in said
    assert "bad-router" not in call("versions").stdout.decode()


def test_columns_are_confirmed_or_named(folder, call):
    said = refused(call("teach", "desk-router", str(folder / "tickets.csv"), status=4))
    assert "column 'message'" in said and "column 'team'" in said and "--yes" in said
    named = ("--text-column", "nothing", "--label-column", "team")
    assert "no column 'nothing'" in refused(call("teach", "a-router", str(folder / "tickets.csv"), *named, status=4))
    assert "id" in refused(call("teach", "Not An Id", str(folder / "tickets.csv"), "--yes", status=4))


@pytest.mark.timeout(600)
def test_files_are_signed_trusted_installed_verified_and_exported(folder, call):
    private = ecdsa.generate()
    (folder / "key.pem").write_text(private)
    (folder / "public.pem").write_text(ecdsa.public_of(private))
    model = write_classifier(folder / "triage.gguf", base=REAL_BASE)
    call("sign", str(model), "--key", str(folder / "key.pem"))
    assert "not trusted here" in refused(call("install", str(model), status=8))
    call("trust", str(folder / "public.pem"), "--name", "Vendor Ltd")
    assert "Vendor Ltd" in call("keys").stdout.decode()
    card = json.loads(call("install", str(model), "--json").stdout)
    assert (card["signer"], card["admitted"]) == ("Vendor Ltd", "signature")
    assert "signed by Vendor Ltd" in call("verify", "triage", "0.1.0").stderr.decode()
    call("export", "triage", "0.1.0", "--out", str(folder / "triage.zip"))
    assert (folder / "triage.zip").read_bytes()[:2] == b"PK"
    tampered = folder / "tampered.gguf"
    tampered.write_bytes(model.read_bytes().replace(b"for tests", b"for nurse"))
    signature = ("--signature", str(folder / "triage.gguf.sig"))
    assert "another file" in refused(call("install", str(tampered), *signature, status=8))
    assert "not signed" in refused(call("install", str(tampered), status=8))
    other = REAL_BASE.__class__(name="bge", weights_sha256="1" * 64, vocabulary_sha256="2" * 64)
    foreign = write_classifier(folder / "foreign.gguf", base=other)
    assert "another base model" in refused(call("install", str(foreign), "--reason", "pilot", status=8))
    call("distrust", "Vendor Ltd")
    assert "not trusted" in refused(call("verify", "triage", "0.1.0", status=8))
    assert call("versions", "triage").stdout.decode().count("triage") == 1
