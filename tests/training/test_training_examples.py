"""Guaranteed here: every labelled character lands on a token of its class, windows and padding carry no loss where they
must not, batches stay within their size and lose no window, and replaced pieces stay inside the names."""

from dataclasses import dataclass

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.errors import ConfigInvalid
from appliance.specialists.tasks.bio import decode
from appliance.specialists.tokenization import WordPiece
from appliance.training.examples import (
    IGNORED_CLASS,
    Encoding,
    PieceReplacement,
    batches,
    bio_classes,
    examples_of,
)
from appliance.training.recipe import Augmentation, read_recipe
from appliance.training.scores import score_spans
from appliance.types import Span

LETTERS = "abcdefghijklmnopqrstuvwxyz0123456789"
VOCABULARY = ("[PAD]", "[UNK]", "[CLS]", "[SEP]", *LETTERS, *(f"##{letter}" for letter in LETTERS), *"-/.,:")
WORDPIECE = WordPiece.from_tokens(VOCABULARY)
LABELS = ("NAME", "DATE")
ENCODING = Encoding(WORDPIECE, LABELS, window_tokens=32, overlap_tokens=8)


@dataclass(frozen=True)
class Labelled:
    text: str
    spans: tuple[Span, ...] = ()
    unmarked: tuple[str, ...] = ()


def span(text: str, part: str, label: str) -> Span:
    return Span(text.index(part), text.index(part) + len(part), label, 1.0)


def one_hot(classes: np.ndarray) -> np.ndarray:
    return np.eye(1 + 2 * len(LABELS), dtype=np.float32)[classes]


@st.composite
def labelled(draw: st.DrawFn) -> Labelled:
    """Words with some of them labelled, spans of one or two words."""
    words = draw(st.lists(st.text("ab1.-é", min_size=1, max_size=6), min_size=1, max_size=40))
    text, spans, start = "", [], 0
    for word in words:
        begin = len(text)
        text += word + " "
        if begin >= start and draw(st.booleans()):
            spans.append(Span(begin, begin + len(word), draw(st.sampled_from(LABELS)), 1.0))
    return Labelled(text, tuple(spans))


def test_classes_name_the_first_token_of_a_span_and_those_that_continue_it() -> None:
    text = "ab cd 1/2 x"
    tokens = WORDPIECE.encode(text)
    classes = bio_classes(tokens, (span(text, "cd", "NAME"), span(text, "1/2", "DATE")), LABELS)
    assert classes.tolist() == [0, 0, 1, 2, 3, 4, 4, 0]


@settings(max_examples=40)
@given(labelled())
def test_decoding_the_classes_gives_the_spans_back(note: Labelled) -> None:
    tokens = WORDPIECE.encode(note.text)
    classes = bio_classes(tokens, note.spans, LABELS)
    found = [
        (int(tokens.starts[piece.first]), int(tokens.ends[piece.end - 1]), LABELS[piece.label])
        for piece in decode(one_hot(classes))
    ]
    assert found == [(item.start, item.end, item.label) for item in note.spans]


@settings(max_examples=40)
@given(labelled())
def test_windows_hold_every_token_and_special_tokens_carry_no_loss(note: Labelled) -> None:
    for example in examples_of(note, ENCODING):
        assert example.token_ids[0] == WORDPIECE.cls_id
        assert example.token_ids[-1] == WORDPIECE.sep_id
        assert example.classes[0] == example.classes[-1] == IGNORED_CLASS
        assert np.all(example.classes[1:-1] >= 0)
        assert len(example.token_ids) == len(example.classes) == len(example.features) <= 32


def test_batches_lose_no_window_and_stay_within_their_size() -> None:
    notes = [Labelled("ab " * count) for count in (0, 1, 2, 5, 9, 40, 3, 3, 17)]
    windows = [example for note in notes for example in examples_of(note, ENCODING)]
    made = list(batches(notes, ENCODING, batch_tokens=64, pool_notes=4, rng=np.random.default_rng(1)))
    assert sum(len(batch.lengths) for batch in made) == len(windows)
    assert sum(int(batch.lengths.sum()) for batch in made) == sum(len(example.token_ids) for example in windows)
    for batch in made:
        assert batch.token_ids.size <= 64
        padding = np.arange(batch.token_ids.shape[1])[None, :] >= batch.lengths[:, None]
        assert np.all(batch.classes[padding] == IGNORED_CLASS)
        assert not batch.token_ids[padding].any()


