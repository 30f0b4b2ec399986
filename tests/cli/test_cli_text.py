"""`appliance deidentify` and `appliance run` keep the contract that other programs rely on, byte by byte.

Every call is the real command in a process of its own, on one data folder for the module: small specialists of the
test's own, the echo backend, and limits that a short line can exceed.
"""

import json
import shutil
from pathlib import Path

import pytest

from appliance.config import load_config
from appliance.service.appliance import open_registry
from tests.conftest import link_or_copy, run_appliance
from tests.specialist_files import abstaining, write_classifier, write_tagger

CHARS_MAX, LINE_BYTES_MAX = 400, 2048
EMAIL = "ana@example.org"
CONFIG = f"""
[engine]
backend = "echo"
threads = 1
[limits]
text_chars_max = {CHARS_MAX}
jsonl_line_bytes_max = {LINE_BYTES_MAX}
"""


@pytest.fixture(scope="module")
def folder(home_template, tmp_path_factory) -> Path:
    folder = tmp_path_factory.mktemp("cli-text")
    home = folder / "home"
    shutil.copytree(home_template, home, copy_function=link_or_copy)
    (home / "config.toml").write_text(CONFIG)
    with open_registry(load_config(home)) as registry:
        for path in (
            write_tagger(folder / "quiet.gguf", post="deid"),
            write_classifier(folder / "triage.gguf"),
            write_classifier(folder / "shy.gguf", calibration=abstaining()),
        ):
            registry.install(path, trust="administrator")
    return folder


def deidentify(folder: Path, *words: str, stdin: bytes | None = None):
    return run_appliance("deidentify", "--specialist", "quiet", *words, home=folder / "home", stdin=stdin)


def said(done, status: int) -> tuple[str, str]:
    """Error and hint of a command that ended with `status` and printed nothing else to stdout."""
    text = done.stderr.decode()
    assert (done.returncode, done.stdout) == (status, b""), text
    assert "Traceback" not in text
    *_, error, hint = text.strip().splitlines()
    assert error.startswith("appliance: error: ") and hint.startswith("hint: ")
    return error, hint


def test_text_goes_to_stdout_alone_and_everything_else_to_stderr(folder):
    (folder / "note.txt").write_text(f"Call {EMAIL}\n")
    done = deidentify(folder, str(folder / "note.txt"))
    assert (done.returncode, done.stdout) == (0, b"Call [EMAIL 1]\n")
    assert b"found 1 EMAIL" in done.stderr and b"recorded as" in done.stderr
    assert EMAIL.encode() not in done.stderr


def test_json_has_text_spans_and_receipt(folder):
    text = f"\u05e9\u05dc\u05d5\u05dd \U0001f3e5 {EMAIL}"
    done = deidentify(folder, "-", "--json", "--style", "mask", stdin=text.encode())
    body = json.loads(done.stdout)
    assert set(body) == {"text", "spans", "receipt"}
    (span,) = body["spans"]
    assert set(span) == {"start", "end", "label", "score"}
    assert (text[span["start"] : span["end"]], span["label"]) == (EMAIL, "EMAIL")
    assert body["text"] == text.replace(EMAIL, "█" * len(EMAIL))
    assert {"record_id", "seq", "size", "leaf", "proof", "checkpoint", "origin"} == set(body["receipt"])
    shown = run_appliance("audit", "show", body["receipt"]["record_id"], "--json", home=folder / "home")
    assert json.loads(json.loads(shown.stdout)["content"])["text"] == body["text"]


def test_surrogate_is_another_value_of_the_same_kind(folder):
    done = deidentify(folder, "-", "--style", "surrogate", stdin=f"Call {EMAIL}".encode())
    replaced = done.stdout.decode().removeprefix("Call ")
    assert "@" in replaced and replaced != EMAIL


def test_byte_order_mark_is_not_part_of_the_text(folder):
    done = deidentify(folder, "-", stdin=b"\xef\xbb\xbfCall " + EMAIL.encode())
    assert done.stdout == b"Call [EMAIL 1]"


@pytest.mark.parametrize(
    ("stdin", "words"),
    [
        (b"", ["the text is empty"]),
        (b"caf\xe9", ["standard input", "not valid UTF-8 at byte 3", "iconv"]),
        (b"a\0b", ["NUL character at offset 1"]),
        (b"x " * CHARS_MAX, [f"{2 * CHARS_MAX} characters", f"takes {CHARS_MAX}", "limits.text_chars_max"]),
        (b"x" * 10_000_000, ["standard input", f"larger than {4 * CHARS_MAX} bytes"]),
    ],
    ids=["empty", "not UTF-8", "NUL", "too long", "10 MB"],
)
def test_text_that_cannot_be_served_ends_with_4_and_says_why(folder, stdin, words):
    told = " ".join(said(deidentify(folder, "-", stdin=stdin), 4))
    for word in words:
        assert word in told


def test_file_that_cannot_be_read_and_unknown_specialist_have_their_statuses(folder):
    error, _ = said(deidentify(folder, str(folder / "absent.txt")), 4)
    assert "absent.txt" in error
    done = run_appliance("deidentify", "-", "--specialist", "nobody", home=folder / "home", stdin=b"a")
    error, hint = said(done, 6)
    assert "nobody" in error and "specialists list" in hint


