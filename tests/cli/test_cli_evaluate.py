"""`appliance evaluate`, `route` and `run auto` as real commands on one data folder, with the echo backend."""

import json
import shutil
from pathlib import Path

import pytest

from appliance.config import load_config
from appliance.service.specialists import open_registry
from tests.conftest import link_or_copy, run_appliance
from tests.specialist_files import write_classifier

CONFIG = '[engine]\nbackend = "echo"\nthreads = 1\n'


@pytest.fixture(scope="module")
def folder(home_template, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli-evaluate")
    home = folder / "home"
    shutil.copytree(home_template, home, copy_function=link_or_copy)
    (home / "config.toml").write_text(CONFIG)
    with open_registry(load_config(home)) as registry:
        for name, favourite in (("triage", "urgent"), ("lazy", "routine")):
            registry.install(write_classifier(folder / f"{name}.gguf", favourite), trust="administrator")
    rows = [{"text": f"letter {number}", "label": "urgent" if number else "routine"} for number in range(4)]
    (folder / "letters.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    return folder


def test_evaluation_is_printed_written_as_json_and_as_html(folder):
    done = run_appliance(
        "evaluate",
        "triage",
        str(folder / "letters.jsonl"),
        "--against",
        "lazy",
        "--json",
        str(folder / "report.json"),
        "--html",
        str(folder / "report.html"),
        home=folder / "home",
    )
    assert done.returncode == 0, done.stderr
    assert b"accuracy" in done.stdout and b"0.750" in done.stdout and b"difference" in done.stdout
    assert b"recorded as" in done.stderr
    report = json.loads((folder / "report.json").read_text())
    assert report["differences"]["accuracy"]["value"] == 0.5
    assert "<svg" in (folder / "report.html").read_text()
    assert not list(folder.glob("*.partial"))


def test_report_on_stdout_is_one_document(folder):
    done = run_appliance("evaluate", "lazy", str(folder / "letters.jsonl"), "--json", "-", home=folder / "home")
    assert json.loads(done.stdout)["items"] == 4


@pytest.mark.parametrize(
    ("arguments", "status", "said"),
    [
        (["letters.jsonl", "--against", "generalist:some-model"], 7, b"no server runs"),
        (["triage.gguf"], 4, b"line 1 of the labelled data"),
        (["letters.jsonl", "--html", "nowhere/report.html"], 4, b"cannot write"),
    ],
    ids=["no server", "no lines", "no folder"],
)
def test_what_cannot_be_done_says_why(folder, arguments, status, said):
    done = run_appliance("evaluate", "triage", *arguments, home=folder / "home", cwd=folder)
    assert done.returncode == status
    assert said in done.stderr and b"Traceback" not in done.stderr


@pytest.mark.parametrize("option", ["--html", "--json"])
def test_a_report_that_has_no_place_is_refused_before_the_work(folder, option):
    for place in ("nowhere/report", "."):
        done = run_appliance("evaluate", "triage", "no-such-data", option, place, home=folder / "home", cwd=folder)
        assert done.returncode == 4 and b"cannot write" in done.stderr, done.stderr


def test_route_prints_the_choice_or_why_there_is_none(folder):
    done = run_appliance("route", "My card was declined", "--json", home=folder / "home")
    assert done.returncode == 0, done.stderr
    body = json.loads(done.stdout)
    assert body["abstained"] is (body["specialist"] is None)
    assert body["reason"] and len(body["nearest"]) == 3 and body["receipt"]["record_id"]


def test_run_auto_answers_every_line_or_says_that_nobody_was_chosen(folder):
    lines = [
        '{"id": 1, "text": "letter"}',
        '{"id": 2, "sentences": ["a"]}',
        '{"id": 3, "sentences": ["a"], "concept": "b"}',
    ]
    (folder / "in.jsonl").write_text("\n".join(lines) + "\n")
    done = run_appliance(
        "run", "auto", "--jsonl", str(folder / "in.jsonl"), "--out", str(folder / "out.jsonl"), home=folder / "home"
    )
    assert done.returncode in (0, 3), done.stderr
    first, second, third = map(json.loads, (folder / "out.jsonl").read_text().splitlines())
    assert "receipt" in first or first["error"]["code"] == "no_specialist_fits"
    assert len(second["labels"]) == 1 and "receipt" in second  # one specialist takes sentences
    assert third["error"]["code"] == "no_specialist_fits"  # and none these two parts
