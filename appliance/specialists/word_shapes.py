"""What an uncased encoder cannot see: case, digits, separators, lines. One row of features per token. Pure.

Training and serving call the same function, and a specialist file states the `FEATURE_VERSION` its head was
trained with; a change of any feature, or of their order, needs a new version.

    rows = features(text, tokens)                    # (T, FEATURE_COUNT) float32, values 0..1

Three units around each token are described: its word (a run of letters and digits), its chunk (a run without
white space: "04/12/2021", "O'Brien") and its line. All are counted with prefix sums over character classes, so the
cost is a few array operations per feature whatever the text.
"""

from __future__ import annotations

import unicodedata
from collections.abc import Iterator
from dataclasses import dataclass
from functools import cache

import numpy as np

from appliance.specialists.tokenization import Tokens

FEATURE_VERSION = 1
FEATURE_COUNT = 88
SHAPE_BUCKETS = 12

# Character classes. The order is part of the version: chunk shapes hash it.
OTHER, UPPER, LOWER, CASELESS, DIGIT, MARK, SPACE, TAB, NEWLINE = range(9)
_PUNCTUATION_FROM = 9  # every ASCII punctuation mark is a class of its own from here on
_TITLES = "dr drs mr mrs ms miss mx prof professor rev fr sr sir dame capt sgt lt col nurse hon judge"
_TITLE_WORDS = frozenset(_TITLES.split())
_SHAPE_MULTIPLIER = np.uint64(0x9E3779B97F4A7C15)


@dataclass(frozen=True, slots=True)
class _Runs:
    """Maximal runs of characters for which a mask holds: bounds per character, valid where the mask holds."""

    start: np.ndarray
    stop: np.ndarray


