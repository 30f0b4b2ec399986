"""A command imports what it needs and no more, and the list of commands says of each what the command says of itself.

What was imported is asked of a fresh process, after it did what the command does.
"""

import json
import subprocess
import sys

import pytest

from appliance.cli.commands import COMMANDS
from appliance.cli.lazy import Command, Group, LazyCommand, lazily

# Libraries that take a tenth of a second or more to import, or bring hundreds of modules, and whom they are for.
PAGES = {"gradio", "ui"}
SERVING = PAGES | {"fastapi", "starlette", "uvicorn", "prometheus_client", "alembic"}
MODELS = {"numpy", "gguf", "tokenizers", "llama_cpp", "jinja2", "safetensors", "huggingface_hub", "torch"}
STORED = {"sqlalchemy", "cryptography", "argon2", "pydantic_settings"}

ASKING = """
import json, sys
from appliance.cli.main import main
sys.argv = ["appliance", *json.loads(sys.argv[1])]
try:
    main()
finally:
    sys.stderr.write("\\n" + json.dumps(sorted({name.split(".")[0] for name in sys.modules})))
"""


def imported_by(*words: str) -> set[str]:
    """The top-level modules of a process that ran the command."""
    command = [sys.executable, "-c", ASKING, json.dumps(words)]
    done = subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)
    assert done.returncode == 0, done.stderr
    return set(json.loads(done.stderr.splitlines()[-1]))


@pytest.mark.parametrize(
    "words", [("--help",), ("--version",), ("audit", "--help"), ("audit", "hold", "--help")], ids=" ".join
)
def test_what_only_prints_help_imports_no_library_but_the_terminals(words):
    assert imported_by(*words) & (SERVING | MODELS | STORED) == set()


@pytest.mark.parametrize(
    "words", [("audit", "verify"), ("audit", "list"), ("users", "list"), ("keys", "list")], ids=" ".join
)
def test_command_on_the_log_imports_neither_the_server_nor_anything_of_models(words, home):
    assert imported_by(*words, "--home", str(home.root)) & (SERVING | MODELS) == set()


def test_command_that_reads_the_registry_imports_no_server(home):
    assert imported_by("specialists", "list", "--home", str(home.root)) & (SERVING | {"llama_cpp", "torch"}) == set()


def test_command_that_runs_a_specialist_imports_no_server_and_leaves_models_to_its_worker(home, tmp_path):
    note = tmp_path / "note.txt"
    note.write_text("Call ana@example.org")
    found = imported_by("deidentify", str(note), "--home", str(home.root))
    assert found & (SERVING | {"llama_cpp", "torch", "huggingface_hub"}) == set()


def every(commands, path=()):
    for name, about in commands.items():
        if isinstance(about, Group):
            yield from every(about.commands, (*path, name))
        else:
            yield pytest.param(name, about, id=" ".join((*path, name)))


@pytest.mark.parametrize(("name", "about"), [*every(COMMANDS)])
def test_line_in_the_list_is_how_the_commands_own_help_begins(name, about):
    assert about.line.endswith(".")
    help_of_itself = " ".join(LazyCommand(name, about).command.help.split())
    assert help_of_itself.startswith(about.line.removesuffix("."))


def test_group_lists_its_commands_without_importing_them():
    missing = Command("of_nowhere:nothing", "Do nothing.")
    [group] = lazily({"things": Group("Things.", {"do": missing})}).values()
    assert group.get_short_help_str() == "Things."
    assert group.list_commands(None) == ["do"]
    assert group.get_command(None, "do").get_short_help_str() == "Do nothing."
    with pytest.raises(ModuleNotFoundError):
        group.get_command(None, "do").make_context("do", [])
