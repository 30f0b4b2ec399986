"""Held-back parts become labelled lines that an evaluation reads, the same lines every time."""

import io

from appliance.specialists.evaluation.gold import GoldBounds, read_gold
from appliance.training.collections.biomedical import Sentence, text_of
from appliance.training.gold import sample, spans_of, write
from appliance.types import Task
from tests.specialists.test_specialists_evaluation_gold import manifest

BOUNDS = GoldBounds(items_max=100, line_bytes_max=1000, text_chars_max=1000)


def test_sample_keeps_the_order_and_repeats_itself():
    lines = [{"text": str(number)} for number in range(50)]
    chosen = sample(lines, 10)
    assert chosen == sample(iter(lines), 10)
    assert [int(line["text"]) for line in chosen] == sorted(int(line["text"]) for line in chosen)
    assert sample(lines, 500) == lines


def test_lines_of_a_tagger_are_read_back_by_an_evaluation(tmp_path):
    sentence = Sentence(
        ("Aspirin", "for", "back", "pain", "."), ("B-Chemical", "O", "B-Disease", "I-Disease", "O"), "x"
    )
    text = text_of([sentence], spaced=False)
    write(tmp_path / "new" / "biomed-ner.jsonl", [spans_of(text.text, text.spans)])
    content = (tmp_path / "new" / "biomed-ner.jsonl").read_bytes()
    (item,) = read_gold(io.BytesIO(content), manifest(Task.TAG, labels=("Chemical", "Disease")), BOUNDS)
    assert [(text.text[span.start : span.end], span.label) for span in item.spans] == [
        ("Aspirin", "Chemical"),
        ("back pain", "Disease"),
    ]
