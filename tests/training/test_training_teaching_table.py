"""Guaranteed here: a table is read as it is or refused with the reason, and nothing a person should know is dropped."""

import csv
import io

import pytest
from hypothesis import given
from hypothesis import strategies as st

from appliance.errors import ApplianceError, InputEmpty, InputNotText, InputTooLong, InvalidRequest
from appliance.training.teaching.table import Columns, examples_of, guess_columns, read_table

MAX = 1024 * 1024
CELLS = st.text(st.characters(blacklist_categories=["Cs"], blacklist_characters="\0"), max_size=30)


def table_of(text, encoding="utf-8"):
    return read_table(text.encode(encoding), bytes_max=MAX)


def codes(findings):
    return {finding.code for finding in findings}


def learned(text, columns=None):
    table = table_of(text)
    return examples_of(table, columns or guess_columns(table))


@given(st.lists(st.tuples(CELLS, CELLS), min_size=1, max_size=20))
def test_what_a_spreadsheet_writes_is_read_back(rows):
    written = io.StringIO()
    csv.writer(written).writerows([("text", "label"), *rows])
    kept = [row for row in rows if any(cell.strip() for cell in row)]
    if not kept:
        with pytest.raises(InputEmpty):
            table_of(written.getvalue())
        return
    table = table_of(written.getvalue())
    assert list(table.rows) == kept
    assert not table.findings


@given(st.binary(max_size=300))
def test_any_bytes_are_a_table_or_a_refusal(content):
    try:
        table = read_table(content, bytes_max=MAX)
        examples_of(table, Columns(0, 1))
    except ApplianceError as error:
        assert error.hint


@pytest.mark.parametrize("delimiter", [",", ";", "\t", "|"])
def test_the_delimiter_is_the_one_of_the_header(delimiter):
    assert table_of(f"id{delimiter}text\n1{delimiter}a b").rows == (("1", "a b"),)


@pytest.mark.parametrize("encoding", ["utf-8-sig", "utf-16"])
def test_a_marked_encoding_is_believed(encoding):
    assert table_of("text,label\nVergleich für José,x", encoding).rows == (("Vergleich für José", "x"),)


def test_windows_text_is_read_and_told():
    table = table_of("text,label\nfür,x", "cp1252")
    assert table.rows == (("für", "x"),)
    assert codes(table.findings) == {"not_utf8"}


def test_mixed_encodings_are_read_and_told_with_their_lines():
    table = read_table("text,label\nfür,x\n".encode() + "José,y\n".encode("cp1252"), bytes_max=MAX)
    assert table.rows == (("für", "x"), ("José", "y"))
    (finding,) = table.findings
    assert (finding.code, finding.severity, finding.lines) == ("mixed_encodings", "warning", (3,))


def test_a_mark_before_mixed_encodings_is_no_part_of_the_first_column():
    content = "\ufefftext,label\nfür,x\n".encode() + "José,y\n".encode("cp1252")
    table = read_table(content, bytes_max=MAX)
    assert table.columns == ("text", "label") and table.rows == (("für", "x"), ("José", "y"))
    assert table.findings[0].message.startswith("the file mixes encodings: 1 lines are UTF-8 and 1 are not")


def test_lines_that_end_as_on_old_macs_have_the_delimiter_of_their_header():
    assert table_of("text;label\rone, two, or three;x\rfour, or five;y\r").rows[0] == ("one, two, or three", "x")


def test_blank_lines_before_the_header_are_no_header():
    table = table_of("\r\n ;\r\ntext;label\r\none;x\r\n")
    assert (table.columns, table.rows, table.lines) == (("text", "label"), (("one", "x"),), (4,))


@pytest.mark.parametrize("encoding", ["utf-8", "utf-8-sig", "utf-32"])
def test_a_nul_character_is_refused_wherever_it_stands(encoding):
    with pytest.raises(InputNotText, match="NUL"):
        table_of("text,label\n" + "one,x\n" * 20_000 + "t\0wo,y\n", encoding)


def test_a_header_that_names_two_columns_alike_is_told():
    _, findings = learned("text,label,label\none,a,b\ntwo,b,a\nthree,a,b\nfour,b,a\n")
    (alike,) = [finding for finding in findings if finding.code == "columns_alike"]
    assert (alike.severity, alike.count) == ("warning", 2) and "the first" in alike.message
    _, others = learned("text,label,nr,nr\none,a,1,1\ntwo,b,1,1\nthree,a,1,1\n")
    assert "columns_alike" not in codes(others)  # nothing is read from those


