"""A text in another language is told with the reason and without a word of it; English is not, nor what is short."""

import pytest

from appliance.specialists.language import language_doubts
from appliance.specialists.tokenization import WordPiece

ENGLISH = "The patient denies chest pain and was discharged home on aspirin and metoprolol"
OTHERS = {
    "german": "Die Patientin wurde mit Verdacht auf Lungenentzündung stationär aufgenommen und entlassen",
    "polish": "Przelew został pobrany dwukrotnie i chciałbym otrzymać zwrot pieniędzy na konto",
    "russian": "С меня дважды списали деньги за один перевод, верните их, пожалуйста",
}


@pytest.fixture(scope="module")
def wordpiece(base_model):
    return WordPiece.from_vocab(base_model / "minilm" / "vocab.txt")


@pytest.mark.parametrize("language", list(OTHERS))
def test_a_text_in_another_language_is_told_with_the_reason(wordpiece, language):
    (warning,) = language_doubts([OTHERS[language]], wordpiece)
    assert "does not look like English" in warning and "word pieces a word" in warning
    assert OTHERS[language].split()[1] not in warning


@pytest.mark.parametrize(
    "text", ["我的银行卡在超市被拒绝了", "カードが使えません", "Моя карта", "بطاقتي مرفوضة", "카드 분실"]
)
def test_another_script_is_told_however_short_the_text(wordpiece, text):
    (warning,) = language_doubts([text], wordpiece)
    assert "does not look like English" in warning and text[:3] not in warning


def test_symbols_of_another_script_do_not_make_an_english_text_foreign(wordpiece):
    for text in ("α-β", "TGF-β1, IL-1α und κ-Ketten", "ΔΨm of 5 µV", "Seen by 王 and Иван"):
        assert language_doubts([text], wordpiece) == ()


def test_english_short_and_empty_texts_are_not_remarked_upon(wordpiece):
    for texts in ([ENGLISH], ["geht nicht"], [""], [], ["1234 5678"], [ENGLISH] * 50):
        assert language_doubts(texts, wordpiece) == ()


def test_parts_of_a_request_are_judged_together_and_only_their_beginning(wordpiece):
    sentences = OTHERS["german"].split()
    assert language_doubts(sentences, wordpiece)
    assert language_doubts([ENGLISH * 20, OTHERS["russian"] * 1000], wordpiece) == ()
