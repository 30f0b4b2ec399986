"""The import directions of the README's map hold: rooms import lower rows only, each library has one owner.

Walks the syntax trees of the packages; nothing is imported, so a violation inside an optional branch counts too.
"""

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[1]
ROWS = (
    ("types", "errors"),
    ("config", "crypto"),
    ("storage",),
    ("accounts", "audit", "engine", "specialists", "documents"),
    ("training",),
    ("service",),
    ("api",),
    ("cli",),
)
ROW = {room: index for index, row in enumerate(ROWS) for room in row}
SAME_ROW_ALLOWED = {("types", "errors"), ("config", "errors"), ("config", "types")}
STORES = {
    "storage",
    "accounts/store.py",
    "audit/store.py",
    "specialists/store.py",
    "documents/store.py",
}
LIBRARY_OWNERS = {
    "cryptography": {"crypto"},
    "sqlalchemy": STORES,
    "llama_cpp": {"engine/llamacpp.py"},
    "gguf": {"specialists", "training"},
    "fastapi": {"api"},
    "starlette": {"api"},
    "typer": {"cli"},
    "gradio": set(),
    "torch": {"training"},
}


def imports_of(path: Path) -> list[tuple[str, int]]:
    found = []
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found += [(alias.name, node.lineno) for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{path}:{node.lineno}: relative import"
            found += [(node.module or "", node.lineno)]
            found += [(f"{node.module}.{alias.name}", node.lineno) for alias in node.names]
    return found


def room_of(path: Path) -> str:
    return path.relative_to(ROOT / "appliance").parts[0].removesuffix(".py")


MODULES = sorted(path for path in (ROOT / "appliance").rglob("*.py") if room_of(path) not in ("__init__", "__main__"))


@pytest.mark.parametrize("path", MODULES, ids=lambda path: str(path.relative_to(ROOT / "appliance")))
def test_module_imports_only_downwards_and_only_libraries_it_owns(path):
    room = room_of(path)
    relative = path.relative_to(ROOT / "appliance").as_posix()
    assert room in ROW, f"{room} is not a room of the map"
    for name, line in imports_of(path):
        top, *rest = name.split(".")
        if top == "appliance" and rest and rest[0] in ROW and rest[0] != room:
            other = rest[0]
            lower = ROW[other] < ROW[room] or (room, other) in SAME_ROW_ALLOWED
            assert lower, f"{relative}:{line}: {room} may not import {other}"
            assert other != "training" or relative == "service/training.py", f"{relative}:{line}: imports training"
        if top in LIBRARY_OWNERS:
            owners = LIBRARY_OWNERS[top]
            assert room in owners or relative in owners, f"{relative}:{line}: {top} belongs to {sorted(owners)}"


@pytest.mark.parametrize("path", [path for path in MODULES if room_of(path) != "config"], ids=str)
def test_environment_is_read_in_config_only(path):
    text = path.read_text()
    assert "os.environ" not in text
    assert "os.getenv" not in text


def test_pages_are_a_client_of_the_api_and_import_nothing_of_the_appliance():
    for path in (ROOT / "ui").rglob("*.py"):
        assert not [name for name, _ in imports_of(path) if name.split(".")[0] == "appliance"], path


def test_migrations_see_storage_and_config_only():
    for path in (ROOT / "migrations").rglob("*.py"):
        for name, line in imports_of(path):
            if name.startswith("appliance."):
                assert name.startswith(("appliance.storage", "appliance.config")), f"{path}:{line}: {name}"
