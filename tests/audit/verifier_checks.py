"""What every mutant of the verifier is put through: the test kit, and the same logs as databases and in two runs.

    passes(auditverify)        # True: every verdict is the right one

Written as a function over a module, so that `verifier_mutants.py` can give it any version of the verifier.
"""

from __future__ import annotations

import atexit
import io
import json
import shutil
import sqlite3
import tempfile
import types
from collections.abc import Callable, Iterator
from contextlib import redirect_stdout
from functools import cache
from pathlib import Path
from tempfile import mkdtemp

from audit_bundle import SCHEMA, Log, canonical, scope_id, verifier_key

KIT = Path(__file__).parent / "testkit"
VECTORS = json.loads((KIT / "vectors.json").read_text())["vectors"]
Verdict = tuple[int, int | None]


def passes(module: types.ModuleType) -> bool:
    """Whether the module gives every verdict as it should; stops at the first that is wrong."""
    try:
        module._multiples = cache(module._multiples)  # type: ignore[attr-defined] - tables of the same few keys
        right = all(verdict_of(module, vector) for vector in VECTORS)
        return right and all(check(module) for check in CHECKS)
    except Exception:  # noqa: BLE001 - a mutant may break in any way
        return False


def run(module: types.ModuleType, *words: object) -> dict:
    """The verifier's answer."""
    printed = io.StringIO()
    with redirect_stdout(printed):
        module.verify([*map(str, words), "--json"])
    return json.loads(printed.getvalue())


def words_of(vector: dict) -> list[object]:
    """The arguments of one vector, with the paths of the kit."""
    words = [KIT / word[1:] if word.startswith("@") else word for word in vector["arguments"]]
    return [*(KIT / path for path in vector["inputs"]), *words]


def verdict_of(module: types.ModuleType, vector: dict) -> bool:
    """Whether one vector of the kit gets its verdict."""
    answer = run(module, *words_of(vector))
    named = vector["first_bad_seq"] in (None, answer["first_bad_seq"])
    return named and answer["exit_code"] == vector["exit_code"]


