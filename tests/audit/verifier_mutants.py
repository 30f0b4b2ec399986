"""Mutants of the verifier: its own source with one thing made wrong, and whether the test kit notices.

    python tests/audit/verifier_mutants.py [--sample 100] [--jobs 2]     # prints the survivors and the kill rate

Operators: a condition negated, a comparison turned, `and`/`or` exchanged, an operand of either dropped, a number
changed by one, a finding dropped (`fail(...)` removed), a refusal or an early return removed. A mutant is killed when a
vector of `testkit/` or a check of `verifier_checks.py` gets another verdict, when it breaks, or when it does not end.
"""

from __future__ import annotations

import argparse
import ast
import os
import random
import resource
import signal
import sys
import types
from collections.abc import Callable, Iterator
from pathlib import Path

sys.path.insert(0, str(Path(__file__).parent))

from verifier_checks import passes

from appliance.audit import auditverify

SOURCE = Path(auditverify.__file__).read_text()
KILLED, SURVIVED = 0, 1
CPU_SECONDS_MAX, SECONDS_MAX = 40, 900  # a busy machine takes long and computes little
# What decides nothing: how findings are worded and printed, and the tables of signatures, which other tests cover.
LEFT_OUT = {
    "as_text",
    "say",
    "line",
    "what",
    "as_fields",
    "_month",
    "_because",
    "__repr__",
    "_time",
    "_printable",
    "keep",
}
SHADOWED = (
    "without authorisation, not listed",
    "which authorises absent texts",
    # a range that begins beyond the old epoch's head is refused, and that head is an anchor: it says the same
    "the next epoch declares {lost_from} to be left",
)
TURNED = {
    ast.Eq: ast.NotEq, ast.NotEq: ast.Eq, ast.Lt: ast.LtE, ast.LtE: ast.Lt, ast.Gt: ast.GtE, ast.GtE: ast.Gt,
    ast.In: ast.NotIn, ast.NotIn: ast.In, ast.Is: ast.IsNot, ast.IsNot: ast.Is,
}  # fmt: skip


class Mutant:
    """One change: where and what. Its tree is made when it is asked for: two thousand of them would fill the memory."""

    def __init__(self, node: ast.AST, what: str, path: tuple, change: Callable[[ast.AST], ast.AST]) -> None:
        self.line, self.what, self._path, self._change = getattr(node, "lineno", 1), what, path, change

    def __str__(self) -> str:
        return f"line {self.line}: {self.what}: {SOURCE.splitlines()[self.line - 1].strip()[:90]}"

    def is_shadowed(self) -> bool:
        """Whether what it drops never stands alone: another finding of the same code or a worse one is there."""
        return any(text in "".join(SOURCE.splitlines()[self.line - 1 : self.line + 1]) for text in SHADOWED)

    def tree(self) -> ast.Module:
        """The whole module with this change."""
        mutated = ast.parse(SOURCE)
        target: ast.AST = mutated
        for name, index in self._path[:-1]:
            value = getattr(target, name)
            target = value if index is None else value[index]
        name, index = self._path[-1]
        value = getattr(target, name)
        if index is None:
            setattr(target, name, self._change(value))
        else:
            value[index] = self._change(value[index])
        return ast.fix_missing_locations(mutated)


def telling() -> list[Mutant]:
    """Those that take away a finding: each must be noticed."""
    return [mutant for mutant in mutants() if mutant.what == "finding dropped" and not mutant.is_shadowed()]


def mutants() -> list[Mutant]:
    """Every mutant, in the order of the source."""
    places = _places(ast.parse(SOURCE), ())
    return [Mutant(node, what, path, change) for path, node in places for what, change in _changes(node)]


def _places(node: ast.AST, path: tuple) -> Iterator[tuple[tuple, ast.AST]]:
    if isinstance(node, ast.FunctionDef) and node.name in LEFT_OUT:
        return
    for name, value in ast.iter_fields(node):
        if name in ("annotation", "returns", "decorator_list", "type_comment"):
            continue
        children = value if isinstance(value, list) else [value]
        for index, child in enumerate(children):
            if isinstance(child, ast.AST):
                place = (*path, (name, index if isinstance(value, list) else None))
                yield place, child
                yield from _places(child, place)


