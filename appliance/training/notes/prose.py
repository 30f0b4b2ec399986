"""Cleaning other people's prose, so that nothing in it identifies anybody without being marked.

Owns: which sentences of a carrier note, abstract or query may be used, and the slots (`{doctor}`, `{date}`) that
replace what identifies. A sentence that holds a capitalised word the lexicon does not know is dropped: an unlabelled
name in the training text teaches the tagger to miss names, while a lost sentence costs nothing.

>>> lexicon = Lexicon.build(["he saw he lives in"] * 9, ())
>>> clean_carrier("He saw Dr. Kumar on 10/13/92. He lives in Zanesville.", lexicon)
'He saw Dr. {doctor} on {date}.'
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass

from appliance.training.notes import word_lists

_MONTH = r"(?:January|February|March|April|May|June|July|August|September|October|November|December)"
_GREAT_AGE = r"(?:9\d|1[01]\d)"
_DATE = re.compile(
    r"\b(?:\d{1,2}/\d{1,2}/\d{2,4}|\d{1,2}-\d{1,2}-\d{2,4}|\d{1,2}/\d{4}"
    rf"|{_MONTH},? \d{{1,2}}(?:st|nd|rd|th)?(?:,? \d{{4}})?|{_MONTH} (?:of )?\d{{4}}"
    rf"|\d{{1,2}} {_MONTH}(?:,? \d{{4}})?)\b"
)
_MONTH_ALONE = re.compile(rf"\b(in|since|of|last|until|by|early|late|mid) {_MONTH}\b(?! \d)")
_TITLED = re.compile(
    r"\b(Drs?|Doctor|Mr|Mrs|Ms|Miss)\b(\.?) ([A-Z][\w'-]*\.?(?: [A-Z][\w'-]+)?)(?=[\s,.;:)'’]|$)",
)
_OLD = re.compile(rf"\b{_GREAT_AGE}(?=(?:-| )(?:year|y\.?/?o))")
_ORGANISATION = (
    "UIHC|CVS|Fed Ex|Ex|Access|Universit\\w+|College|Hospital|Center|Clinic|Institute|School|Children's"
    "|Department|Network|Sample|Services|Organization|Foundation|Association|Society|Ministry|Trust"
)
_STILL_IDENTIFIES = re.compile(
    "|".join(
        (
            rf"\b{_MONTH}\b",
            r"\d[/-]\d{1,2}[/-]\d",
            r"\bon \d{1,2}/\d",
            r"\b(?:0?[1-9]|1[0-2])/(?:0\d|[2-9]\d)\b",  # month and year; a blood pressure is higher
            r"\b\d{4}/\d{4}\b",
            r"\b(?:the|on) \d+(?:st|nd|rd|th) of\b",
            r"\b\d{5,}\b",
            r"@|www|http|[{}<>_*#]",
            r"\b(?:A|X)[BXYZ]+C?D?\b",  # "ABC Store", "XYZ": what the publisher put for a name
            rf"(?<!^)\b(?:{_ORGANISATION})\b",
            rf"\b{_GREAT_AGE}s\b|\b{_GREAT_AGE}[- ]y|\bnineties\b|\bninety\b",
            rf"\b(?:turn\w*|age|aged|age of|aged of|approaching|almost|nearly) {_GREAT_AGE}\b",
            r"\bDrs?\b|\bM(?:r|rs|s)\b",
        )
    )
)
_SENTENCE_END = re.compile(r"(?<=[.?!])(?<!\bDr\.)(?<!\bMr\.)(?<!\bMs\.)(?<!\bMrs\.)(?<!\bDrs\.)\s+(?=[A-Z0-9•{])")
_WORD = re.compile(r"[A-Za-zÀ-ɏ][A-Za-zÀ-ɏ'’]*")
_QUERY_STOP = re.compile(
    r"\b(?:january|february|march|april|june|july|august|september|october|november|december|jan|feb|mar|apr|jun|jul"
    r"|aug|sep|sept|oct|nov|dec|[a-z]+day|\d+(?:st|nd|rd|th))\b|\d{4}|\d[/-]\d|@|www"
)


@dataclass(frozen=True, slots=True)
class Lexicon:
    """Words seen in lower case (with counts), acronyms, known capitalised words, and names to distrust."""

    lower: Counter[str]
    acronyms: Counter[str]
    proper: frozenset[str]
    names: frozenset[str]

    @classmethod
    def build(cls, texts: Iterable[str], names: Iterable[str]) -> Lexicon:
        """From the prose itself: a word that also occurs in lower case is no name (unless it is on the name lists)."""
        lower: Counter[str] = Counter()
        acronyms: Counter[str] = Counter()
        for text in texts:
            for word in _WORD.findall(text):
                if word.islower():
                    lower[word] += 1
                elif word.isupper() and len(word) > 1:
                    acronyms[word] += 1
        words = word_lists.vocabulary()
        slots = (
            "brand",
            "device",
            "eponym",
            "sign",
            "state",
            "weekday",
            "holiday",
            "ethnic",
            "faith",
            "micro",
            "payer",
        )
        proper = frozenset(w for slot in (*slots, "language") for entry in words[slot] for w in _WORD.findall(entry))
        return cls(lower, acronyms, proper | {"I", "A", "English"}, frozenset(names))

    def common(self, word: str) -> bool:
        """Whether a lower-case word is an ordinary one."""
        count = self.lower[word]
        return count >= 20 or (count >= 3 and word not in self.names)

    def knows(self, word: str, *, first: bool) -> bool:
        """Whether a word as written can stand in a text without identifying anybody."""
        bare = re.sub(r"['’]s?$", "", word)
        if bare.islower() or len(bare) == 1 or bare in self.proper:
            return True
        low = bare.casefold()
        if bare.isupper() and len(bare) <= 6:
            return self.acronyms[bare] >= 3 or self.common(low)
        return self.common(low) if first else low not in self.names and self.lower[low] >= 3


def sentences(text: str) -> list[str]:
    """Split after full stops, but not after "Dr."."""
    return _SENTENCE_END.split(text)


def mark_patient(note: str, given: str, family: str) -> str:
    """A note about a known patient with `{patient}` and the like where the name stood."""
    if given and family:
        note = re.sub(rf"\b{given} {family}\b", "{patient}", note, flags=re.IGNORECASE)
        note = re.sub(r"\b(Mr|Mrs|Ms|Miss)(\.?) \{patient\}", r"\1\2 {patient_full}", note)
    if family:
        note = re.sub(rf"\b{family.title()}\b", "{patient_last}", note)
    if given:
        note = re.sub(rf"\b{given.title()}\b", "{patient_first}", note)
    return note


def clean_carrier(note: str, known: Lexicon) -> str:
    """The note with slots for what identifies and without the sentences one cannot be sure of; may be empty."""
    lines = [_clean_line(line, known) for line in note.splitlines()]
    return re.sub(r"\n{3,}", "\n\n", "\n".join(line for line in lines if line is not None)).strip()


def _clean_line(line: str, known: Lexicon) -> str | None:
    if not line.strip():
        return ""
    if line.isupper() and len(line) < 50 and all(known.common(w.casefold()) for w in _WORD.findall(line)):
        return line
    kept = [slotted for s in sentences(line) if (slotted := _slotted(s, known)) is not None]
    return " ".join(kept) if kept else None


def _slotted(sentence: str, known: Lexicon) -> str | None:
    marked = _DATE.sub("{date}", sentence)
    marked = _MONTH_ALONE.sub(r"\1 {month}", marked)
    marked = _OLD.sub("{age90}", marked)
    marked = _TITLED.sub(_title_slot, marked)
    rest = re.sub(r"\b(?:Drs?|Doctor|Mr|Mrs|Ms|Miss)\.? (?=\{)|\{\w+\}", " ", marked)
    return marked if _clean(rest, known) else None


def _title_slot(match: re.Match[str]) -> str:
    title, dot, name = match.groups()
    slot = "{doctor}" if title.startswith("D") else "{relative_last}"
    return f"{title}{dot} {slot}" + ("." if name.endswith(".") else "")


def _clean(sentence: str, known: Lexicon) -> bool:
    if _STILL_IDENTIFIES.search(sentence):
        return False
    words = _WORD.findall(sentence)
    return all(known.knows(word, first=index == 0) for index, word in enumerate(words))


def clean_sentences(text: str, known: Lexicon) -> list[str]:
    """Sentences of a paper that hold nothing like an identifier."""
    stripped = (sentence.strip() for sentence in sentences(text))
    return [s for s in stripped if 30 <= len(s) <= 500 and _clean(s, known)]


def clean_query(query: str, known: Lexicon) -> bool:
    """Whether a short question mentions no name, place or date."""
    low = query.casefold()
    if not 8 <= len(query) <= 160 or _QUERY_STOP.search(low) or not query.isprintable():
        return False
    return all((known.lower[word] >= 2 and known.common(word)) or len(word) == 1 for word in _WORD.findall(low))


def detokenise(block: str) -> str:
    """A sentence of a token-per-line file as it was printed, nearly."""
    text = " ".join(line.split("\t")[0] for line in block.splitlines() if line.strip())
    text = re.sub(r" ([.,;:?!)\]%])", r"\1", text)
    text = re.sub(r"([(\[]) ", r"\1", text)
    return re.sub(r" (['’]) ?(s?)\b", r"\1\2", re.sub(r" ([-/]) ", r"\1", text))
