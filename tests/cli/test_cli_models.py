"""A model is pulled on one machine, exported, carried, and imported on another; every step is in the log, and what
cannot be done ends with the reason, the remedy and its own exit status. The hub is one of the tests.
"""

import json
import os
import shutil
import subprocess

import pytest
from typer.testing import CliRunner

from appliance.cli.main import app
from tests.conftest import link_or_copy
from tests.fake_hub import COMMIT, fake_hub
from tests.model_headers import write_model


@pytest.fixture(scope="module")
def machine(home_template, tmp_path_factory):
    """Makes data folders; what it returns calls the command on one of them."""

    def make(name: str, hub_url: str = "http://127.0.0.1:9"):
        home = tmp_path_factory.mktemp(name) / "home"
        shutil.copytree(home_template, home, copy_function=link_or_copy)
        (home / "config.toml").write_text(
            f'[models]\nhub_url = "{hub_url}"\nconnect_s = 2\ndisk_free_bytes_min = 0\n[engine]\nbackend = "echo"\n'
        )

        def call(*words: str):
            done = CliRunner().invoke(app, [*words, "--home", str(home)])
            if done.exception is not None and not isinstance(done.exception, SystemExit):
                raise done.exception
            return subprocess.CompletedProcess(words, done.exit_code, done.stdout_bytes, done.stderr_bytes)

        call.home = home
        return call

    return make


@pytest.fixture(scope="module")
def connected(machine, tmp_path_factory):
    folder = tmp_path_factory.mktemp("published")
    content = write_model(folder / "Tiny-Q8_0.gguf").read_bytes()
    with fake_hub({"me/tiny-GGUF": {"Tiny-Q8_0.gguf": content}}) as hub:
        call = machine("connected", hub.url)
        call.hub = hub
        call.published = folder / "Tiny-Q8_0.gguf"
        yield call


def events_of(call) -> list[tuple[str, str]]:
    listed = json.loads(call("audit", "list", "--limit", "200", "--json").stdout)["data"]
    return [(record["event"], record["outcome"]) for record in reversed(listed) if record["event"].startswith("model.")]


def refused(done, status: int, *words: str) -> None:
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (status, b""), text
    assert text.startswith("appliance: error: ") and "\nhint: " in text
    assert all(word in text for word in words), text


def test_model_is_pulled_carried_and_imported_elsewhere(connected, machine, tmp_path):
    pulled = json.loads(connected("models", "pull", "me/tiny-GGUF", "--json").stdout)
    assert (pulled["id"], pulled["origin"]["revision"]) == ("tiny-q8_0", COMMIT)
    assert (pulled["licence"], pulled["memory_bytes"] > 0) == ("mit", True)
    assert [row["id"] for row in json.loads(connected("models", "list", "--json").stdout)] == ["tiny-q8_0"]
    assert not list((connected.home / "models" / "library").glob(".pull-*"))
    assert connected("models", "export", "tiny-q8_0", str(tmp_path / "usb")).returncode == 0

    apart = machine("apart")
    imported = json.loads(apart("models", "import", str(tmp_path / "usb"), "--json").stdout)
    assert {**imported, "added_ms": 0} == {**pulled, "added_ms": 0}
    assert b"tiny-q8_0 is the file that was added" in apart("models", "verify", "tiny-q8_0").stderr
    shown = apart("models", "show", "tiny-q8_0").stdout.decode()
    assert "conversation of 2,048 tokens" in shown and "me/tiny-GGUF" in shown and pulled["sha256"] in shown
    (apart.home / "models" / "library" / "damaged.json").write_text("{}")
    listed = apart("models", "list", "--json")
    assert [row["id"] for row in json.loads(listed.stdout)] == ["tiny-q8_0"]
    assert b"left out: " in listed.stderr and b"damaged.json" in listed.stderr and b"remove that file" in listed.stderr
    assert b"removed tiny-q8_0" in apart("models", "remove", "tiny-q8_0").stderr
    assert events_of(apart) == [
        ("model.added", "accepted"),
        ("model.added", "completed"),
        ("model.verified", "accepted"),
        ("model.verified", "completed"),
        ("model.show", "completed"),
        ("model.list", "completed"),
        ("model.removed", "accepted"),
        ("model.removed", "completed"),
    ]
    assert ("model.exported", "completed") in events_of(connected)


def test_catalogue_is_shown_and_its_ids_can_be_pulled(connected):
    offers = json.loads(connected("models", "catalogue", "--json").stdout)
    assert {"id", "repository", "licence", "memory_gb"} <= set(offers[0])
    refused(connected("models", "pull", offers[0]["id"]), 6, offers[0]["repository"])


def test_air_gapped_machine_is_told_to_carry_and_the_try_is_recorded(machine):
    apart = machine("unconnected")
    refused(apart("models", "pull", "me/tiny-GGUF"), 8, "cannot be reached", "models export")
    assert events_of(apart) == [("model.added", "accepted"), ("model.added", "failed")]


def test_what_cannot_be_taken_in_is_refused_and_nothing_is_kept(machine, connected, tmp_path):
    apart = machine("picky")
    noise = tmp_path / "noise.gguf"
    noise.write_bytes(b"GGUF" + b"\xff" * 100)
    refused(apart("models", "import", str(noise)), 8, "noise.gguf")
    refused(apart("models", "import", str(tmp_path / "missing.gguf")), 8, "missing.gguf")
    refused(apart("models", "import", str(tmp_path)), 4, "0 manifests")
    refused(apart("models", "import", str(connected.published), "--sha256", "0" * 64), 8, "SHA-256")
    refused(apart("models", "import", str(connected.published), "--id", "../x"), 4, "id of a model")
    refused(apart("models", "show", "../../etc/passwd"), 6, "models list")
    os.mkfifo(tmp_path / "pipe.gguf")
    refused(apart("models", "import", str(tmp_path / "pipe.gguf")), 8, "pipe.gguf is no file")
    unnameable = tmp_path / "日本.gguf"
    unnameable.write_bytes(connected.published.read_bytes())
    refused(apart("models", "import", str(unnameable)), 4, "日本.gguf", "--id")
    assert json.loads(apart("models", "list", "--json").stdout) == []
    library = apart.home / "models" / "library"
    assert [path.name for path in library.iterdir()] == []


@pytest.mark.parametrize(
    ("name", "whose"), [("auto", "router"), ("phi-deid", "specialist"), ("big", "upstream.models")]
)
def test_name_that_asks_for_somebody_else_is_taken(machine, connected, name, whose):
    apart = machine(f"namesakes-{name}", connected.hub.url)
    with (apart.home / "config.toml").open("a") as config:
        config.write('[upstream.models.big]\nurl = "http://127.0.0.1:9/v1"\nmodel = "m"\n')
    refused(apart("models", "import", str(connected.published), "--id", name), 6, name, whose, "--id")
    refused(apart("models", "pull", "me/tiny-GGUF", "--id", name), 6, name, whose, "--id")
    assert json.loads(apart("models", "list", "--json").stdout) == []


def test_token_is_read_from_a_file_and_enters_no_record(connected, tmp_path):
    token = tmp_path / "token"
    token.write_text("hf_secret-of-the-tests\n")
    assert connected("models", "pull", "me/tiny-GGUF", "--token-file", str(token)).returncode == 0
    token.write_text("two words\n")
    refused(connected("models", "pull", "me/tiny-GGUF", "--token-file", str(token)), 4, "token")
    assert b"secret-of-the-tests" not in connected("audit", "list", "--limit", "200", "--json").stdout
