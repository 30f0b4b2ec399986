"""Names that nobody may ever have borne, spelled the way those of one origin are: letter chains over a list of names.

    chain = Chain.over(("Nguyen", "Tran", "Pham", ...))
    chain.word(rng)                 # "Ngan", "Phuyen": None where a draw came to no usable end

A list of fifty given names teaches a tagger those fifty. What has to be learned is how names of that origin look and
where they stand, so a part of all names in the notes is drawn from here. The chains are of order two: each letter
depends on the two before it (Markov's model of text, as Shannon 1948 used it).
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass

ORDER = 2
LETTERS_MAX = 14
TRIES_PER_NAME = 20  # a chain over few names mostly repeats them
_START, _END = "\x02", "\x03"


@dataclass(frozen=True, slots=True)
class Chain:
    """What may follow two letters, each as often as it was seen."""

    following: dict[str, str]
    seen: frozenset[str]

    @classmethod
    def over(cls, names: Iterable[str]) -> Chain:
        """The chain of these names, without regard to case."""
        following: dict[str, list[str]] = defaultdict(list)
        words = [name.lower() for name in names]
        for word in words:
            padded = _START * ORDER + word + _END
            for place in range(ORDER, len(padded)):
                following[padded[place - ORDER : place]].append(padded[place])
        return cls({key: "".join(letters) for key, letters in following.items()}, frozenset(words))

    def word(self, rng: random.Random) -> str | None:
        """One draw: a new name, or None where it is one of the list, too short or too long."""
        letters = _START * ORDER
        while len(letters) < ORDER + LETTERS_MAX:
            letter = rng.choice(self.following[letters[-ORDER:]])
            if letter == _END:
                word = letters[ORDER:]
                usable = len(word) >= 2 and word not in self.seen and word[-1].isalpha()
                return _capitalised(word) if usable else None
            letters += letter
        return None


def invented(names: Sequence[str], count: int, rng: random.Random, allowed: Callable[[str], bool]) -> tuple[str, ...]:
    """At most `count` new names in the manner of `names`, each once and each `allowed`; fewer where a list is poor."""
    if not names:
        return ()
    chain = Chain.over(names)
    found: dict[str, None] = {}
    for _ in range(count * TRIES_PER_NAME):
        word = chain.word(rng)
        if word is not None and allowed(word):
            found[word] = None
            if len(found) == count:
                break
    return tuple(found)


def _capitalised(word: str) -> str:
    return "".join(
        letter.upper() if place == 0 or word[place - 1] in " -'’" else letter for place, letter in enumerate(word)
    )
