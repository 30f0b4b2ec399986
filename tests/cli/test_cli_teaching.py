"""Teaching at the terminal: what is too large is refused before it is read; text that is not English is warned of."""

import json


def test_fifty_mebibytes_of_csv_are_refused_with_the_bound_and_what_to_do(appliance, home, tmp_path):
    table = tmp_path / "tickets.csv"
    with table.open("wb") as file:
        file.write(b"text,label\n")
        file.truncate(50 * 1024 * 1024)
    done = appliance("specialists", "teach", "complaint-router", str(table), "--yes", home=home.root)
    assert done.returncode == 4, done.stderr
    assert b"33554432" in done.stderr and b"hint: " in done.stderr


def test_a_label_cannot_move_the_cursor_of_whoever_checks_a_table(appliance, home, tmp_path):
    table = tmp_path / "tickets.csv"
    table.write_text("text,label\n" + "".join(f"text number {n},\x1b[31m{'ab'[n % 2]}\n" for n in range(12)))
    done = appliance("specialists", "teach", "complaint-router", str(table), home=home.root)
    assert done.returncode == 4, done.stderr
    assert b"[31ma 6" in done.stderr and b"\x1b" not in done.stderr


def test_a_text_in_another_language_is_answered_with_a_warning(appliance, home, tmp_path):
    lines = [
        {"id": 1, "text": "The patient denies chest pain and was discharged home on aspirin."},
        {"id": 2, "text": "С меня дважды списали деньги за один перевод, верните их, пожалуйста"},
    ]
    (tmp_path / "in.jsonl").write_text("".join(json.dumps(line) + "\n" for line in lines))
    done = appliance(
        "run", "phi-deid", "--jsonl", str(tmp_path / "in.jsonl"), "--out", str(tmp_path / "out.jsonl"), home=home.root
    )
    assert done.returncode == 0, done.stderr
    english, russian = (json.loads(line) for line in (tmp_path / "out.jsonl").read_text().splitlines())
    assert "warnings" not in english and "does not look like English" in russian["warnings"][0]
    assert russian["receipt"]["record_id"]
