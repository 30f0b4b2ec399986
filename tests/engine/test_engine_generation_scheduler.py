"""The scheduler decides well whatever arrives in whatever order: it is driven here by a machine that only remembers.

`Machine` executes plans on slots of plain lists, checks that each token goes to the one place where it belongs, and
answers with a fixed function of the tokens before it, so that every answer can be compared with the one the sequence
would have had alone. Guaranteed: every sequence is finished exactly once, no slot is lost, no step exceeds its budget,
nobody starves, and sharing, chunking, drafting and company change no answer.
"""

import zlib
from array import array
from itertools import groupby

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from appliance.engine.generation.scheduler import (
    DRAFTING_MAX,
    DRAFTS_TRIED,
    PATIENCE,
    QUANTUM,
    Copy,
    Limits,
    Piece,
    Sampled,
    Scheduler,
    Sequence,
    Trim,
    common_prefix,
)

END = 0


def next_token(tokens, adapter, vocabulary=23) -> int:
    return zlib.crc32(bytes(array("i", tokens)) + (adapter or "").encode()) % vocabulary


def alone(prompt, adapter, tokens_max) -> list[int]:
    tokens = list(prompt)
    while len(tokens) - len(prompt) < tokens_max:
        tokens.append(next_token(tokens, adapter))
        if tokens[-1] == END:
            break
    return tokens[len(prompt) :]


class Machine:
    """Slots as llama.cpp has them, and the answers so far."""

    def __init__(self, limits: Limits, propose=lambda tokens: ()) -> None:
        self.limits = limits
        self.scheduler = Scheduler(limits, propose)
        self.slots: list[list[int]] = [[] for _ in range(limits.slots)]
        self.answers: dict[int, list[int]] = {}
        self.finished: dict[int, str] = {}
        self.plans = []
        self.now_s = 0.0

    def add(self, number, prompt, *, principal="user:1", adapter=None, tokens_max=4, deadline_s=None, speculates=False):
        self.answers[number] = []
        sequence = Sequence(number, principal, adapter, array("i", prompt), tokens_max, deadline_s, speculates)
        self.scheduler.add(sequence)
        return sequence

    def step(self):
        plan = self.scheduler.schedule(self.now_s)
        self.plans.append(plan)
        self._close(plan.finished)
        for operation in plan.memory:
            if isinstance(operation, Copy):
                assert operation.length <= len(self.slots[operation.source])
                self.slots[operation.target] = self.slots[operation.source][: operation.length]
            else:
                del self.slots[operation.slot][operation.length :]
        assert plan.tokens <= self.limits.step_tokens
        assert len({piece.slot for piece in plan.pieces}) == len(plan.pieces)
        sampled = {piece.sequence: self._run(piece, plan.adapter) for piece in plan.pieces}
        self._close(self.scheduler.update(plan, {n: outcome for n, outcome in sampled.items() if outcome is not None}))
        self._check_slots()
        return plan

    def _run(self, piece: Piece, adapter) -> Sampled | None:
        sequence = self.scheduler.running[piece.sequence]
        slot = self.slots[piece.slot]
        assert sequence.slot == piece.slot and sequence.adapter == adapter
        assert len(slot) == piece.start, "a token would not follow the one before it"
        assert len(slot) + len(piece.tokens) <= self.limits.context_tokens
        slot.extend(piece.tokens)
        sure = len(slot) - piece.drafts
        assert slot[:sure] == list(sequence.tokens[:sure]), "the slot holds other tokens than the sequence has"
        if not piece.samples:
            return None
        chosen = [next_token(slot[:sure], adapter)]
        while chosen[-1] != END and len(chosen) <= piece.drafts and slot[sure + len(chosen) - 1] == chosen[-1]:
            chosen.append(next_token(slot[: sure + len(chosen)], adapter))
        self.answers[piece.sequence] += chosen
        return Sampled(tuple(chosen), ended=chosen[-1] == END)

    def _close(self, finished) -> None:
        for done in finished:
            assert done.sequence not in self.finished, "finished twice"
            self.finished[done.sequence] = done.reason
            assert done.tokens == len(self.answers[done.sequence])
            assert done.reused < done.prompt

    def _check_slots(self) -> None:
        owners = [slot.sequence for slot in self.scheduler.slots if slot.sequence is not None]
        assert sorted(owners) == sorted(self.scheduler.running)
        pending = {trim.slot: trim.length for trim in self.scheduler._pending}
        for number, slot in enumerate(self.scheduler.slots):
            held = self.slots[number][: pending.get(number, len(self.slots[number]))]
            assert held == list(slot.tokens), "the scheduler is wrong about what a slot holds"

    def run(self, steps_max=10_000):
        for _ in range(steps_max):
            if not self.scheduler.waiting and not self.scheduler.running:
                return
            self.step()
        raise AssertionError("it never ends")


