"""What the sources must look like so that no answer leaves without its record: rules over syntax trees.

    offences(source, room="api")        # lines of a module that break a rule

`Released` is made in one place from a receipt (`gate.py`, called by `service/exchange.py`). What shows an answer takes
it out of a `Released`, together with the receipt. What makes an answer is called by `service/requests.py` alone.
"""

from __future__ import annotations

import ast
import functools
from collections.abc import Iterator
from pathlib import Path

APPLIANCE = Path(__file__).parents[3] / "appliance"
ANSWERS = {"Answer", "Redaction"}  # types that carry what a specialist found
SOURCES = {"appliance.service.requests", "appliance.specialists.deid.redaction"}
MAKERS = {"redact", "encode", "generate", "answer_content"}  # what turns a model's output into an answer
GATE = {"audit/gate.py", "service/exchange.py"}  # who may make a `Released`
ENGINE = {"status", "close", "capacity"}  # what `api` and `cli` may ask of the engine: nothing that answers


def modules(*rooms: str) -> Iterator[tuple[str, str]]:
    """Name below `appliance/` and source of every module of these rooms."""
    for room in rooms:
        for path in sorted((APPLIANCE / room).rglob("*.py")):
            yield path.relative_to(APPLIANCE).as_posix(), path.read_text()


@functools.cache
def answer_writers() -> set[tuple[str, str]]:
    """Functions of `api` and `cli` that take a bare answer, each of whose calls is checked: module and name.

    The module of a public one is empty, because it may be called from any.
    """
    found = set()
    for name, source in modules("api", "cli"):
        tree = ast.parse(source)
        imported = _imported(tree)
        for function in _functions(tree):
            if any(_annotation(argument) in imported for argument in function.args.args):
                found.add((name if function.name.startswith("_") else "", function.name))
    return found


def offences(name: str, source: str, known: set[tuple[str, str]]) -> list[str]:
    """Where a module of `api` or `cli` gets at an answer past the gate."""
    tree = ast.parse(source)
    writers = {function for module, function in known if module in ("", name)}
    found = [f"{name}:{line}: {what}" for line, what in _anywhere(name, tree)]
    for function in _functions(tree):
        released = {argument.arg for argument in function.args.args if _is_released(argument.annotation)}
        released |= {target for target, value in _assignments(function) if _comes_from(value, "answer")}
        bare = {argument.arg for argument in function.args.args if _annotation(argument) in ANSWERS}
        aliases = {target for target, value in _assignments(function) if _value_of(value) in released}
        for call in (node for node in ast.walk(function) if isinstance(node, ast.Call)):
            if _called(call) in writers and not _may_show(call, released, bare | aliases):
                found.append(f"{name}:{call.lineno}: {_called(call)} is not given the value of a Released")
    return found


def releases(name: str, source: str) -> list[str]:
    """Calls that make a `Released`, in a module that may not."""
    if name in GATE:
        return []
    calls = (node for node in ast.walk(ast.parse(source)) if isinstance(node, ast.Call))
    return [f"{name}:{call.lineno}: {_called(call)}" for call in calls if _opens_the_gate(call)]


def unreleased(name: str, source: str) -> list[str]:
    """Public functions that hand out an answer that is not a `Released`."""
    found = []
    for function in _functions(ast.parse(source)):
        if function.name.startswith("_") or function.returns is None:
            continue
        text = ast.unparse(function.returns)
        if any(part in ANSWERS for part in _words(function.returns)) and "Released[" not in text:
            found.append(f"{name}:{function.lineno}: {function.name} -> {text}")
    return found


def _imported(tree: ast.AST) -> set[str]:
    """The types of answers that a module imports; another type may have such a name too."""
    imports = (node for node in ast.walk(tree) if isinstance(node, ast.ImportFrom) and node.module in SOURCES)
    return {alias.name for node in imports for alias in node.names} & ANSWERS


def _anywhere(name: str, tree: ast.AST) -> Iterator[tuple[int, str]]:
    imported = _imported(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        if _called(node) in imported or _opens_the_gate(node):
            yield node.lineno, f"{_called(node)} is made outside of the request path"
        owner = node.func.value if isinstance(node.func, ast.Attribute) else None
        if isinstance(owner, ast.Attribute) and owner.attr == "engine" and _called(node) not in ENGINE:
            yield node.lineno, f"the engine is asked to {_called(node)}"
        if owner is None and _called(node) in MAKERS:
            yield node.lineno, f"{_called(node)} makes an answer"


def _opens_the_gate(call: ast.Call) -> bool:
    """`release(…)`, `Released(…)` and `gate.release(…)`; not the method of that name of something else."""
    owner = call.func.value if isinstance(call.func, ast.Attribute) else None
    is_gate = owner is None or (isinstance(owner, ast.Name) and owner.id == "gate")
    return is_gate and _called(call) in ("Released", "release")


def _may_show(call: ast.Call, released: set[str], bare: set[str]) -> bool:
    """`f(x.value, x.receipt)` of one released `x`, or the answer that an answer writer was itself given."""
    arguments = [*call.args, *(keyword.value for keyword in call.keywords)]
    if not arguments:
        return False
    first = arguments[0]
    if isinstance(first, ast.Name):
        return first.id in bare or first.id in released
    return _value_of(first) in released


def _functions(tree: ast.AST) -> Iterator[ast.FunctionDef | ast.AsyncFunctionDef]:
    return (node for node in ast.walk(tree) if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef))


def _assignments(function: ast.AST) -> Iterator[tuple[str, ast.expr]]:
    """Names and what is assigned to them; of `a, b = x, y` each with its own."""
    for node in ast.walk(function):
        if not isinstance(node, ast.Assign):
            continue
        target = node.targets[0]
        if isinstance(target, ast.Name):
            yield target.id, node.value
        elif isinstance(target, ast.Tuple) and isinstance(node.value, ast.Tuple):
            for name, value in zip(target.elts, node.value.elts, strict=True):
                if isinstance(name, ast.Name):
                    yield name.id, value


def _comes_from(value: ast.expr, function: str) -> bool:
    """Whether a value is awaited from a call of `function`, directly or through `unless_disconnected`."""
    if not isinstance(value, ast.Await) or not isinstance(value.value, ast.Call):
        return False
    call = value.value
    if _called(call) == "unless_disconnected":
        call = call.args[1] if isinstance(call.args[1], ast.Call) else call
    return isinstance(call.func, ast.Name) and call.func.id == function


def _value_of(node: ast.expr) -> str:
    """`x` of `x.value`."""
    if isinstance(node, ast.Attribute) and node.attr == "value" and isinstance(node.value, ast.Name):
        return node.value.id
    return ""


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _annotation(argument: ast.arg) -> str:
    return argument.annotation.id if isinstance(argument.annotation, ast.Name) else ""


def _is_released(annotation: ast.expr | None) -> bool:
    return isinstance(annotation, ast.Subscript) and "Released" in _words(annotation.value)


def _words(node: ast.AST) -> set[str]:
    return {leaf.id for leaf in ast.walk(node) if isinstance(leaf, ast.Name)}
