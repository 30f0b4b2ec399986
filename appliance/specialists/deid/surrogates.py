"""Realistic replacements: one original, one surrogate, all through a document, and never the original. Pure.

Choices come from HMAC-SHA-256 under a random seed per document, so that surrogates of two documents say nothing about
each other and the seed, thrown away, makes them irreversible. Numbers keep their format; telephone numbers, addresses
of the Internet and social security numbers come from ranges that belong to nobody.

>>> plan = Surrogates(b"0" * 32, names=("Margaret O'Neill",), dates=())
>>> plan.of("SSN", "078-05-1120")[0], len(plan.of("MRN", "A-12345"))
('9', 7)
"""

from __future__ import annotations

import hmac
import re
from collections.abc import Sequence

from appliance.specialists.deid.lexicon import STATE_CODES, STATES
from appliance.specialists.deid.persons import Mention, normal_form, parse
from appliance.specialists.deid.surrogate_dates import WEEKS_MAX, WEEKS_MIN, shift, writes_day_first
from appliance.specialists.deid.surrogate_words import FAMILY_NAMES, GIVEN_NAMES, ORGANISATION_NAMES, STREETS, TOWNS

SEED_BYTES_MIN = 16
ATTEMPTS_MAX = 16
_ORGANISATION_KINDS = frozenset(
    """hospital hospitals clinic clinics medical center centre health healthcare system university college school
    pharmacy laboratory laboratories labs lab bank church nursing home rehab rehabilitation inc llc ltd corp corporation
    group associates of regional general memorial unit ward department foundation services hospice care insurance
    company co the and institute society trust surgery practice physicians imaging radiology cardiology oncology
    pediatrics orthopedics dental community county veterans affairs urgent emergency icu micu sicu nicu ed er high
    elementary middle academy prison jail shelter store market restaurant hotel""".split()
)
_STREET_KINDS = re.compile(
    r"\b(?:street|st|avenue|ave|boulevard|blvd|road|rd|lane|ln|drive|dr|court|ct|place|pl|terrace|ter|parkway|pkwy|"
    r"highway|hwy|circle|cir|way|square|sq|trail|trl|loop|route|box|crescent|close|plaza|row|walk|apt|apartment|suite|"
    r"ste|unit|floor|fl|room|rm|bldg|building)\b",
    re.IGNORECASE,
)
_STREET = re.compile(
    r"(?P<number>\s{0,4}\d[\w-]{0,8}\s{1,2})(?P<name>[^\d,\n]{1,60}?)"
    rf"(?P<kind>\s{{1,2}}{_STREET_KINDS.pattern}.{{0,60}})",
    re.IGNORECASE | re.DOTALL,
)
_FILE_ENDING = re.compile(r"\.(?:jpe?g|png|heic|tiff?|bmp|dcm|pdf)$", re.IGNORECASE)
_LETTERS = "ABCDEFGHJKLMNPRSTUVWXYZ"