class _Characters:
    """Classes of a text's characters and the counts of each class over any range."""

    def __init__(self, text: str) -> None:
        self.codes = _classes(text)
        self._sums: dict[int, np.ndarray] = {}

    def count(self, kind: int, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        """How many characters of class `kind` lie in each `start:stop`."""
        if kind not in self._sums:
            self._sums[kind] = np.concatenate(([0], np.cumsum(self.codes == kind, dtype=np.int32)))
        sums = self._sums[kind]
        return sums[stop] - sums[start]

    def mark(self, character: str, start: np.ndarray, stop: np.ndarray) -> np.ndarray:
        return self.count(_punctuation_class(character), start, stop) > 0

    def runs(self, mask: np.ndarray) -> _Runs:
        size = mask.shape[0]
        edges = np.flatnonzero(np.diff(mask)) + 1
        bounds = np.concatenate(([0], edges, [size]))
        run = np.searchsorted(bounds, np.arange(size), side="right") - 1
        return _Runs(bounds[run], bounds[run + 1])


def features(text: str, tokens: Tokens) -> np.ndarray:
    """(T, FEATURE_COUNT) float32, C-contiguous. `tokens` are those of exactly this `text`."""
    rows = np.zeros((len(tokens), FEATURE_COUNT), dtype=np.float32)
    if not len(tokens):
        return rows
    characters = _Characters(text)
    starts, ends = tokens.starts.astype(np.int64), tokens.ends.astype(np.int64)
    codes = characters.codes
    word_mask = (codes >= UPPER) & (codes <= MARK)
    words = characters.runs(word_mask)
    # A token that is no word (punctuation, an emoji) is its own one-token word.
    inside = word_mask[starts]
    word_start = np.where(inside, words.start[starts], starts)
    word_stop = np.where(inside, np.maximum(words.stop[starts], ends), ends)
    blank = (codes >= SPACE) & (codes <= NEWLINE)
    chunks = characters.runs(~blank)
    lines = characters.runs(codes != NEWLINE)
    columns: list[np.ndarray] = []
    columns.extend(_token_features(characters, starts, ends, word_start, word_stop))
    columns.extend(_word_features(characters, word_start, word_stop))
    columns.extend(_chunk_features(characters, chunks, starts, word_start, word_stop))
    columns.extend(_line_features(characters, lines, starts))
    columns.extend(_neighbour_features(text, characters, word_start, word_stop))
    columns.extend(_text_features(characters, len(tokens)))
    assert len(columns) == FEATURE_COUNT, f"{len(columns)} features, FEATURE_COUNT says {FEATURE_COUNT}"
    for number, column in enumerate(columns):
        rows[:, number] = column
    return rows


def _token_features(
    characters: _Characters, starts: np.ndarray, ends: np.ndarray, word_start: np.ndarray, word_stop: np.ndarray
) -> Iterator[np.ndarray]:
    """7: where the piece stands in its word, and its own case."""
    upper = characters.count(UPPER, starts, ends)
    lower = characters.count(LOWER, starts, ends)
    digits = characters.count(DIGIT, starts, ends)
    yield starts == word_start
    yield ends >= word_stop
    yield (upper > 0) & (lower == 0)
    yield (upper == 0) & (lower > 0)
    yield characters.codes[starts] == UPPER
    yield digits == ends - starts
    yield characters.codes[starts] >= _PUNCTUATION_FROM


def _word_features(characters: _Characters, start: np.ndarray, stop: np.ndarray) -> Iterator[np.ndarray]:
    """24: case pattern, kinds of characters, lengths."""
    length = stop - start
    upper, lower, digits, caseless = (characters.count(kind, start, stop) for kind in (UPPER, LOWER, DIGIT, CASELESS))
    letters = upper + lower + caseless
    starts_upper = characters.codes[start] == UPPER
    all_caps = (upper > 0) & (lower == 0)
    yield all_caps & (upper == 1) & (length == 1)
    yield all_caps & (upper >= 2) & (upper <= 3)
    yield all_caps & (upper > 3)
    yield starts_upper & (upper == 1) & (lower > 0)
    yield starts_upper & (upper > 1) & (lower > 0)  # McDonald, DeShawn
    yield ~starts_upper & (upper > 0) & (lower > 0)  # vanDyke, iPhone
    yield (lower > 0) & (upper == 0)
    yield caseless > 0
    yield (letters > 0) & (digits > 0)
    only_digits = (digits > 0) & (digits == length)
    yield only_digits
    yield from _buckets(np.where(only_digits, digits, 0), (1, 2, 3, 4, 5, 6, 8, 10))
    yield from _buckets(np.where(letters > 0, length, 0), (1, 2, 3, 5, 8, 12))


def _chunk_features(
    characters: _Characters, chunks: _Runs, starts: np.ndarray, word_start: np.ndarray, word_stop: np.ndarray
) -> Iterator[np.ndarray]:
    """34: what surrounds the word without white space, and the chunk's shape."""
    start, stop = chunks.start[starts], chunks.stop[starts]
    for character in "-/.@:#'_()+*,":
        yield characters.mark(character, start, stop)
    digits = characters.count(DIGIT, start, stop)
    letters = sum(characters.count(kind, start, stop) for kind in (UPPER, LOWER, CASELESS))
    yield (digits > 0) & (letters > 0)
    yield (word_start > start) & (word_stop < stop)
    yield word_start == start
    yield word_stop >= stop
    yield from _buckets(digits, (1, 3, 5, 7, 9, 11))[0:5]
    shapes = _shape_hashes(characters.codes, chunks)[starts] % np.uint64(SHAPE_BUCKETS)
    interesting = stop - start > word_stop - word_start  # a chunk that is one word says nothing new
    for bucket in range(SHAPE_BUCKETS):
        yield interesting & (shapes == np.uint64(bucket))


def _line_features(characters: _Characters, lines: _Runs, starts: np.ndarray) -> Iterator[np.ndarray]:
    """9: headings, label and value, tables."""
    start, stop = lines.start[starts], lines.stop[starts]
    upper, lower = characters.count(UPPER, start, stop), characters.count(LOWER, start, stop)
    yield (upper >= 4) & (lower == 0)
    yield (lower >= 4) & (upper == 0)
    yield upper / np.maximum(upper + lower, 1)
    yield stop - start <= 40
    yield characters.mark(":", start, starts)  # a label stands before it: "Name: ..."
    yield characters.mark("|", start, stop)
    yield characters.count(TAB, start, stop) > 0
    before, after = np.zeros_like(starts), np.zeros_like(starts)
    for kind in (UPPER, LOWER, CASELESS, DIGIT):
        before += characters.count(kind, start, starts)
        after += characters.count(kind, starts, stop)
    yield before == 0
    yield after <= 12


def _neighbour_features(
    text: str, characters: _Characters, word_start: np.ndarray, word_stop: np.ndarray
) -> Iterator[np.ndarray]:
    """12: case of the words before and after, and what separates them."""
    codes = characters.codes
    index = np.cumsum(np.concatenate(([0], np.diff(word_start) != 0)))  # number of the word, per token
    first = np.flatnonzero(np.concatenate(([True], np.diff(word_start) != 0)))
    bounds = list(zip(word_start[first].tolist(), word_stop[first].tolist(), strict=True))
    title = np.array([text[start:stop].lower() in _TITLE_WORDS for start, stop in bounds])
    is_upper = codes[word_start[first]] == UPPER
    is_lower = codes[word_start[first]] == LOWER
    is_digit = codes[word_start[first]] == DIGIT
    full_stop = codes[word_start[first]] == _punctuation_class(".")
    for flags in (is_upper, is_lower, is_digit, title, full_stop):
        yield np.concatenate(([False], flags[:-1]))[index]
    yield (np.concatenate(([False, False], title))[:-2] & np.concatenate(([False], full_stop[:-1])))[index]
    for flags in (is_upper, is_lower, is_digit):
        yield np.concatenate((flags[1:], [False]))[index]
    previous = np.where(word_start > 0, codes[word_start - 1], NEWLINE)
    yield previous == NEWLINE
    gap_before = np.concatenate(([0], word_stop[first][:-1]))[index]
    yield word_start - gap_before >= 2  # columns, list items
    after = np.where(word_stop < codes.shape[0], codes[np.minimum(word_stop, codes.shape[0] - 1)], NEWLINE)
    yield (after >= SPACE) & (after <= NEWLINE)


def _text_features(characters: _Characters, count: int) -> Iterator[np.ndarray]:
    """2: a text without any capital, or without any small letter, says nothing by its case."""
    everything = (np.array([0]), np.array([characters.codes.shape[0]]))
    upper, lower = int(characters.count(UPPER, *everything)[0]), int(characters.count(LOWER, *everything)[0])
    yield np.full(count, upper == 0, dtype=bool)
    yield np.full(count, lower == 0 and upper > 0, dtype=bool)


def _buckets(values: np.ndarray, floors: tuple[int, ...]) -> list[np.ndarray]:
    """One column per floor: values from it to below the next; values under the first floor are in none."""
    bucket = np.searchsorted(np.array(floors), values, side="right") - 1
    return [bucket == number for number in range(len(floors))]


def _shape_hashes(codes: np.ndarray, chunks: _Runs) -> np.ndarray:
    """Per character, a hash of its chunk's shape: the classes in order, each run counted once ("d/d/d", "Ud-d")."""
    size = codes.shape[0]
    changes = np.concatenate(([True], codes[1:] != codes[:-1]))
    changes |= chunks.start == np.arange(size)
    position = np.cumsum(changes)
    rank = (position - position[chunks.start]).astype(np.uint64)
    # Each class is mixed with its rank and summed; uint64 arithmetic wraps by definition.
    mixed = (codes.astype(np.uint64) + np.uint64(1)) * (rank * np.uint64(2) + np.uint64(1)) * _SHAPE_MULTIPLIER
    mixed ^= mixed >> np.uint64(29)
    sums = np.concatenate((np.zeros(1, dtype=np.uint64), np.cumsum(mixed * changes, dtype=np.uint64)))
    total = (sums[chunks.stop] - sums[chunks.start]) * _SHAPE_MULTIPLIER
    return total >> np.uint64(32)


def _classes(text: str) -> np.ndarray:
    """Class per character (N,) uint8."""
    points = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
    table = _ascii_classes()
    codes = table[np.minimum(points, 127)]
    foreign = points > 127
    if foreign.any():
        distinct, inverse = np.unique(points[foreign], return_inverse=True)
        codes[foreign] = np.array([_class_of(chr(point)) for point in distinct.tolist()], dtype=np.uint8)[inverse]
    return codes


@cache
def _ascii_classes() -> np.ndarray:
    return np.array([_class_of(chr(point)) for point in range(128)], dtype=np.uint8)


@cache
def _punctuation_class(character: str) -> int:
    return _PUNCTUATION_FROM + ord(character) - 33


def _class_of(character: str) -> int:
    if character == "\n" or character == "\r":
        return NEWLINE
    if character == "\t":
        return TAB
    if character.isspace():
        return SPACE
    if character.isascii() and character.isprintable() and not character.isalnum():
        return _punctuation_class(character)
    if character.isdecimal():
        return DIGIT
    if character.isupper() or character.istitle():
        return UPPER
    if character.islower():
        return LOWER
    if character.isalpha():
        return CASELESS
    return MARK if unicodedata.category(character).startswith("M") else OTHER