def limits(**values) -> Limits:
    return Limits(**{"slots": 4, "step_tokens": 16, "context_tokens": 256, "waiting_max": 1000} | values)


REQUEST = st.fixed_dictionaries(
    {
        "shared": st.integers(0, 120),
        "own": st.lists(st.integers(1, 22), min_size=1, max_size=40),
        "principal": st.sampled_from(["user:1", "user:2", "user:3"]),
        "adapter": st.sampled_from([None, None, "a", "b"]),
        "tokens_max": st.integers(1, 30),
        "deadline_s": st.one_of(st.none(), st.none(), st.floats(1, 60)),
        "speculates": st.booleans(),
        "arrives": st.integers(0, 40),
        "leaves": st.one_of(st.none(), st.none(), st.integers(0, 60)),
    }
)
SHARED = [1 + n % 20 for n in range(120)]


@settings(max_examples=150, deadline=None, derandomize=True)
@given(
    requests=st.lists(REQUEST, min_size=1, max_size=24),
    slots=st.integers(1, 5),
    step_tokens=st.integers(5, 80),
    share=st.booleans(),
)
def test_everything_is_finished_once_and_answered_as_if_it_were_alone(requests, slots, step_tokens, share):
    machine = Machine(
        limits(slots=slots, step_tokens=step_tokens, share_prefixes=share),
        propose=lambda tokens: (next_token(tokens, None), next_token(tokens, "a"), 3),
    )
    prompts = {}
    last = max(request["arrives"] for request in requests)
    for moment in range(10_000):
        machine.now_s = float(moment)
        for number, request in enumerate(requests):
            if request["arrives"] == moment:
                prompts[number] = SHARED[: request["shared"]] + request["own"]
                wanted = ("principal", "adapter", "tokens_max", "speculates")
                deadline_s = None if request["deadline_s"] is None else moment + request["deadline_s"]
                machine.add(number, prompts[number], deadline_s=deadline_s, **{name: request[name] for name in wanted})
            if request["leaves"] == moment and number in prompts:
                done = machine.scheduler.cancel(number)
                if done is not None:
                    machine._close([done])
        if moment > last and not machine.scheduler.waiting and not machine.scheduler.running:
            break
        machine.step()
    assert machine.finished.keys() == prompts.keys()
    for number, reason in machine.finished.items():
        request = requests[number]
        whole = alone(prompts[number], request["adapter"], request["tokens_max"])
        found = machine.answers[number]
        if reason in ("cancelled", "deadline"):
            assert found == whole[: len(found)]
        else:
            assert found == whole and reason == ("stop" if whole[-1] == END else "length")


def test_every_running_sequence_gets_its_next_token_beside_a_long_prompt():
    machine = Machine(limits(step_tokens=16))
    for number in range(2):
        machine.add(number, [5, 6, 7 + number], tokens_max=40)
    machine.step()
    machine.add(9, [1 + n % 20 for n in range(200)], tokens_max=1)
    for _ in range(10):
        running = set(machine.scheduler.running) - {9}
        plan = machine.step()
        assert {piece.sequence for piece in plan.pieces if len(piece.tokens) == 1} >= running
        assert plan.tokens <= 16


def test_a_short_prompt_overtakes_a_long_one_and_the_long_one_keeps_half_of_the_budget():
    machine = Machine(limits(step_tokens=16))
    machine.add(1, [1 + n % 20 for n in range(200)])
    machine.step()
    machine.add(2, [9, 9, 9, 2, 2, 2])
    plan = machine.step()
    assert {piece.sequence: len(piece.tokens) for piece in plan.pieces} == {1: 10, 2: 6}
    for number in range(3, 40):
        machine.add(number, [number % 20 + 1] * 12, principal=f"user:{number}")
    plan = machine.step()
    assert len(next(piece for piece in plan.pieces if piece.sequence == 1).tokens) >= 7


