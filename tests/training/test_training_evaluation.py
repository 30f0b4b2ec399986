"""The measures of the evaluation: guaranteed is what each counts, on texts small enough to count by hand; that
intervals contain their share; that the permutation test sees a gap and none where there is none; and that a specialist
file is judged through the engine's worker and the task's own code (on the echo backend, which needs no model).
"""

import asyncio
import json

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from appliance.config import EngineConfig
from appliance.specialists.base_conversion import StorageType
from appliance.specialists.base_model import BaseModel, sha256_of_file
from appliance.specialists.manifest import Base, Manifest
from appliance.training import evaluation
from appliance.training.evaluation import Counts, Judged, Subject
from appliance.training.held_back.labelled import LabelledText, Piece, join
from appliance.types import Adapter, Head, Span, Task

NOTE = join([Piece("Dr. "), Piece("Ada Quist", "NAME"), Piece(" on "), Piece("3/4", "DATE"), Piece(".")], "note/x")
NAME, DAY = NOTE.spans


def judged(*predicted, truth=NOTE):
    return Judged(truth, predicted)


def span(start, end, label="NAME"):
    return Span(start, end, label, 0.9)


def test_letters_and_digits_count_and_nothing_else():
    assert evaluation.character_counts(judged(NAME, DAY)) == Counts(found=10, missed=0, wrong=0)
    # The blank inside the name and the stroke of the date are left: nobody is identified by them.
    without = judged(span(4, 7), span(8, 13), span(17, 18, "DATE"), span(19, 20, "DATE"))
    assert evaluation.character_counts(without).missed == 0
    assert not evaluation.leaks(without)


def test_title_inside_a_span_is_redacted_in_vain():
    wide = judged(span(0, 13), DAY)
    assert evaluation.character_counts(wide) == Counts(found=10, missed=0, wrong=2)
    assert evaluation.in_vain(wide) == (span(0, 13),)
    assert not evaluation.leaks(wide)


def test_wrong_label_counts_as_found_unless_strict():
    mislabelled = judged(span(4, 13, "LOCATION"), DAY)
    assert evaluation.character_counts(mislabelled).recall == 1.0
    assert evaluation.character_counts(mislabelled, strict=True) == Counts(found=2, missed=8, wrong=8)
    labels = evaluation.label_figures([mislabelled])
    assert labels["NAME"]["recall"] == 1.0
    assert labels["NAME"]["recall_own_label"] == 0.0
    assert labels["LOCATION"]["precision"] == 1.0
    assert labels["LOCATION"]["precision_own_label"] == 0.0


def test_optional_stretch_counts_neither_for_nor_against():
    truth = LabelledText("Lindal, OH", (Span(0, 6, "LOCATION", 1.0),), "note/x", optional=((8, 10),))
    for predicted in ((span(0, 6, "LOCATION"),), (span(0, 10, "LOCATION"),)):
        assert evaluation.character_counts(judged(*predicted, truth=truth)) == Counts(6, 0, 0)
        assert not evaluation.in_vain(judged(*predicted, truth=truth))


def test_one_character_left_makes_a_leak_of_the_span_and_of_the_text():
    partial = judged(span(4, 12), DAY)
    assert evaluation.leaks(partial) == (NAME,)
    assert evaluation.whole_spans([partial, judged(NAME)], "NAME") == (1, 2)
    assert evaluation.share_without_leak([partial, judged(NAME, DAY)]) == 0.5


def test_over_redaction_is_the_share_of_clean_texts_touched():
    clean = LabelledText("Graves disease", (), "query/clean")
    assert evaluation.share_touched([judged(truth=clean), judged(span(0, 6), truth=clean)]) == 0.5


@given(st.integers(0, 300), st.integers(1, 300))
def test_wilson_interval_contains_the_share_and_stays_a_share(successes, trials):
    successes = min(successes, trials)
    low, high = evaluation.wilson(successes, trials)
    assert 0.0 <= low <= successes / trials + 1e-12
    assert successes / trials - 1e-12 <= high <= 1.0


def test_wilson_interval_agrees_with_the_published_example():
    low, high = evaluation.wilson(81, 263)  # Newcombe 1998, table I, method 3
    assert (round(low, 4), round(high, 4)) == (0.2553, 0.3662)