def run_lines(folder: Path, specialist: str, content: bytes):
    source, target = folder / "in.jsonl", folder / "out.jsonl"
    source.write_bytes(content)
    target.unlink(missing_ok=True)
    done = run_appliance("run", specialist, "--jsonl", str(source), "--out", str(target), home=folder / "home")
    rows = [json.loads(line) for line in target.read_bytes().splitlines()] if target.exists() else None
    assert not target.with_name("out.jsonl.partial").exists()
    return done, rows


# Each input line and what must become of it: labels of spans, or the id and code of an error.
LINES: list[tuple[bytes, list[str] | tuple[object, str]]] = [
    (b'\xef\xbb\xbf{"id": "first", "text": "Call ana@example.org"}', ["EMAIL"]),
    (b'{"id": 2, "text": ""}', (2, "input_empty")),
    (b"not json", (None, "invalid_request")),
    (b'{"id": 4}', (4, "invalid_request")),
    (b'{"id": 5, "text": 7}', (5, "invalid_request")),
    (b'{"text": "no id"}', (None, "invalid_request")),
    (b'["a list"]', (None, "invalid_request")),
    (b'{"id": 8, "text": "half \\ud83d a pair"}', (8, "input_not_text")),
    (b'{"id": 9, "text": "a\\u0000b"}', (9, "input_not_text")),
    (b'{"id": 10, "text": "caf\xe9"}', (None, "input_not_text")),
    (b'{"id": 11, "text": "' + b"x" * LINE_BYTES_MAX + b'"}', (None, "input_too_long")),
    (b'{"id": 12, "text": "' + b"x" * (CHARS_MAX + 1) + b'"}', (12, "input_too_long")),
    (b"[" * 2000, (None, "invalid_request")),
    (b'{"id": 1e999, "text": "a"}', (None, "invalid_request")),
    (b'{"id": "half \\ud83d a pair", "text": "plain"}', []),
    (b'{"id": ' + b"9" * 60 + b', "text": "plain"}', []),
    (b'{"id": {"nested": [1, null]}, "text": "plain"}\r', []),
    (b'{"id": null, "text": "plain", "other": 1}', []),
    ('{"id": "\u05e9\u05dc\u05d5\u05dd", "text": "\U0001f3e5 ana@example.org e\u0301"}'.encode(), ["EMAIL"]),
    (b'{"id": 2, "text": "the last line has no newline"}', []),
]


def test_every_line_has_its_row_in_order_and_bad_lines_do_not_end_the_run(folder):
    done, rows = run_lines(folder, "quiet", b"\n".join(line for line, _ in LINES))
    assert (done.returncode, done.stdout) == (3, b""), done.stderr
    assert rows is not None and len(rows) == len(LINES)
    for (line, expected), row in zip(LINES, rows, strict=True):
        if isinstance(expected, tuple):
            assert (row["id"], row["error"]["code"]) == expected, line
            assert set(row) == {"id", "error"} and set(row["error"]) == {"code", "message"}
        else:
            assert set(row) == {"id", "spans", "receipt"}, line
            assert [span["label"] for span in row["spans"]] == expected
    ids = ["half \ud83d a pair", int("9" * 60), {"nested": [1, None]}, None, "\u05e9\u05dc\u05d5\u05dd", 2]
    assert [row["id"] for row in rows][-6:] == ids
    (span,) = rows[-2]["spans"]
    assert (span["start"], span["end"]) == (2, 17)
    records = [row["receipt"]["record_id"] for row in rows if "receipt" in row]
    assert len(set(records)) == len(records)
    failed = sum("error" in row for row in rows)
    assert f"{failed} lines failed".encode() in done.stderr


def test_blank_lines_are_no_lines_and_a_run_without_failures_ends_with_0(folder):
    done, rows = run_lines(folder, "quiet", b'\n{"id": 1, "text": "a"}\n\n \n')
    assert (done.returncode, [row["id"] for row in rows]) == (0, [1]), done.stderr
    done, rows = run_lines(folder, "quiet", b"")
    assert (done.returncode, rows) == (0, []), done.stderr


def test_classifier_gives_label_score_and_receipt(folder):
    done, (row,) = run_lines(folder, "triage", b'{"id": 1, "text": "chest pain"}')
    assert done.returncode == 0, done.stderr
    assert set(row) == {"id", "label", "score", "receipt"}
    assert row["label"] == "urgent" and 0.99 < row["score"] <= 1


def test_classifier_that_abstains_says_null(folder):
    _, (row,) = run_lines(folder, "shy", b'{"id": 1, "text": "chest pain"}')
    assert (row["label"], row["score"]) == (None, None)


def test_run_that_cannot_begin_leaves_no_output(folder):
    done, rows = run_lines(folder, "nobody", b'{"id": 1, "text": "a"}')
    said(done, 6)
    assert rows is None
    for source, target in (("absent.jsonl", "out.jsonl"), ("in.jsonl", "no/such/folder.jsonl")):
        words = ["run", "quiet", "--jsonl", str(folder / source), "--out", str(folder / target)]
        error, _ = said(run_appliance(*words, home=folder / "home"), 4)
        assert source in error or target in error
        assert not (folder / target).exists()


def test_log_verifies_after_all_of_this(folder):
    done = run_appliance("audit", "verify", "--json", home=folder / "home")
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] == "ok"
