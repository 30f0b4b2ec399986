"""`appliance find` shows passages with offsets that cut them out of the document, and JSON that the API gives too.

Every call is the real command in a process of its own; a small specialist is almost certain of one label everywhere."""

import json
import shutil
from pathlib import Path

import pytest

from appliance.config import load_config
from appliance.service.specialists import open_registry
from appliance.specialists.manifest import Calibration
from tests.conftest import link_or_copy, run_appliance
from tests.specialist_files import CLASSES, write_classifier

DOCUMENT = "LETTER\n\nThe parcel is broken and we need another one — soon.\n\nPlease call us on Monday or on Tuesday.\n"


@pytest.fixture(scope="module")
def folder(home_template, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli-find")
    shutil.copytree(home_template, folder / "home", copy_function=link_or_copy)
    (folder / "home" / "config.toml").write_text('[engine]\nbackend = "echo"\nthreads = 1\n')
    (folder / "letter.txt").write_text(DOCUMENT, encoding="utf-8")
    never_two = Calibration(thresholds={"routine": 0.9, "unclear": 0.9})
    with open_registry(load_config(folder / "home")) as registry:
        for path in (
            write_classifier(folder / "letters.gguf", multi_label=True, calibration=never_two),
            write_classifier(folder / "triage.gguf"),
        ):
            registry.install(path, trust="administrator")
    return folder


def find(folder: Path, *words: str, specialist: str = "letters"):
    return run_appliance("find", specialist, str(folder / "letter.txt"), *words, home=folder / "home")


def test_json_has_every_label_with_offsets_into_the_document_and_a_receipt(folder: Path) -> None:
    done = find(folder, "--json", "--top", "1")
    assert done.returncode == 0, done.stderr.decode()
    body = json.loads(done.stdout)
    assert (body["specialist"]["id"], body["passages"]) == ("letters", 2)
    assert [row["label"] for row in body["findings"]] == list(CLASSES)
    assert [len(row["passages"]) for row in body["findings"]] == [1] * len(CLASSES)
    urgent = body["findings"][CLASSES.index("urgent")]["passages"][0]
    assert urgent["assigned"] is True
    assert DOCUMENT[urgent["start"] : urgent["end"]] == "LETTER\n\nThe parcel is broken and we need another one — soon."
    assert body["receipt"]["record_id"]


def test_people_see_what_is_assigned_and_a_summary_goes_to_stderr(folder: Path) -> None:
    done = find(folder)
    lines = done.stdout.decode().splitlines()
    assert [line.split()[0] for line in lines if not line.startswith(" ")] == ["urgent", "urgent"]
    assert lines[1].strip().startswith("LETTER The parcel is broken")
    assert b"found 1 of 3 labels in 2 passages" in done.stderr
    assert b"recorded as" in done.stderr


def test_a_specialist_of_one_label_a_text_is_refused_with_what_to_do(folder: Path) -> None:
    done = find(folder, specialist="triage")
    assert done.returncode != 0 and done.stdout == b""
    *_, error, hint = done.stderr.decode().strip().splitlines()
    assert error.startswith("appliance: error: ") and hint.startswith("hint: ")