def test_principals_share_admissions_and_one_principal_is_served_in_order():
    machine = Machine(limits(slots=1, step_tokens=64))
    for number in range(20):
        machine.add(number, [1, 2, 3 + number % 7], principal="busy", tokens_max=1)
    for number in range(20, 23):
        machine.add(number, [1, 2, 3], principal="rare", tokens_max=1)
    machine.run()
    order = list(machine.finished)
    assert [n for n in order if n < 20] == list(range(20))
    assert [n for n in order if n >= 20] == [20, 21, 22]
    assert order.index(22) <= 6


def test_a_principal_cannot_fill_the_queue_for_the_others():
    scheduler = Machine(limits(waiting_max=10)).scheduler
    for number in range(5):
        assert not scheduler.full("busy")
        scheduler.add(Sequence(number, "busy", None, array("i", [1]), 1))
    assert scheduler.full("busy") and not scheduler.full("rare")


def test_other_adapters_are_preferred_only_for_so_long():
    machine = Machine(limits(slots=1, step_tokens=64))
    machine.add(0, [5], adapter="a", tokens_max=3)
    machine.step()
    machine.add(1, [5], adapter="b", tokens_max=1)
    for number in range(2, 30):
        machine.add(number, [5], adapter="a", tokens_max=1)
    machine.run()
    order = list(machine.finished)
    assert order.index(1) <= PATIENCE + 1


def test_adapters_that_run_at_once_take_turns_and_never_share_a_step():
    machine = Machine(limits(slots=4, step_tokens=64))
    for number, adapter in enumerate(["a", "a", "b", None]):
        # These prompts do not lead to the end token for long.
        machine.add(number, [7, 8, 9 + number], adapter=adapter, tokens_max=60)
    machine.run()
    served = [plan.adapter for plan in machine.plans if plan.pieces]
    turns = [(adapter, len(list(steps))) for adapter, steps in groupby(served)]
    assert [adapter for adapter, _ in turns[:3]] == ["a", None, "b"]
    assert all(length <= QUANTUM for _, length in turns[:3])


def test_a_prefix_is_computed_once_for_all_that_arrive_together():
    machine = Machine(limits(slots=4, step_tokens=32))
    shared = [1 + n % 20 for n in range(120)]
    for number in range(4):
        machine.add(number, [*shared, 21, number + 1], tokens_max=3)
    machine.run()
    computed = sum(plan.tokens for plan in machine.plans)
    assert computed < len(shared) + 4 * 8
    assert machine.scheduler.counters.reused_tokens == 3 * 121
    assert {number: machine.answers[number] for number in range(4)} == {
        number: alone([*shared, 21, number + 1], None, 3) for number in range(4)
    }


def test_who_waits_for_a_prefix_goes_on_alone_when_the_other_one_leaves():
    machine = Machine(limits(slots=2, step_tokens=16))
    shared = [1 + n % 20 for n in range(100)]
    machine.add(1, [*shared, 5])
    machine.add(2, [*shared, 6])
    machine.step()
    assert 2 not in machine.scheduler.running
    machine._close([machine.scheduler.cancel(1)])
    machine.run()
    assert machine.answers[2] == alone([*shared, 6], None, 4)
    assert machine.scheduler.counters.reused_tokens > 0  # of what the other one had computed


def test_a_conversation_continues_in_its_slot_and_the_oldest_idle_slot_is_given_up():
    machine = Machine(limits(slots=2, step_tokens=64))
    first = [1 + n % 20 for n in range(40)]
    second = [20 - n % 20 for n in range(40)]
    machine.add(1, first)
    machine.run()
    machine.add(2, second)
    machine.run()
    machine.add(3, [*first, *machine.answers[1], 7])
    machine.run()
    assert machine.plans[-1].pieces and machine.scheduler.counters.reused_tokens == 40 + len(machine.answers[1]) - 1
    machine.add(4, [9] * 40)  # the second conversation is the oldest now
    machine.run()
    machine.add(5, [*first, *machine.answers[1], 7, 8])
    machine.run()
    assert machine.scheduler.counters.hits == 2


def test_a_prefix_of_another_adapter_is_not_reused():
    machine = Machine(limits())
    prompt = [1 + n % 20 for n in range(60)]
    machine.add(1, prompt, adapter="a")
    machine.run()
    machine.add(2, prompt, adapter="b")
    machine.run()
    assert machine.scheduler.counters.reused_tokens == 0
    assert machine.answers[2] == alone(prompt, "b", 4)


