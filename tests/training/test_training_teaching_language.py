"""Guaranteed here: a table in another language is told from English by its word pieces, with its lines and no text."""

import pytest

from appliance.specialists.tokenization import WordPiece
from appliance.training.teaching.language import language_finding, pieces_per_word

ENGLISH = (
    "I was charged twice for the same transfer and want my money back",
    "The patient denies chest pain and was discharged home on aspirin",
    "Please send the signed copy of the contract before the end of this week",
    "My new card has not arrived although it was sent two weeks ago",
)
OTHERS = {
    "german": "Die Überweisung wurde zweimal abgebucht und ich möchte mein Geld zurückerhalten",
    "spanish": "Me cobraron dos veces la misma transferencia y quiero que me devuelvan el dinero cuanto antes",
    "polish": "Przelew został pobrany dwukrotnie i chciałbym otrzymać zwrot pieniędzy na konto",
    "russian": "С меня дважды списали деньги за один перевод, верните их, пожалуйста",
}


@pytest.fixture(scope="module")
def wordpiece(base_model):
    return WordPiece.from_vocab(base_model / "minilm" / "vocab.txt")


def finding_of(texts, wordpiece):
    return language_finding(texts, list(range(2, 2 + len(texts))), wordpiece)


def test_english_is_not_remarked_upon(wordpiece):
    assert finding_of(ENGLISH * 5, wordpiece) is None
    assert all(pieces_per_word(text, wordpiece) < 1.3 for text in ENGLISH)


@pytest.mark.parametrize("language", list(OTHERS))
def test_a_table_in_another_language_is_flagged_with_the_reason(wordpiece, language):
    finding = finding_of([OTHERS[language]] * 10, wordpiece)
    assert (finding.code, finding.severity) == ("other_language", "warning")
    assert "word pieces a word" in finding.message and OTHERS[language][:20] not in finding.message


def test_a_table_in_a_script_without_spaces_is_flagged_too(wordpiece):
    finding = finding_of(["我的银行卡在超市被拒绝了", "账单金额不正确请退款"] * 5, wordpiece)
    assert (finding.code, finding.severity, finding.lines) == ("other_language", "warning", (2, 3, 4, 5, 6))
    assert "not in Latin letters" in finding.message


def test_some_texts_of_another_language_are_counted_with_their_lines(wordpiece):
    finding = finding_of([*ENGLISH * 4, OTHERS["russian"], OTHERS["german"]], wordpiece)
    assert (finding.code, finding.count, finding.lines) == ("some_other_language", 2, (18, 19))


def test_short_texts_say_nothing_of_their_language(wordpiece):
    assert pieces_per_word("Überweisung fehlgeschlagen", wordpiece) is None
    assert finding_of(["geht nicht", "Karte weg"], wordpiece) is None
