"""`appliance deidentify` and `appliance run` keep the contract that other programs rely on, byte by byte.

Every call is the real command in a process of its own, on one data folder for the module: small specialists of the
test's own, the echo backend, and limits that a short line can exceed.
"""

import json
import shutil
from pathlib import Path

import pytest

from appliance.config import load_config
from appliance.service.specialists import open_registry
from appliance.specialists.manifest import Calibration
from tests.conftest import link_or_copy, run_appliance
from tests.specialist_files import (
    abstaining,
    write_answerer,
    write_classifier,
    write_embedder,
    write_sentence_classifier,
    write_tagger,
)

CHARS_MAX, LINE_BYTES_MAX = 400, 2048
EMAIL = "ana@example.org"
NEVER_TWO = {"routine": 0.9, "unclear": 0.9}  # whose logits are 0: a probability of one half
CONFIG = f"""
[audit]
append_s = 60
start_s = 120
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
            write_classifier(folder / "clauses.gguf", multi_label=True, calibration=Calibration(thresholds=NEVER_TWO)),
            write_classifier(folder / "mood.gguf", context="optional", context_name="entity"),
            write_classifier(folder / "denied.gguf", context="required", context_name="concept"),
            write_sentence_classifier(folder / "sections.gguf"),
            write_answerer(folder / "reader.gguf"),
            write_answerer(folder / "silent.gguf", calibration=abstaining()),
            write_embedder(folder / "vector.gguf"),
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
    fields = {"record_id", "seq", "size", "leaf", "proof", "checkpoint", "origin", "proof_file"}
    assert fields == set(body["receipt"])
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


def test_classifier_that_abstains_says_null_and_how_sure_the_best_label_was(folder):
    _, (row,) = run_lines(folder, "shy", b'{"id": 1, "text": "chest pain"}')
    assert row["label"] is None and 0.99 < row["score"] <= 1
    assert set(row) == {"id", "label", "score", "receipt"}


def test_several_labels_are_those_assigned_with_their_scores(folder):
    _, (row,) = run_lines(folder, "clauses", b'{"id": 1, "text": "chest pain"}')
    assert set(row) == {"id", "labels", "receipt"}
    assert row["labels"] == [{"label": "urgent", "score": 1.0}]


def test_sentences_have_one_label_each(folder):
    lines = [{"id": 1, "sentences": ["We tried.", "", "It worked."]}, {"id": 2, "sentences": []}]
    lines += [{"id": 3, "sentences": "We tried."}, {"id": 4, "text": "We tried."}, {"id": 5, "sentences": [7]}]
    _, rows = run_lines(folder, "sections", "\n".join(map(json.dumps, lines)).encode())
    assert set(rows[0]) == {"id", "labels", "receipt"} and rows[0]["labels"] == ["urgent"] * 3
    codes = [row["error"]["code"] for row in rows[1:]]
    assert codes == ["input_empty", "invalid_request", "invalid_request", "invalid_request"]


# Specialist, line beside its id, and the fields of the row or the code of its error.
ABOUT: list[tuple[str, dict[str, object], set[str] | str]] = [
    ("mood", {"text": "Shares fell", "entity": "Acme"}, {"label", "score"}),
    ("mood", {"text": "Shares fell"}, {"label", "score"}),
    ("mood", {"text": "Shares fell", "entity": None, "split": "test"}, {"label", "score"}),
    ("mood", {"text": "Shares fell", "concept": "fever"}, "invalid_request"),
    ("denied", {"text": "No fever", "concept": "fever"}, {"label", "score"}),
    ("denied", {"text": "No fever"}, "invalid_request"),
    ("denied", {"text": "No fever", "concept": "  "}, "invalid_request"),
    ("denied", {"text": "No fever", "concept": 7}, "invalid_request"),
]


@pytest.mark.parametrize("specialist", ["mood", "denied"])
def test_what_a_text_is_judged_with_regard_to_is_taken_where_it_is_asked_for(folder, specialist):
    cases = [(line, expected) for name, line, expected in ABOUT if name == specialist]
    lines = "\n".join(json.dumps({"id": number} | line) for number, (line, _) in enumerate(cases))
    _, rows = run_lines(folder, specialist, lines.encode())
    for row, (line, expected) in zip(rows, cases, strict=True):
        found = row["error"]["code"] if "error" in row else set(row) - {"id", "receipt"}
        assert found == expected, line


def test_answer_is_cut_out_of_the_context_whatever_the_script(folder):
    contexts = ["Paris is a city.", "\U0001f3e5\u200f \u05e9\u05dc\u05d5\u05dd e\u0301te\u0301", "  Naïveté wins "]
    lines = "\n".join(json.dumps({"id": n, "question": "what?", "context": c}) for n, c in enumerate(contexts))
    done, rows = run_lines(folder, "reader", lines.encode())
    assert done.returncode == 0, done.stderr
    for row, context in zip(rows, contexts, strict=True):
        assert set(row) == {"id", "answer", "receipt"}
        found = row["answer"]
        assert set(found) == {"text", "start", "end", "score"}
        assert found["text"] == context[found["start"] : found["end"]] and found["text"].strip() == found["text"] != ""


def test_answer_that_is_not_there_is_null_and_a_question_alone_is_refused(folder):
    lines = [{"question": "who?", "context": "Paris is a city."}, {"question": "who?"}, {"text": "Paris is a city."}]
    lines.append({"question": " ", "context": "Paris is a city."})
    _, (row, *refused) = run_lines(
        folder, "silent", "\n".join(json.dumps({"id": n} | line) for n, line in enumerate(lines)).encode()
    )
    assert set(row) == {"id", "answer", "receipt"} and row["answer"] is None
    assert [one["error"]["code"] for one in refused] == ["invalid_request", "invalid_request", "input_empty"]


def test_embedding_is_a_vector_of_length_one_and_is_what_the_record_holds(folder):
    _, (row,) = run_lines(folder, "vector", b'{"id": 1, "text": "chest pain"}')
    assert set(row) == {"id", "embedding", "receipt"} and len(row["embedding"]) == 384
    assert sum(value * value for value in row["embedding"]) == pytest.approx(1.0, abs=1e-4)
    shown = run_appliance("audit", "show", row["receipt"]["record_id"], "--json", home=folder / "home")
    sealed = json.loads(json.loads(shown.stdout)["content"])["embedding"]
    assert sealed == pytest.approx(row["embedding"], abs=1e-6)


def test_run_that_cannot_begin_leaves_no_output(folder):
    done, rows = run_lines(folder, "nobody", b'{"id": 1, "text": "a"}')
    said(done, 6)
    assert rows is None
    for source, target in (("absent.jsonl", "out.jsonl"), ("in.jsonl", "no/such/folder.jsonl")):
        words = ["run", "quiet", "--jsonl", str(folder / source), "--out", str(folder / target)]
        error, _ = said(run_appliance(*words, home=folder / "home"), 4)
        assert source in error or target in error
        assert not (folder / target).exists()


def test_texts_are_not_overwritten_by_what_is_found_in_them_nor_is_work_done_for_a_folder(folder):
    texts = folder / "kept.jsonl"
    texts.write_text('{"id": 1, "text": "Ann Lee"}\n')
    (folder / "same.jsonl").symlink_to(texts)
    for place in (texts, folder / "same.jsonl", folder):
        done = run_appliance("run", "quiet", "--jsonl", str(texts), "--out", str(place), home=folder / "home")
        assert done.returncode == 4 and b"hint: name a" in done.stderr, done.stderr
    assert texts.read_text() == '{"id": 1, "text": "Ann Lee"}\n'


def test_log_verifies_after_all_of_this(folder):
    done = run_appliance("audit", "verify", "--json", home=folder / "home")
    assert done.returncode == 0
    assert json.loads(done.stdout)["verdict"] == "ok"