@cache
def _databases_made() -> tuple[Path, list[tuple[Path, Verdict]]]:
    """The key folder and every case, written once for all mutants, which only read them."""
    folder = Path(mkdtemp(prefix="verifier-checks-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    made = []
    for number, (statement, expected, *size) in enumerate(DATABASES):
        log = Log.of(*(size or [14]), scopes=3)
        log.kept = [log.head(3), log.head(9)]
        (folder / f"kept-{number}").write_text(log.head())
        path = log.write_database(folder / f"{number}.db")
        add_index(path, log)
        connection = sqlite3.connect(path)
        connection.executescript(statement)
        connection.close()
        made.append((path, expected))
    return folder, made


def _databases(module: types.ModuleType) -> bool:
    folder, made = _databases_made()
    return all(_database(module, folder, *case) for case in made)


def _database(module: types.ModuleType, folder: Path, path: Path, expected: Verdict) -> bool:
    answer = run(module, path, "--pub", verifier_key(), "--trusted", folder / f"kept-{path.stem}")
    return (answer["exit_code"], answer["first_bad_seq"]) == expected


def add_index(path: Path, log: Log) -> None:
    """The tokens of every record: one that any record may have, and that of its content."""
    connection = sqlite3.connect(path)
    with connection:
        connection.execute("CREATE TABLE blind (token BLOB, seq INTEGER, PRIMARY KEY (token, seq)) WITHOUT ROWID")
        for seq, record in enumerate(log.records):
            tokens = [b"some token !"]
            if record.con is not None:
                tokens.append(bytes(record.fields["con_scope"])[:12])  # type: ignore[call-overload]
            connection.executemany("INSERT INTO blind VALUES (?, ?)", [(token, seq) for token in tokens])
    connection.close()


SCOPE_0, SCOPE_1 = (f"x'{scope_id(n)[:12].hex()}'" for n in (0, 1))
DATABASES: list[tuple] = [
    ("", (0, None)),
    ("", (0, None), 300),
    (f"DELETE FROM blind WHERE token = {SCOPE_0} AND seq = 6", (10, 6)),
    (f"UPDATE blind SET seq = 4 WHERE token = {SCOPE_0} AND seq = 6", (10, 4)),
    (f"INSERT INTO blind VALUES ({SCOPE_0}, 4)", (10, 4)),
    (f"INSERT INTO blind VALUES ({SCOPE_0}, 99)", (10, None)),
    ("INSERT INTO blind VALUES (x'00', -1)", (10, None)),
    ("DELETE FROM blind", (0, None)),
    ("DROP TABLE blind", (0, None)),
    ("DELETE FROM blind WHERE seq = 6", (0, None)),
    ("UPDATE blind SET token = zeroblob(12) WHERE seq = 6 AND token = CAST('some token !' AS BLOB);"
     f"DELETE FROM blind WHERE token = {SCOPE_0} AND seq = 6", (0, None)),
    ("UPDATE record SET header = zeroblob(200) WHERE seq = 5", (10, 5)),
    ("UPDATE record SET record_id = zeroblob(16) WHERE seq = 5", (10, 5)),
    ("UPDATE record SET env_ct = x'00' WHERE seq = 5", (10, 5)),
    ("UPDATE record SET env_ct = 5 WHERE seq = 5", (10, 5)),
    ("UPDATE record SET con_ct = x'00' WHERE seq = 6", (10, 6)),
    ("UPDATE record SET con_ct = x'00' WHERE seq = 5", (10, 5)),
    ("UPDATE record SET env_ct = x'00' WHERE seq = 1", (10, 1)),
    ("UPDATE record SET env_ct = NULL WHERE seq = 5", (14, 5)),
    ("UPDATE record SET con_ct = NULL WHERE seq = 6", (14, 6)),
    ("DELETE FROM record WHERE seq = 5", (10, 5)),
    ("DELETE FROM record WHERE seq = 13", (10, 13)),
    ("DELETE FROM public_body WHERE seq = 1", (10, 1)),
    ("UPDATE public_body SET body = x'7b7d' WHERE seq = 1", (10, 1)),
    ("UPDATE public_body SET body = 5 WHERE seq = 1", (10, 1)),
    ("INSERT INTO public_body VALUES (5, x'7b7d')", (10, 5)),
    ("INSERT INTO public_body VALUES (77, x'7b7d')", (10, None)),
    ("UPDATE log_head SET size = 13", (10, 0)),
    ("UPDATE log_head SET epoch = 2", (10, None)),
    ("INSERT INTO record SELECT 14, zeroblob(16), header, env_ct, con_ct FROM record WHERE seq = 3", (10, 14)),
    ("INSERT INTO record SELECT -1, zeroblob(16), header, env_ct, con_ct FROM record WHERE seq = 3", (10, 14)),
    ("UPDATE log_head SET log_id = zeroblob(8)", (10, None)),
    ("UPDATE log_head SET signed_size = 13", (10, None)),
    ("UPDATE log_head SET root = zeroblob(32)", (10, 0)),
    ("UPDATE log_head SET frontier = zeroblob(8)", (10, None)),
    ("UPDATE log_head SET note = NULL", (13, None)),
    ("UPDATE log_head SET note = 'not a note'", (13, None)),
    ("DELETE FROM log_head", (30, None)),
    ("DROP TABLE tile", (30, None), 300),
    ("UPDATE checkpoint SET root = zeroblob(32) WHERE size = 3", (10, None)),
    ("UPDATE checkpoint SET note = replace(note, 'A', 'B') WHERE size = 9", (13, None)),
    ("UPDATE checkpoint SET size = 4 WHERE size = 3", (10, None)),
    ("UPDATE tile SET hashes = zeroblob(32) WHERE level = 1", (10, 0), 300),
    ("DELETE FROM tile", (10, 0), 300),
]  # fmt: skip


@cache
def _logs_made() -> Path:
    """The bundles of the incremental runs, written once."""
    root = Path(mkdtemp(prefix="verifier-checks-"))
    atexit.register(shutil.rmtree, root, ignore_errors=True)
    whole = Log.of(520)
    changed = whole.copy()
    changed.records[515].fields["env_nonce"] = bytes(24)
    whole.write(root / "whole")
    changed.write(root / "changed")
    for size in (270, 300):
        early = whole.copy()
        del early.records[size:]
        early.write(root / f"first-{size}")
    hold = canonical(v=1, event="hold.set", hold="00" * 8, scopes=scope_id(0).hex(), subjects="", classes="", reason="")
    shred = canonical(v=1, event="shred", scopes=scope_id(0).hex(), subject="", grade="B", reason="", approvals="a")
    whole = Log.of(14, bodies={3: hold, 13: shred}, scopes=3)
    early = whole.copy()
    del early.records[8:]
    whole.write(root / "hold-whole")
    early.write(root / "hold-early")
    return root


def _incremental(module: types.ModuleType) -> bool:
    """A second run from a state: more records, the same, fewer, others; a hold that an earlier run saw."""
    root = _logs_made()
    with tempfile.TemporaryDirectory() as folder:
        state = Path(folder) / "state.json"

        def verdict(name: str) -> tuple:
            answer = run(module, root / name, "--pub", verifier_key(), "--since", state)
            return answer["exit_code"], answer["records"], answer["anchored_size"]

        if verdict("first-270") != (16, 270, None) or verdict("first-300") != (0, 300, 270):
            return False
        if verdict("whole") != (0, 520, 300) or verdict("whole") != (0, 520, 520):
            return False
        before = state.read_bytes()
        if verdict("first-300")[0] != 11 or verdict("changed")[0] != 12 or state.read_bytes() != before:
            return False
        words = ("--pub", verifier_key(), "--since", Path(folder) / "holds.json")
        first = run(module, root / "hold-early", *words)
        second = run(module, root / "hold-whole", *words)
        return first["exit_code"] == 16 and (second["exit_code"], second["first_bad_seq"]) == (14, 13)


@cache
def _twins_made() -> tuple[Path, Path]:
    """A signed log in which two records have one id, in a database that does not forbid it."""
    folder = _databases_made()[0]
    log = Log.of(14)
    log.records[9].fields["record_id"] = log.records[5].fields["record_id"]
    (folder / "kept-twins").write_text(log.head())
    return log.write_database(folder / "twins.db", schema=SCHEMA.replace(" UNIQUE", "")), folder / "kept-twins"


def _twins(module: types.ModuleType) -> bool:
    path, kept = _twins_made()
    return run(module, path, "--pub", verifier_key(), "--trusted", kept)["exit_code"] == 10


@cache
def _sealed_made() -> tuple[Path, Path, Path]:
    """A database whose parts really open, the keys, and a checkpoint; the content of record 8 is that of record 4."""
    folder, env_key, con_key = _databases_made()[0], bytes(32), b"\x01" * 32
    log = Log.of(14)
    for record in log.records[2:]:
        record.seal("env", env_key, b"{}")
        if record.con is not None:
            record.seal("con", con_key, b"what was typed")
    log.records[8].con = log.records[4].con
    log.records[8].rehash()
    (folder / "kept-sealed").write_text(log.head())
    fields = log.records[4].fields
    lines = [
        f"{bytes(fields[name]).hex()} {key.hex()}\n" for name, key in (("env_key", env_key), ("con_scope", con_key))
    ]  # type: ignore[call-overload]
    (folder / "keys").write_text("".join(lines))
    return log.write_database(folder / "sealed.db"), folder / "keys", folder / "kept-sealed"


@cache
def _overlong_made() -> tuple[Path, Path, Path]:
    """A database whose note signs more than is there, one with rows under no signature, and a kept checkpoint."""
    folder = _databases_made()[0]
    log = Log.of(4200)
    (folder / "kept-5").write_text(log.head(5))  # both begin alike
    log.note = log.head(3)
    unsigned = log.write_database(folder / "unsigned.db", signed_size=3)
    short = Log.of(12)
    short.note = short.head()
    del short.records[10:]
    return short.write_database(folder / "short.db", signed_size=12), unsigned, folder / "kept-5"


def _overlong(module: types.ModuleType) -> bool:
    short, unsigned, kept = _overlong_made()
    found = [run(module, path, "--pub", verifier_key(), "--trusted", kept)["exit_code"] for path in (short, unsigned)]
    return found == [11, 13]


def _sealed(module: types.ModuleType) -> bool:
    path, keys, kept = _sealed_made()
    words = (path, "--pub", verifier_key(), "--trusted", kept)
    answer = run(module, *words, "--keys", keys)
    opened = any("opened with the given keys: 17; without a key: 0" in message for message in answer["messages"])
    return run(module, *words)["exit_code"] == 0 and (answer["exit_code"], answer["first_bad_seq"], opened) == (
        10,
        8,
        True,
    )


CHECKS: tuple[Callable[[types.ModuleType], bool], ...] = (_databases, _incremental, _twins, _sealed, _overlong)


def failures(module: types.ModuleType) -> Iterator[str]:
    """What is wrong with this module, for people."""
    for vector in VECTORS:
        if not verdict_of(module, vector):
            yield vector["name"]
    folder, made = _databases_made()
    for case, one in zip(DATABASES, made, strict=True):
        if not _database(module, folder, *one):
            answer = run(module, one[0], "--pub", verifier_key(), "--trusted", folder / f"kept-{one[0].stem}")
            yield f"{case}: {answer}"
    if not _incremental(module):
        yield "incremental"