def test_bootstrap_interval_contains_the_figure_and_narrows_with_more_texts():
    few = [judged(NAME, DAY), judged(DAY)] * 5
    many = few * 20

    def recall(row):
        return row[0] / (row[0] + row[1])

    low, high = evaluation.bootstrap(few, recall)
    assert low < evaluation.total_counts(few).recall < high
    narrow = evaluation.bootstrap(many, recall)
    assert narrow[1] - narrow[0] < high - low


def test_permutation_test_sees_a_gap_and_none_where_there_is_none():
    assert evaluation.gap_p_value({"one": [(2, 2)] * 60, "other": [(1, 2)] * 60}) < 0.01
    same = {"one": [(2, 2), (1, 2)] * 30, "other": [(2, 2), (1, 2)] * 30}
    assert evaluation.gap_p_value(same) > 0.5
    assert evaluation.gap_p_value({"one": [(2, 2)] * 5, "other": [(2, 2)] * 5}) == 1.0


def test_report_holds_every_part_and_can_be_written_as_json():
    clean = LabelledText("Graves disease", (), "query/clean")
    asking = LabelledText("call Quist", (Span(5, 10, "NAME", 1.0),), "query/identifying")
    person = LabelledText("Quist is well", (Span(0, 5, "NAME", 1.0),), "names/Korean")
    texts = [judged(NAME), judged(truth=clean), judged(span(5, 10), truth=asking), judged(span(0, 5), truth=person)]
    result = evaluation.figures(texts)
    assert result["notes"]["recall"] == 0.8
    assert result["notes"]["names_whole"] == 1.0
    assert result["notes"]["without_leak"] == 0.0
    assert result["queries"]["recall"] == 1.0
    assert result["queries"]["over_redaction"] == 0.0
    assert result["names"]["by_origin"]["Korean"]["recall"] == 1.0
    assert json.loads(json.dumps(result))["notes"]["count"] == 1
    printed = evaluation.table(result)
    assert "recall" in printed
    assert "Korean" in printed


def test_errors_are_listed_worst_first_with_the_words_around_them():
    report = evaluation.error_report([judged(NAME), judged(span(0, 2)), judged(NAME, DAY)])
    assert report.index("- NAME") < report.index("- DATE         Dr. Ada Quist on [[3/4]].")
    assert report.count("== note/x") == 2


def test_patterns_alone_find_what_has_a_shape_and_no_name():
    text = join([Piece("Quist", "NAME"), Piece(", MRN: "), Piece("00-1234567", "MRN")], "note/x")
    (result,) = evaluation.by_patterns([text])
    assert [(found.label, text.text[found.start : found.end]) for found in result.predicted] == [("MRN", "00-1234567")]


def test_specialist_is_judged_through_the_engine_and_the_task(tmp_path):
    """A head whose bias always says "begins a name" must redact every word of every text."""
    vocabulary = tmp_path / "vocab.txt"
    vocabulary.write_text("\n".join(["[PAD]", "[UNK]", "[CLS]", "[SEP]", "dr", ".", "quist"]) + "\n")
    base_file = tmp_path / "base.gguf"
    base_file.write_bytes(b"any file will do for the echo backend")
    digest = sha256_of_file(base_file)
    base = BaseModel("echo", base_file, digest, vocabulary, "0" * 64, "0" * 64, StorageType.BF16)
    manifest = Manifest(
        id="always-a-name",
        version="0.1.0",
        task=Task.TAG,
        name="Always a name",
        summary="",
        labels=("NAME",),
        base=Base(name="echo", weights_sha256="0" * 64, vocabulary_sha256="0" * 64),
        licence="Apache-2.0",
        created="2026-01-01",
    )
    head = Head("token", 0, None, None, np.zeros((384, 3), np.float32), np.array([0, 9, 0], np.float32))
    subject = Subject(manifest, Adapter("key", None, None, head), base)
    config = EngineConfig(backend="echo", threads=1)
    texts = [NOTE, LabelledText("  ", (), "note/blank")]
    first, blank = asyncio.run(evaluation.by_specialist(texts, subject, config))
    assert evaluation.total_counts([first]) == Counts(found=10, missed=0, wrong=4)
    assert blank.predicted == ()


def test_missing_specialist_file_and_missing_data_are_said_and_end_with_one(tmp_path, capsys):
    data = ["--data", str(tmp_path)]
    assert evaluation.main([*data, "--file", str(tmp_path / "none.gguf"), "--base", str(tmp_path)]) == 1
    assert "none.gguf" in capsys.readouterr().err
    assert evaluation.main([*data, "--patterns-only"]) == 1
    assert "name_lists" in capsys.readouterr().err