class Surrogates:
    """The surrogates of one document. Holds the seed and the names already given; make one per document."""

    def __init__(self, seed: bytes, *, names: Sequence[str], dates: Sequence[str]) -> None:
        """`names` and `dates`: every original of the document, so that none is chosen as a surrogate."""
        if len(seed) < SEED_BYTES_MIN:
            raise ValueError(f"a surrogate seed has at least {SEED_BYTES_MIN} bytes, this one {len(seed)}")
        self._seed = seed
        weeks = WEEKS_MIN + self._number("weeks", "") % (WEEKS_MAX - WEEKS_MIN + 1)
        self._days = 7 * weeks * (1 if self._number("direction", "") % 2 else -1)
        self._day_first = writes_day_first(dates)
        self._mentions = {name: parse(name) for name in names}
        self._originals = {word.normal for mention in self._mentions.values() for word in mention.words}
        self._parts: dict[str, str] = {}
        self._full: dict[tuple[int, str], str] = {}

    def of(self, label: str, original: str, person: int = 0) -> str | None:
        """The surrogate of `original`; None where nothing of it could be replaced (the caller writes the label)."""
        if label == "NAME":
            made: str | None = self._name(original, person)
        elif label == "DATE":
            made = shift(original, self._days, day_first=self._day_first)
        elif label == "AGE":
            made = self._age(original)
        elif label == "LOCATION":
            made = self._place(original)
        elif label == "ORGANIZATION":
            made = self._organisation(original)
        else:
            made = self._identifier(label, original)
        unchanged = made is None or made.casefold() == original.casefold()
        return None if unchanged else made

    def learn(self, mention_text: str, person: int) -> None:
        """Tell which person bears the full words of a mention, so that initials of that person agree with them."""
        for word in self._mention(mention_text).words:
            if word.borne and len(word.normal) > 1:
                self._full.setdefault((person, word.normal[0]), word.normal)

    # Names

    def _mention(self, text: str) -> Mention:
        return self._mentions.get(text) or parse(text)

    def _name(self, original: str, person: int) -> str:
        mention = self._mention(original)
        pieces, place = [], 0
        for word in mention.words:
            pieces.append(original[place : word.start])
            surface = original[word.start : word.end]
            pieces.append(self._name_word(surface, word.normal, mention, person) if word.borne else surface)
            place = word.end
        pieces.append(original[place:])
        return "".join(pieces)

    def _name_word(self, surface: str, normal: str, mention: Mention, person: int) -> str:
        if len(normal) == 1 and normal.isascii():
            full = self._full.get((person, normal))
            chosen = self._part(full, mention) if full else self._pick("initial", f"{person}/{normal}", GIVEN_NAMES)
            initial = chosen[0]
            if initial.casefold() == normal:  # an initial may fall on itself; a wrong letter hides it better
                initial = _LETTERS[(_LETTERS.find(initial.upper()) + 7) % len(_LETTERS)]
            return _in_case_of(surface, initial)
        return _in_case_of(surface, self._part(normal, mention))

    def _part(self, normal: str, mention: Mention) -> str:
        if normal not in self._parts:
            family = normal == mention.family or (mention.single == normal)
            self._parts[normal] = self._unused(normal, FAMILY_NAMES if family else GIVEN_NAMES)
        return self._parts[normal]

    def _unused(self, normal: str, choices: Sequence[str]) -> str:
        """A name nobody in the document bears and no other original has received, as long as there are any."""
        first = self._number("name", normal) % len(choices)
        rotated = (*choices[first:], *choices[:first])
        free = [name for name in rotated if normal_form(name) not in self._originals]
        taken = set(self._parts.values())
        return next((name for name in free if name not in taken), free[0] if free else rotated[0])

    # Places and organisations

    def _place(self, original: str) -> str:
        pieces = re.split(r"([,\n]\s*)", original)
        return "".join(
            piece if number % 2 else self._place_piece(piece, alone=len(pieces) == 1)
            for number, piece in enumerate(pieces)
        )

    def _place_piece(self, piece: str, *, alone: bool) -> str:
        words = piece.split()
        letters = [word for word in words if word.isalpha()]
        plain = " ".join(letters).casefold()
        if not alone and letters and (plain in STATES or plain in STATE_CODES):
            return self._scrambled("zip", piece, letters=False)
        street = _STREET.fullmatch(piece)
        if street:
            number = self._scrambled("number", street["number"])
            name = _in_case_of(street["name"], self._pick("street", street["name"], STREETS))
            return number + name + self._scrambled("unit", street["kind"], letters=False)
        if not letters:
            return self._scrambled("postcode", piece)  # ZIP, SW1A 1AA
        if any(character.isdigit() for character in piece) and _STREET_KINDS.search(piece):
            return self._scrambled("box", piece, letters=False)
        blank = len(piece) - len(piece.lstrip())
        return piece[:blank] + _in_case_of(piece.strip(), self._pick("town", piece.strip(), TOWNS))

    def _organisation(self, original: str) -> str:
        words = original.split()
        if len(words) == 1 and original.isupper() and len(original) <= 6:
            return self._scrambled("organisation", original)
        kept = len(words)
        while kept and words[kept - 1].strip(".,").casefold() in _ORGANISATION_KINDS:
            kept -= 1
        name = self._pick("organisation", " ".join(words[:kept]) or original, ORGANISATION_NAMES)
        return " ".join([_in_case_of(original, name), *words[kept:]])

    # Numbers

    def _age(self, original: str) -> str | None:
        match = re.search(r"\d{1,3}", original)
        if not match:
            words = ("one", "two", "three", "four", "five", "six", "seven", "eight")
            return _in_case_of(original, f"ninety-{self._pick('age', original, words)}")
        age = int(match[0])
        least, span = (90, 9) if age >= 90 else (max(0, age - 4), 9)
        new = least + self._number("age", match[0]) % span
        new = new + 1 if new == age else new
        return original[: match.start()] + str(new) + original[match.end() :]

    def _identifier(self, label: str, original: str) -> str:
        if label in ("PHONE", "FAX"):
            return self._phone(original)
        if label == "EMAIL":
            person = self._pick("given", original, GIVEN_NAMES), self._pick("family", original, FAMILY_NAMES)
            return _in_case_of(original, ".".join(person).lower() + "@example.org")
        if label == "URL":
            scheme = re.match(r"[a-z]{3,5}://", original, re.IGNORECASE)
            return f"{scheme[0] if scheme else ''}www.example.org/{self._digest('url', original).hex()[:8]}"
        if label == "IP":
            return self._address(original)
        ending = _FILE_ENDING.search(original)
        body = original[: ending.start()] if ending else original
        made = self._scrambled("id", body) + (ending[0] if ending else "")
        if label == "SSN" and re.match(r"\d{3}\D?\d{2}\D?\d{4}$", made):
            return "9" + made[1:]  # no number of the 900s was ever issued
        return made

    def _phone(self, original: str) -> str:
        """A ten-digit number gets exchange 555 and line 01xx, which are reserved for fiction."""
        made = self._scrambled("phone", original, letters=False)
        match = re.match(r"\D{0,3}(?:1[\s.-]{1,2})?\(?(\d{3})\)?\D{0,3}(\d{3})\D{0,3}(\d{2})\d{2}", original)
        abroad = re.match(r"\s{0,4}(?:\+(?!1)\d{2}|0)", original)
        if abroad:
            return original[: abroad.end()] + made[abroad.end() :]
        if match is None:
            return made
        area = str(2 + int(made[match.start(1)]) % 8) + made[match.start(1) + 1 : match.end(1)]
        fields = ((match.span(1), area), (match.span(2), "555"), (match.span(3), "01"))
        made = original[: match.start(1)] + made[match.start(1) :]
        for (start, end), value in fields:
            made = made[:start] + value + made[end:]
        return made

    def _address(self, original: str) -> str:
        digest = self._digest("ip", original)
        if ":" in original:
            return f"2001:db8::{digest[:2].hex()}:{digest[2:4].hex()}"
        block = ("192.0.2", "198.51.100", "203.0.113")[digest[0] % 3]
        return f"{block}.{1 + digest[1] % 254}"

    def _scrambled(self, kind: str, original: str, *, letters: bool = True) -> str:
        """Digit for digit and letter for letter; everything else, and a masking X, as it was."""
        value = "".join(character for character in original.casefold() if character.isalnum())
        masked = value.count("x") > 2
        for attempt in range(ATTEMPTS_MAX):
            stream = iter(self._stream(kind, f"{value}/{attempt}", len(value) + 1))
            made = "".join(
                _exchanged(character, next(stream), letters and not (masked and character in "xX"))
                if character.isalnum()
                else character
                for character in original
            )
            if made != original:
                return made
        return made

    # Choices

    def _digest(self, kind: str, key: str) -> bytes:
        return hmac.digest(self._seed, f"{kind}\0{key}".encode("utf-8", "surrogatepass"), "sha256")

    def _number(self, kind: str, key: str) -> int:
        return int.from_bytes(self._digest(kind, key)[:8], "big")

    def _stream(self, kind: str, key: str, size: int) -> bytes:
        blocks = (self._digest(kind, f"{key}/{block}") for block in range(size // 32 + 1))
        return b"".join(blocks)

    def _pick(self, kind: str, key: str, choices: Sequence[str]) -> str:
        """One of `choices`, the same for the same key, whatever its case; never the key itself."""
        folded = " ".join(key.casefold().split())
        first = self._number(kind, folded) % len(choices)
        chosen = choices[first]
        clashes = chosen.casefold() == folded or normal_form(chosen) in self._originals
        return choices[(first + 1) % len(choices)] if clashes else chosen


def _exchanged(character: str, byte: int, letters: bool) -> str:
    if character.isdigit():
        return str(byte % 10)
    if not letters:
        return character
    new = _LETTERS[byte % len(_LETTERS)]
    return new.lower() if character.islower() else new


def _in_case_of(model: str, word: str) -> str:
    """`word` in the case of `model`: all capitals, no capitals, or as it is."""
    if model.isupper() and len(model) > 1:
        return word.upper()
    return word.lower() if model == model.lower() and model != model.upper() else word
