"""Text to WordPiece tokens with character offsets into the original text; nothing about models or windows.

    wordpiece = WordPiece.from_vocab(home.models / "minilm" / "vocab.txt")
    tokens = wordpiece.encode("Dr. José Okafor")
    text[tokens.starts[i] : tokens.ends[i]]          # the characters of token i

The normaliser lower-cases, strips accents and drops control characters, so tokens differ from the text; offsets do
not: they count code points of the text as it was given, for any script.
"""

from __future__ import annotations

import unicodedata
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from tokenizers import Tokenizer
from tokenizers.models import WordPiece as WordPieceModel
from tokenizers.normalizers import BertNormalizer
from tokenizers.pre_tokenizers import BertPreTokenizer

from appliance.errors import BaseModelUnavailable

VOCABULARY_BYTES_MAX = 4 * 1024 * 1024
CONTINUATION = "##"  # stands before a piece that is not the first of its word
WORD_CHARS_MAX = 100  # BERT's own bound: a longer word is one unknown token


@dataclass(frozen=True, slots=True)
class Tokens:
    """Tokens of one text without special tokens: ids, and `text[starts[i]:ends[i]]` per token. All (T,) int32.

    Offsets never decrease, and a token is never empty. Two tokens may share a character where one character
    decomposes into several pieces (a Hangul syllable).
    """

    ids: np.ndarray
    starts: np.ndarray
    ends: np.ndarray

    def __len__(self) -> int:
        return int(self.ids.shape[0])


@dataclass(frozen=True, slots=True)
class WordPiece:
    """A vocabulary ready to encode. Safe to share between threads.

    `continues` (size,): whether a token of this id continues the word that the token before it began.
    """

    tokenizer: Tokenizer
    cls_id: int
    sep_id: int
    unknown_id: int
    mask_id: int
    size: int
    continues: np.ndarray

    @classmethod
    def from_vocab(cls, path: Path) -> WordPiece:
        """Read `vocab.txt`, one token a line, the id being the line number.

        Raises `BaseModelUnavailable` when the file is missing or is not a BERT vocabulary.
        """
        return cls.from_tokens(read_vocabulary(path))

    @classmethod
    def from_tokens(cls, vocabulary: tuple[str, ...]) -> WordPiece:
        """The same from a vocabulary in memory."""
        ids = {token: number for number, token in enumerate(vocabulary)}
        missing = [token for token in ("[CLS]", "[SEP]", "[UNK]") if token not in ids]
        if missing:
            raise BaseModelUnavailable(
                f"the vocabulary has no {missing[0]} token, so it does not belong to a BERT model",
                hint="fetch the base model again",
            )
        model = WordPieceModel(ids, unk_token="[UNK]", max_input_chars_per_word=WORD_CHARS_MAX)  # noqa: S106
        tokenizer = Tokenizer(model)
        tokenizer.normalizer = BertNormalizer(
            clean_text=True, handle_chinese_chars=True, strip_accents=True, lowercase=True
        )
        tokenizer.pre_tokenizer = BertPreTokenizer()
        continues = np.array([token.startswith(CONTINUATION) and token != CONTINUATION for token in vocabulary])
        return cls(
            tokenizer,
            ids["[CLS]"],
            ids["[SEP]"],
            ids["[UNK]"],
            ids.get("[MASK]", ids["[UNK]"]),
            len(vocabulary),
            continues,
        )

    def encode(self, text: str) -> Tokens:
        """Tokens of `text` without special tokens. `text` is Unicode without lone surrogates."""
        encoding = self.tokenizer.encode(text, add_special_tokens=False)
        offsets = np.array(encoding.offsets, dtype=np.int32).reshape(-1, 2)
        ends = np.ascontiguousarray(offsets[:, 1])
        if not text.isascii():
            ends = _over_combining_marks(text, ends)
        return Tokens(np.array(encoding.ids, dtype=np.int32), np.ascontiguousarray(offsets[:, 0]), ends)


def read_vocabulary(path: Path) -> tuple[str, ...]:
    """The tokens of a `vocab.txt` in the order of their ids."""
    try:
        with path.open("rb") as file:
            content = file.read(VOCABULARY_BYTES_MAX + 1)
    except OSError as error:
        raise BaseModelUnavailable(
            f"cannot read the vocabulary {path}: {error.strerror}", hint="fetch the base model again"
        ) from None
    try:
        tokens = tuple(content.decode("utf-8").split("\n"))
    except UnicodeDecodeError:
        tokens = ()
    if tokens and tokens[-1] == "":
        tokens = tokens[:-1]  # the file ends with a newline
    if len(content) > VOCABULARY_BYTES_MAX or not tokens or len(set(tokens)) != len(tokens):
        raise BaseModelUnavailable(
            f"{path} is not a vocabulary: one distinct token a line was expected", hint="fetch the base model again"
        )
    return tokens


def _over_combining_marks(text: str, ends: np.ndarray) -> np.ndarray:
    """Ends moved over the combining marks that follow.

    The normaliser drops the accent of a decomposed letter, so the token of "e + acute" would end before the accent;
    replacing that span would leave the accent behind, on whatever comes next.
    """
    extended = ends.copy()
    for position in sorted(set(ends.tolist())):
        stop = position
        while stop < len(text) and unicodedata.category(text[stop]) == "Mn":  # what the normaliser drops
            stop += 1
        if stop > position:
            extended[ends == position] = stop
    return extended
