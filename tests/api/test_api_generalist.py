"""Specialist against generalist from end to end: a real server, a real decoder, real specialists, the real command.

The decoder's weights are random, so its figures mean nothing and none is asserted. Proven is that it is asked
over HTTP with a key of its owner, that its replies are judged, that both are measured on the same lines, and that
everything is in the log.
"""

import json

import pytest

from benchmarks import generalist

GOLD = {
    "phi-deid": [
        {"text": "Seen by Dr. Okafor on 2024-03-05.", "spans": [
            {"start": 12, "end": 18, "label": "NAME"}, {"start": 22, "end": 32, "label": "DATE"}]},
        {"text": "No acute distress.", "spans": []},
    ],
    "bank-intent": [{"text": "my card was stolen", "label": "lost_or_stolen_card"}],
    "assertion": [{"text": "The patient denies any chest pain.", "concept": "chest pain", "labels": ["negated"]}],
}  # fmt: skip


@pytest.fixture
def gold(tmp_path):
    for specialist, lines in GOLD.items():
        (tmp_path / f"{specialist}.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    return tmp_path


def test_an_installed_decoder_is_asked_the_same_questions_as_the_specialists(server, model, ana, auditor, gold, capsys):
    made = ana.post("/v1/api-keys", json={"name": "generalist", "scopes": ["specialist.run"]})
    assert made.status_code == 201, made.text
    (gold / "key").write_text(made.json()["secret"] + "\n")
    written = gold / "reports.json"
    arguments = ["--home", str(server.home), "--gold", str(gold), "--model", model]
    done = generalist.main([*arguments, "--api-key-file", str(gold / "key"), "--json", str(written)])
    said = capsys.readouterr()
    assert done == 0, said.err
    assert [line.split(" | ")[0] for line in said.out.splitlines()[2:]] == [f"| {name}" for name in sorted(GOLD)]
    assert "embed is left out" in said.err
    reports = {report["specialist"]: report for report in json.loads(written.read_text())}
    for name, lines in GOLD.items():
        mine, theirs = reports[name]["judgements"]
        assert (mine["contender"]["kind"], theirs["contender"]["kind"]) == ("specialist", "generalist")
        assert theirs["contender"]["name"] == model
        assert reports[name]["items"] == len(lines)
        assert mine["latency"]["seconds_per_1000"] > 0 and theirs["latency"]["seconds_per_1000"] > 0
        assert mine["failed"] == 0 and 0 <= theirs["failed"] <= len(lines)
    asked = auditor.get("/v1/audit/records", params={"limit": 200, "event": "model.generate"}).json()["data"]
    judged = auditor.get("/v1/audit/records", params={"limit": 200, "event": "specialist.evaluate"}).json()["data"]
    assert sum(record["outcome"] == "completed" for record in asked) >= sum(len(lines) for lines in GOLD.values())
    assert sum(record["attributes"].get("against") == model for record in judged) >= len(GOLD)