def test_the_same_seed_makes_the_same_batches() -> None:
    notes = [Labelled("ab " * count) for count in range(12)]
    one, two = (
        [batch.token_ids.tolist() for batch in batches(notes, ENCODING, batch_tokens=64, pool_notes=5, rng=rng)]
        for rng in (np.random.default_rng(3), np.random.default_rng(3))
    )
    assert one == two


def test_replaced_names_keep_their_kind_of_piece_and_nothing_else_changes() -> None:
    text = "dr ab-cd seen 1/2"
    tokens = WORDPIECE.encode(text)
    classes = bio_classes(tokens, (span(text, "ab-cd", "NAME"), span(text, "1/2", "DATE")), LABELS)
    vocabulary = WORDPIECE.tokenizer.get_vocab()
    everything = Augmentation(replaced_names=1.0, replaced_labels=("NAME",))
    replaced = PieceReplacement(everything, LABELS, vocabulary, np.random.default_rng(0))
    seen = {tuple(replaced.apply(tokens, classes).ids.tolist()) for _ in range(20)}
    assert len(seen) > 10
    names = (classes == 1) | (classes == 2)
    for ids in seen:
        assert np.array_equal(np.array(ids)[~names], tokens.ids[~names])
        pieces = [VOCABULARY[number] for number in np.array(ids)[names]]
        assert [piece.startswith("##") for piece in pieces] == [False, True, False, False, True]
        assert pieces[2] == "-"
    nothing = PieceReplacement(Augmentation(), LABELS, vocabulary, np.random.default_rng(0))
    assert np.array_equal(nothing.apply(tokens, classes).ids, tokens.ids)


def test_words_outside_are_replaced_whole_and_names_are_not() -> None:
    text = "dr ab-cd seen 1/2 well"
    tokens = WORDPIECE.encode(text)
    classes = bio_classes(tokens, (span(text, "ab-cd", "NAME"), span(text, "1/2", "DATE")), LABELS)
    everything = Augmentation(replaced_others=1.0)
    replaced = PieceReplacement(everything, LABELS, WORDPIECE.tokenizer.get_vocab(), np.random.default_rng(0))
    ids = replaced.apply(tokens, classes).ids
    assert np.array_equal(ids[classes > 0], tokens.ids[classes > 0])
    changed, before = ([VOCABULARY[number] for number in values[classes == 0]] for values in (ids, tokens.ids))
    assert changed != before
    assert [piece.startswith("##") for piece in changed] == [piece.startswith("##") for piece in before]


def test_scores_count_visible_characters_whatever_the_label() -> None:
    text = "ab cd ef"
    true = (Span(0, 5, "NAME", 1.0),)
    score = score_spans([(text, true, (Span(0, 2, "DATE", 1.0), Span(6, 8, "NAME", 1.0))), ("x y", (), ())])
    assert (score.recall, score.precision) == (0.5, 0.5)
    assert (score.notes_without_leak, score.clean_notes_touched) == (0.5, 0.0)
    assert score.recall_of == {"NAME": 0.5}
    assert score_spans([(text, true, (Span(0, 2, "NAME", 1.0), Span(3, 5, "NAME", 1.0)))]).recall == 1.0


def test_the_recipe_of_the_bundled_de_identifier_is_valid(request: pytest.FixtureRequest) -> None:
    path = request.config.rootpath / "appliance" / "training" / "recipes" / "phi-deid.toml"
    read = read_recipe(path)
    assert (read.recipe.id, len(read.recipe.labels)) == ("phi-deid", 19)
    assert len(read.digest) == 64
    assert all(source.licence and source.attribution for source in read.recipe.sources)


@pytest.mark.parametrize("content", ["", "id = 3", "id = [", "surprise = 1"])
def test_a_recipe_that_is_none_is_refused_by_its_file_name(tmp_path, content: str) -> None:
    path = tmp_path / "recipe.toml"
    path.write_text(content)
    with pytest.raises(ConfigInvalid, match=r"recipe\.toml"):
        read_recipe(path)