def test_a_guess_is_a_column_that_its_name_can_name():
    rows = "".join(f"{number},please look at request {number} again,{'ab'[number % 2]}\n" for number in range(20))
    assert guess_columns(table_of(f"what,what,team\n{rows}")) == Columns(text=0, label=2)


def test_a_label_that_is_too_long_is_not_told_as_a_text_that_is():
    _, findings = learned(f"text,label\none,{'x' * 201}\ntwo,a\nthree,b\n", Columns(0, 1))
    (long,) = [finding for finding in findings if finding.code == "too_long"]
    assert long.lines == (2,) and "a label of more than 200 characters" in long.message


@pytest.mark.parametrize(
    ("content", "error"),
    [
        (b"", InputEmpty),
        (b"  \n ", InputEmpty),
        (b"text,label\n", InputEmpty),
        (b"PK\x03\x04\0\0", InputNotText),
        (b"only one column\nx\n", InvalidRequest),
        (b'text,label\n"never closed,x\n', InvalidRequest),
        (b"x" * (MAX + 1), InputTooLong),
    ],
)
def test_what_is_no_table_is_refused_with_a_remedy(content, error):
    with pytest.raises(error) as refused:
        read_table(content, bytes_max=MAX)
    assert refused.value.hint


def test_columns_are_known_by_their_names():
    assert guess_columns(table_of("id,Category,Message\n1,a,b\n2,a,c\n")) == Columns(text=2, label=1)


def test_columns_without_known_names_are_known_by_what_they_hold():
    rows = "".join(f"{number},please look at request {number} again,{'ab'[number % 2]}\n" for number in range(20))
    assert guess_columns(table_of(f"nr,what,team\n{rows}")) == Columns(text=1, label=2)


def test_a_table_without_repeating_values_has_no_labels():
    with pytest.raises(InvalidRequest):
        guess_columns(table_of("a,b\nlong text one,1\nlong text two,2\nlong text three,3\nlong text four,4\n"))


def test_repeated_contradicting_and_empty_rows_are_told():
    examples, findings = learned("text,label\nOne!,a\none,a\ntwo,a\nTwo?,b\n,a\nthree,\nfour,b\n")
    assert [(example.text, example.label) for example in examples] == [("One!", "a"), ("four", "b")]
    assert codes(findings) >= {"duplicates", "contradictions", "empty_cells", "single_example"}
    (contradiction,) = [finding for finding in findings if finding.code == "contradictions"]
    assert contradiction.lines == (4,)


def test_one_class_is_a_refusal():
    _, findings = learned("text,label\none,a\ntwo,a\n", Columns(0, 1))
    assert [finding.severity for finding in findings if finding.code == "one_class"] == ["refusal"]


def test_labels_alike_and_imbalance_are_told():
    many = "".join(f"text number {number},Card\n" for number in range(60))
    _, findings = learned(f"text,label\n{many}another,card\nlast,Loan\n")
    assert codes(findings) >= {"labels_alike", "imbalance", "single_example"}


def test_rows_of_another_width_are_left_out_and_told():
    _, findings = learned("text,label\none,a\ntwo,b,c\nthree,b\n", Columns(0, 1))
    (uneven,) = [finding for finding in findings if finding.code == "uneven_rows"]
    assert uneven.lines == (3,)


def test_no_finding_repeats_a_text():
    secret = "Mrs. Haddad called about her account"
    _, findings = learned(f"text,label\n{secret},a\n{secret},b\nx,c\ny,d\n")
    assert all(secret not in finding.message for finding in findings)


def test_several_labels_in_a_cell_are_one_set_in_any_order():
    table = table_of("text,label\none,b; a\none,a;b\ntwo,a\nthree,;b;b;\n")
    examples, findings = examples_of(table, Columns(0, 1), separator=";")
    assert [(one.text, one.label, one.line) for one in examples] == [
        ("one", "a;b", 2),
        ("two", "a", 4),
        ("three", "b", 5),
    ]
    assert codes(findings) == {"duplicates"}
