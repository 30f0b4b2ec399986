"""Guaranteed here: an entity counts if its label and both of its ends are right, a label that a collection does not
mark counts nowhere there, and prose and tokens are judged apart. Spans by hand."""

from appliance.training.collections.biomedical import TaggedText
from appliance.training.evaluate_tagger import Tagged, evaluations_of, metrics
from appliance.types import Span

TEXT = "aspirin for gout and asthma"


def spans(*words: tuple[str, str]) -> tuple[Span, ...]:
    return tuple(Span(TEXT.index(word), TEXT.index(word) + len(word), label, 1.0) for word, label in words)


TRUE = spans(("aspirin", "Chemical"), ("gout", "Disease"), ("asthma", "Disease"))


def tagged(*marked: tuple[str, str], unmarked: tuple[str, ...] = (), group: str = "any, prose") -> Tagged:
    true = tuple(span for span in TRUE if span.label not in unmarked)
    return Tagged(TaggedText(TEXT, true, unmarked), spans(*marked), group)


def test_whole_entities_with_their_label_count() -> None:
    found = metrics([tagged(("aspirin", "Chemical"), ("gout", "Disease"), ("for gout", "Disease"))])
    assert (found["Chemical_f1"], found["Disease_precision"], found["Disease_recall"]) == (1.0, 0.5, 0.5)
    assert found["Disease_f1"] == 0.5
    wrong_label = metrics([tagged(("aspirin", "Disease"))])
    assert (wrong_label["Chemical_recall"], wrong_label["Disease_precision"]) == (0.0, 0.0)


def test_a_label_that_nobody_marked_counts_nowhere() -> None:
    found = metrics([tagged(("aspirin", "Chemical"), ("gout", "Disease"), unmarked=("Chemical",))])
    assert not any(name.startswith("Chemical") for name in found)
    assert (found["Disease_precision"], found["Disease_recall"]) == (1.0, 0.5)


def test_the_interval_holds_the_figure() -> None:
    several = [tagged(("gout", "Disease")) for _ in range(20)] + [tagged() for _ in range(20)]
    found = metrics(several)
    assert found["Disease_f1_low"] < found["Disease_f1"] < found["Disease_f1_high"]


def test_each_collection_is_stated_as_prose_and_as_tokens() -> None:
    groups = ("BC5CDR, prose", "BC5CDR, tokens", "NCBI Disease, prose")
    stated = evaluations_of([tagged(("gout", "Disease"), group=group) for group in groups], "held_back")
    assert tuple(one.name for one in stated) == groups
    assert all(one.items == 1 and "evaluate_tagger" in one.command for one in stated)
