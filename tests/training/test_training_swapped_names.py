"""The names that fairness is measured with are on the held-back side of the split: no tagger was trained on them."""

from appliance.specialists.evaluation.swap_names import names_by_origin
from appliance.training.held_back.names import held_back


def test_no_name_of_the_fairness_lists_was_trained_on():
    for origin, names in names_by_origin().items():
        for listed in (names.given, names.family):
            assert set(held_back(listed)) == set(listed), origin
