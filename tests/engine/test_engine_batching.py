"""The plan: whatever arrives, in whatever order, every sequence runs exactly once, in lawful batches, and none starves.

Property tests drive a backlog with random requests, cancellations and batches; the examples state the fairness.
"""

from hypothesis import given
from hypothesis import strategies as st

from appliance.engine.batching import STAY, Backlog, Batch, Item, Shape

SHAPE = Shape(tokens_max=100, sequences_max=8)

requests = st.lists(
    st.tuples(st.sampled_from("abc"), st.lists(st.integers(1, 140), min_size=1, max_size=12)), max_size=12
)


def drain(backlog: Backlog) -> list[Batch]:
    batches = []
    while (batch := backlog.next_batch()) is not None:
        batches.append(batch)
    return batches


def filled(entries: list[tuple[str, list[int]]], shape: Shape = SHAPE) -> Backlog:
    backlog = Backlog(shape)
    for number, (key, lengths) in enumerate(entries):
        backlog.add(number, key, lengths)
    return backlog


@given(requests)
def test_every_sequence_runs_exactly_once(entries):
    ran = [item for batch in drain(filled(entries)) for item in batch.items]
    expected = {Item(number, index) for number, (_, lengths) in enumerate(entries) for index in range(len(lengths))}
    assert len(ran) == len(expected) and set(ran) == expected


@given(requests)
def test_a_batch_has_one_adapter_and_keeps_its_bounds(entries):
    for batch in drain(filled(entries)):
        lengths = [entries[item.request_id][1][item.index] for item in batch.items]
        assert {entries[item.request_id][0] for item in batch.items} == {batch.key}
        assert batch.tokens == sum(lengths)
        assert len(batch.items) <= SHAPE.sequences_max
        assert batch.tokens <= SHAPE.tokens_max or len(batch.items) == 1


@given(requests)
def test_the_same_events_give_the_same_plan(entries):
    assert drain(filled(entries)) == drain(filled(entries))


@given(requests, st.integers(0, 11), st.integers(0, 6))
def test_a_cancelled_request_never_runs_again_and_the_others_all_do(entries, cancelled, batches_before):
    backlog = filled(entries)
    ran = [item for _ in range(batches_before) if (batch := backlog.next_batch()) for item in batch.items]
    left = backlog.cancel(cancelled)
    after = [item for batch in drain(backlog) for item in batch.items]
    total = sum(len(lengths) for _, lengths in entries)
    assert all(item.request_id != cancelled for item in after)
    assert len(ran) + len(after) + left == total


@given(requests)
def test_no_batch_leaves_out_a_sequence_that_would_have_fitted(entries):
    backlog = filled(entries)
    waiting = {Item(n, i): length for n, (_, lengths) in enumerate(entries) for i, length in enumerate(lengths)}
    for batch in drain(backlog):
        for item in batch.items:
            del waiting[item]
        room = SHAPE.tokens_max - batch.tokens
        if len(batch.items) < SHAPE.sequences_max:
            assert not any(entries[item.request_id][0] == batch.key and n <= room for item, n in waiting.items())


def test_a_short_text_does_not_wait_for_a_long_document():
    backlog = Backlog(SHAPE)
    backlog.add(1, "a", [90] * 50)
    backlog.next_batch()
    backlog.add(2, "a", [10])
    backlog.add(3, "b", [10])
    served = [backlog.next_batch() for _ in range(2 + STAY)]
    assert {item.request_id for batch in served for item in batch.items} == {1, 2, 3}


def test_two_documents_share_the_engine_alternately():
    backlog = filled([("a", [90] * 10), ("a", [90] * 10)])
    assert [batch.items[0].request_id for batch in drain(backlog)] == [0, 1] * 10


def test_a_lane_stays_with_its_adapter_for_a_few_batches_and_then_serves_whose_turn_it_is():
    backlog = filled([("a", [90] * 10), ("b", [90] * 10)])
    assert "".join(batch.key for batch in drain(backlog)) == "aaaabbbbbbbaaaaaabbb"


def test_lanes_share_two_adapters_without_switching():
    backlog = filled([("a", [90] * 6), ("b", [90] * 6)])
    served = [backlog.next_batch(2, lane).key for _ in range(6) for lane in (0, 1)]
    assert served == ["a", "b"] * 6


@given(requests.filter(bool), st.integers(1, 3))
def test_whose_turn_it_is_waits_for_a_few_batches_of_each_lane_at_most(entries, lanes):
    backlog = filled(entries)
    tags = {Item(n, i): sum(lengths[:i]) for n, (_, lengths) in enumerate(entries) for i in range(len(lengths))}
    passed, number = 0, 0
    while (batch := backlog.next_batch(lane=number % lanes)) is not None:
        lowest = min(tags.values())
        passed = 0 if tags[batch.items[0]] == lowest else passed + 1
        assert passed <= STAY * lanes
        for item in batch.items:
            del tags[item]
        number += 1


def test_equal_requests_are_served_first_come_first_served():
    backlog = filled([("a", [60]), ("a", [60]), ("a", [60]), ("b", [60])])
    assert [batch.items[0].request_id for batch in drain(backlog)] == [0, 1, 2, 3]


def test_an_adapter_with_much_work_never_starves_one_with_little():
    backlog = Backlog(SHAPE)
    backlog.add(0, "busy", [90] * 3)
    backlog.add(1, "rare", [5])
    for number in range(2, 30):  # new work for the busy adapter at every step
        backlog.add(number, "busy", [90] * 3)
        batch = backlog.next_batch()
        if batch.key == "rare":
            break
    assert number <= 3 + STAY


def test_a_sequence_longer_than_a_batch_runs_alone():
    assert [batch.tokens for batch in drain(filled([("a", [140, 30, 30])]))] == [140, 60]


def test_a_shorter_sequence_takes_the_room_that_a_longer_one_cannot():
    first = filled([("a", [60, 60, 40])]).next_batch()
    assert first == Batch("a", (Item(0, 0), Item(0, 2)), 100)


def test_what_waits_is_shared_by_the_lanes_that_are_free():
    backlog = filled([("a", [45, 45, 45, 45])], Shape(tokens_max=256, sequences_max=8))
    assert [backlog.next_batch(free_lanes=2).tokens, backlog.next_batch(free_lanes=1).tokens] == [90, 90]


def test_a_small_amount_of_work_is_not_cut_into_pieces_that_cost_as_much():
    assert filled([("a", [20, 20, 20])]).next_batch(free_lanes=3).tokens == 60
