"""Kinds of note, put together from templates, carriers and clean prose.

Owns: the shape of each kind and how often it occurs. One function per kind, from a case to pieces.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from appliance.training.notes import prose, word_lists
from appliance.training.notes.injection import inject
from appliance.training.notes.noise import lower
from appliance.training.notes.pieces import Piece
from appliance.training.notes.slots import Case, fill, fill_slots

Pieces = list[Piece]
Build = Callable[[Case], Pieces]
_BREAK = Piece("\n\n")


def _one(section: str, case: Case) -> Pieces:
    return fill(case.rng.choice(word_lists.templates()[section]), case)


def _paragraph(case: Case, length: int, identified: float, negative: str = "negative") -> Pieces:
    pieces: Pieces = []
    for index in range(length):
        sentence = _one("sentence", case) if case.rng.random() < identified else _unidentified(case, negative)
        pieces += [*([Piece(" ")] if index else []), *sentence]
    return pieces


def _unidentified(case: Case, section: str) -> Pieces:
    """A sentence from a template or, as often, a real one: templates alone would be learned by heart."""
    roll = case.rng.random()
    if roll < 0.5:
        return _one(section, case)
    return [Piece(case.rng.choice(case.sources.clean_sentences if roll < 0.8 else case.sources.negatives))]


def _sections(case: Case, count: int, identified: float) -> Pieces:
    pieces: Pieces = []
    for title in case.rng.sample(word_lists.templates()["subhead"], count):
        joint = case.rng.choice((":\n", "\n", ": ", "\n\n", ":\n- "))
        pieces += [_BREAK, Piece(title + joint), *_paragraph(case, case.rng.randint(1, 6), identified)]
    return pieces


def report(case: Case) -> Pieces:
    """A whole note: header, opening, sections, footer."""
    rng = case.rng
    pieces = [
        *_one("header", case),
        _BREAK,
        *_one("opening", case),
        Piece(" "),
        *_paragraph(case, rng.randint(1, 5), 0.4),
    ]
    pieces += _sections(case, rng.randint(1, 6), rng.uniform(0.1, 0.5))
    if rng.random() < 0.75:
        pieces += [_BREAK, *_one("footer", case)]
    return pieces


def carrier(case: Case) -> Pieces:
    """A real note without its identifiers, with new ones put in between its sentences."""
    rng = case.rng
    text = inject(rng.choice(case.sources.carriers), rng, share=rng.choice((0.0, 0.15, 0.3, 0.5)))
    pieces: Pieces = []
    if rng.random() < 0.6:
        pieces += [*_one("header", case), _BREAK]
    for index, line in enumerate(text.split("\n")):
        if index:
            pieces.append(Piece("\n"))
        for position, sentence in enumerate(prose.sentences(line)):
            pieces += [*([Piece(" ")] if position else []), *fill_slots(sentence, case)]
            if rng.random() < 0.07 and sentence.endswith("."):
                pieces += [Piece(" "), *_one("sentence", case)]
    if rng.random() < 0.5:
        pieces += [_BREAK, *_one("footer", case)]
    return pieces


def plain_carrier(case: Case) -> Pieces:
    """A passage of a real note, with identifiers only in places that the prose itself offers."""
    rng = case.rng
    lines = rng.choice(case.sources.carriers).split("\n\n")
    start = rng.randrange(len(lines))
    text = "\n\n".join(lines[start : start + rng.randint(1, 4)])
    return fill_slots(inject(text, rng, share=rng.choice((0.0, 0.0, 0.2, 0.5))), case)


def abstract(case: Case) -> Pieces:
    """Sentences of papers: prose of every specialty that identifies nobody."""
    count = case.rng.randint(1, 5)
    start = case.rng.randrange(max(1, len(case.sources.negatives) - count))
    return [Piece(" ".join(case.sources.negatives[start : start + count]))]


def negative_note(case: Case) -> Pieces:
    """Clinical shorthand full of things that look like identifiers and are not."""
    pieces = _paragraph(case, case.rng.randint(1, 7), 0.0)
    return [*pieces, *_sections(case, case.rng.randint(1, 2), 0.0)] if case.rng.random() < 0.3 else pieces


def short_note(case: Case) -> Pieces:
    """A message, a line of a chart, a fax cover, an HL7 segment."""
    return _one("short", case)


def header_only(case: Case) -> Pieces:
    """A header or a footer alone, or both, as on a separate page."""
    first = _one(case.rng.choice(("header", "footer")), case)
    return first if case.rng.random() < 0.6 else [*first, Piece("\n"), *_one("footer", case)]


def sentences(case: Case) -> Pieces:
    """A few sentences, identified and not, in no section."""
    return _paragraph(case, case.rng.randint(1, 5), 0.6)


def finance(case: Case) -> Pieces:
    """Messages and records of banks and insurers."""
    pieces: Pieces = []
    for index in range(case.rng.randint(1, 4)):
        section = "finance" if case.rng.random() < 0.65 else "finance_negative"
        pieces += [*([Piece(case.rng.choice((" ", "\n")))] if index else []), *_one(section, case)]
    return pieces


def query_clean(case: Case) -> Pieces:
    """A short question that identifies nobody."""
    if case.rng.random() < 0.12:
        return [Piece(case.rng.choice(case.sources.queries))]
    return _typed(fill(case.rng.choice(word_lists.queries()["clean"]), case), case.rng)


def query_identified(case: Case) -> Pieces:
    """A short question that does."""
    return _typed(fill(case.rng.choice(word_lists.queries()["identified"]), case), case.rng)


def _typed(pieces: Pieces, rng: random.Random) -> Pieces:
    """People who search seldom reach for the shift key, and some are polite."""
    if rng.random() < 0.1:
        pieces = [Piece(rng.choice(("please: ", "quick question, ", "hi, ", "pls ", "Question: "))), *pieces]
    if rng.random() < 0.12:
        pieces = [*pieces, Piece(rng.choice(("?", " please", " thanks", " asap", "??", ".", " (urgent)")))]
    return lower(pieces, rng) if rng.random() < 0.35 else pieces


KINDS: tuple[tuple[str, Build, float], ...] = (
    ("report", report, 0.15),
    ("carrier", carrier, 0.12),
    ("plain_carrier", plain_carrier, 0.07),
    ("abstract", abstract, 0.08),
    ("negative_note", negative_note, 0.09),
    ("short_note", short_note, 0.09),
    ("header", header_only, 0.05),
    ("sentences", sentences, 0.08),
    ("finance", finance, 0.05),
    ("query_clean", query_clean, 0.26),
    ("query_identified", query_identified, 0.09),
)


def draw_kind(rng: random.Random) -> tuple[str, Build]:
    """A kind, as often as its share says."""
    name, build, _share = rng.choices(KINDS, weights=[share for _, _, share in KINDS])[0]
    return name, build