def _changes(node: ast.AST) -> Iterator[tuple[str, Callable[[ast.AST], ast.AST]]]:
    if isinstance(node, (ast.If, ast.While, ast.IfExp)):
        yield "condition negated", _negated
    if isinstance(node, ast.Compare) and type(node.ops[0]) in TURNED:
        yield "comparison turned", _turned
    if isinstance(node, ast.BoolOp):
        yield "and/or exchanged", _exchanged
        for index in range(len(node.values)):
            yield f"operand {index} dropped", lambda copy, index=index: _without(copy, index)
    if isinstance(node, ast.Constant) and type(node.value) is int and node.value < 1000:
        yield "number changed", lambda copy: ast.copy_location(ast.Constant(copy.value + 1), copy)  # type: ignore[attr-defined]
    if isinstance(node, ast.Constant) and type(node.value) is bool:
        yield "truth changed", lambda copy: ast.copy_location(ast.Constant(not copy.value), copy)  # type: ignore[attr-defined]
    if isinstance(node, ast.Expr) and isinstance(node.value, ast.Call) and _called(node.value) == "fail":
        yield "finding dropped", lambda copy: ast.copy_location(ast.Pass(), copy)
    if isinstance(node, ast.Raise):
        yield "refusal dropped", lambda copy: ast.copy_location(ast.Pass(), copy)
    if isinstance(node, ast.Return) and node.value is None:
        yield "return dropped", lambda copy: ast.copy_location(ast.Pass(), copy)


def _called(call: ast.Call) -> str:
    return call.func.attr if isinstance(call.func, ast.Attribute) else getattr(call.func, "id", "")


def _negated(node: ast.AST) -> ast.AST:
    node.test = ast.UnaryOp(ast.Not(), node.test)  # type: ignore[attr-defined]
    return node


def _turned(node: ast.AST) -> ast.AST:
    node.ops[0] = TURNED[type(node.ops[0])]()  # type: ignore[attr-defined]
    return node


def _exchanged(node: ast.AST) -> ast.AST:
    node.op = ast.Or() if isinstance(node.op, ast.And) else ast.And()  # type: ignore[attr-defined]
    return node


def _without(node: ast.AST, index: int) -> ast.AST:
    del node.values[index]  # type: ignore[attr-defined]
    return node.values[0] if len(node.values) == 1 else node  # type: ignore[attr-defined]


def survives(mutant: Mutant, kit: Callable[[types.ModuleType], bool] = passes) -> bool:
    """Whether everything passes with it. It runs in a fork that is killed when it does not end."""
    child = os.fork()
    if child == 0:
        status = KILLED
        try:
            signal.alarm(SECONDS_MAX)
            resource.setrlimit(resource.RLIMIT_CPU, (CPU_SECONDS_MAX, CPU_SECONDS_MAX))
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            module = types.ModuleType("auditverify_mutant")
            sys.modules[module.__name__] = module
            exec(compile(mutant.tree(), "mutant", "exec"), module.__dict__)
            status = SURVIVED if kit(module) else KILLED
        finally:
            os._exit(status)
    _, result = os.waitpid(child, 0)
    return os.WIFEXITED(result) and os.WEXITSTATUS(result) == SURVIVED


def main() -> None:
    """Run a sample, or all, and print what survived."""
    parser = argparse.ArgumentParser(description="Mutation testing of auditverify.")
    parser.add_argument("--sample", type=int, default=0, help="so many, drawn; 0: all")
    parser.add_argument("--telling", action="store_true", help="only those that take away a finding")
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--part", default="1/1", help="this part of so many, to run several at once")
    options = parser.parse_args()
    chosen = telling() if options.telling else mutants()
    if options.sample:
        chosen = random.Random(options.seed).sample(chosen, min(options.sample, len(chosen)))
    part, parts = map(int, options.part.split("/"))
    chosen = chosen[part - 1 :: parts]
    survivors = 0
    for mutant in chosen:
        if survives(mutant):
            survivors += 1
            print(mutant, flush=True)
    print(f"{len(chosen)} mutants, {survivors} survived, {1 - survivors / len(chosen):.1%} killed", flush=True)


if __name__ == "__main__":
    main()
