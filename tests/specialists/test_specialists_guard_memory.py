"""What the guard remembers is bounded in amount and time, told apart by text, policy, detector, person and
conversation, and holds no text: what it is asked by is a digest under a key that each process draws anew.
"""

from appliance.config import GuardConfig
from appliance.specialists.guard import Placeholders
from appliance.specialists.guard_memory import GuardMemory, Numbers
from appliance.types import Span

SPANS = (Span(0, 3, "NAME", 1.0), Span(4, 7, "NAME", 1.0))
ANA = Numbers(Placeholders((("NAME", 1, "Ana"),)))


def test_verdict_is_of_one_text_under_one_policy_by_one_detector():
    memory = GuardMemory(GuardConfig())
    key = memory.verdict_key("Ana Bea", "mask", "aa")
    memory.keep_verdict(key, SPANS)
    assert memory.verdict(key) == SPANS
    for other in (("Ana Bea ", "mask", "aa"), ("Ana Bea", "mark", "aa"), ("Ana Bea", "mask", "ab")):
        assert memory.verdict(memory.verdict_key(*other)) is None
    assert GuardMemory(GuardConfig()).verdict_key("Ana Bea", "mask", "aa") != key
    assert b"Ana" not in key and memory.size == 3


def test_numbers_are_of_one_person_after_exactly_these_turns():
    memory = GuardMemory(GuardConfig())
    said = memory.after(memory.conversation("user:1", "aa"), "user", "Ana asks")
    memory.keep_numbers(said, ANA)
    assert memory.numbers(said) == ANA
    for begin, role, text in (
        ("user:2", "user", "Ana asks"),
        ("user:1", "system", "Ana asks"),
        ("user:1", "user", "Ana"),
    ):
        assert memory.numbers(memory.after(memory.conversation(begin, "aa"), role, text)) is None
    assert memory.verdict(said) is None


def test_the_least_recently_used_goes_first_and_what_is_larger_than_all_is_not_kept():
    memory = GuardMemory(GuardConfig(remembered_max=6))
    first, second, third = (memory.verdict_key(text, "mask", "aa") for text in "abc")
    memory.keep_verdict(first, SPANS)
    memory.keep_verdict(second, SPANS)
    assert memory.verdict(first) == SPANS
    memory.keep_verdict(third, ())
    assert memory.verdict(second) is None and memory.verdict(first) == SPANS and memory.verdict(third) == ()
    memory.keep_verdict(third, SPANS * 3)
    assert memory.verdict(third) is None and memory.size == 3


def test_what_was_not_used_for_long_is_forgotten():
    now = [0.0]
    memory = GuardMemory(GuardConfig(remembered_s=60), now=lambda: now[0])
    key, other = memory.verdict_key("a", "mask", "aa"), memory.conversation("user:1", "aa")
    memory.keep_verdict(key, SPANS)
    memory.keep_numbers(other, ANA)
    now[0] = 50.0
    assert memory.verdict(key) == SPANS
    now[0] = 90.0
    assert memory.verdict(key) == SPANS and memory.numbers(other) is None and memory.size == 3