def test_a_cancelled_sequence_frees_its_slot_at_once():
    machine = Machine(limits(slots=1))
    machine.add(1, [5, 6], tokens_max=200)
    machine.add(2, [7, 8], tokens_max=1)
    machine.step()
    machine._close([machine.scheduler.cancel(1)])
    assert machine.scheduler.cancel(1) is None and machine.scheduler.cancel(77) is None
    machine.step()
    assert machine.finished == {1: "cancelled", 2: "length"}


def test_deadlines_end_waiting_and_running_sequences_alike():
    machine = Machine(limits(slots=1))
    machine.add(1, [5, 6], tokens_max=200, deadline_s=3.0)
    machine.add(2, [7, 8], tokens_max=200, deadline_s=3.0)
    machine.step()
    machine.now_s = 3.0
    machine.step()
    assert machine.finished == {1: "deadline", 2: "deadline"}
    assert machine.scheduler.slots[0].sequence is None


def test_an_unloaded_adapter_takes_its_sequences_and_prefixes_with_it():
    machine = Machine(limits())
    machine.add(1, [5] * 40, adapter="a", tokens_max=100)
    machine.add(2, [5] * 40, adapter="b", tokens_max=3)
    machine.step()
    machine._close(machine.scheduler.forget("a"))
    machine.run()
    assert machine.finished == {1: "failed", 2: machine.finished[2]}
    assert all(slot.adapter != "a" for slot in machine.scheduler.slots)


def test_after_a_failed_step_nothing_of_the_slots_is_trusted():
    machine = Machine(limits())
    machine.add(1, [1 + n % 20 for n in range(60)], tokens_max=50)
    machine.step()
    assert [done.reason for done in machine.scheduler.reset()] == ["failed"]
    machine.finished[1] = "failed"
    machine.add(2, [1 + n % 20 for n in range(60)])
    machine.run()
    assert machine.scheduler.counters.reused_tokens == 0 and machine.finished[2] in ("stop", "length")


def test_guesses_save_steps_and_change_nothing():
    prompt = [3, 1, 4]
    answer = alone(prompt, None, 12)
    whole = prompt + answer

    def propose(tokens):
        return tuple(whole[len(tokens) : len(tokens) + 3])

    machine = Machine(limits(), propose)
    machine.add(1, prompt, tokens_max=12, speculates=True)
    machine.run()
    assert machine.answers[1] == answer
    assert len([plan for plan in machine.plans if plan.pieces]) <= 1 + -(-len(answer) // 4)
    assert machine.scheduler.counters.accepted_tokens > 0


def test_who_guesses_badly_stops_guessing_and_a_full_batch_does_not_begin():
    machine = Machine(limits(), lambda tokens: (21, 21))
    machine.add(1, [3, 1, 4], tokens_max=40, speculates=True)
    machine.run()
    assert 0 < machine.scheduler.counters.drafted_tokens <= DRAFTS_TRIED + 2
    machine = Machine(limits(), lambda tokens: (21, 21))
    for number in range(DRAFTING_MAX + 1):
        machine.add(number, [3, 1, 4 + number], tokens_max=2, speculates=True)
    machine.run()
    assert machine.scheduler.counters.drafted_tokens == 0


def test_a_borrowed_slot_is_idle_and_forgets_what_it_held():
    machine = Machine(limits(slots=2))
    machine.add(1, [5] * 40, tokens_max=30)
    machine.step()
    number = machine.scheduler.borrow()
    assert machine.scheduler.slots[number].sequence is None and not machine.scheduler.slots[number].tokens
    machine.add(2, [6] * 40, tokens_max=30)
    machine.step()
    assert machine.scheduler.borrow() is None
    machine.run()


def test_tokens_are_never_asked_for_beyond_the_context():
    machine = Machine(limits(context_tokens=20))
    machine.add(1, [8] * 15, tokens_max=1000)
    machine.run()
    assert len(machine.answers[1]) <= 5 and machine.finished[1] in ("stop", "length")


@pytest.mark.parametrize(
    ("first", "second", "length"), [([], [1], 0), ([1, 2], [1, 2], 2), ([1, 2, 3], [1, 2], 2), ([1, 5], [1, 6], 1)]
)
def test_common_prefix(first, second, length):
    assert common_prefix(array("i", first), array("i", second)) == length


def test_memory_operations_name_what_they_do():
    assert Copy(0, 1, 5) == Copy(source=0, target=1, length=5) and Trim(0, 5) == Trim(slot=0, length=5)
