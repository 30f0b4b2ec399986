"""Which tokens run in the next step. Pure: no llama.cpp, no threads, no clock but the time it is given.

    scheduler = Scheduler(Limits(slots=4, step_tokens=128, context_tokens=2048, waiting_max=64))
    scheduler.add(Sequence(1, "user:7", None, array("i", [1, 17, 40]), tokens_max=16))
    plan = scheduler.schedule(now_s=0.0)             # Plan(pieces=(Piece(sequence=1, slot=0, start=0, …),))
    scheduler.update(plan, {1: Sampled((9,))})       # [] or the sequences that are finished now

A sequence waits, runs in a slot, and is finished exactly once. Each step runs the next token of every running sequence
and, with what is left of the token budget, chunks of prompts. Half of that goes to the prompt that was admitted first,
the rest to the others, shortest first: a long prompt delays nobody and is itself not delayed without end.

*Fair order.* A sequence is tagged on arrival with the work that its principal has asked for before, counted from the
tag being served (start-time fair queueing). Lower tags are admitted first: first come, first served for one principal,
equal shares between several, and nobody starves.

*Adapters.* One step runs one adapter. While slots are scarce, sequences of the adapters that run already are preferred,
until one of another has been passed over `PATIENCE` times. Adapters that run at once take turns of `QUANTUM` steps.

*Prefixes.* A slot keeps the tokens of its last sequence. A new one takes over the longest common prefix: in place, or
as a copy when the slot is in use or holds much else. If a running sequence is about to compute a longer common prefix,
the new one waits for that instead of computing the same. Idle slots are given up least recently used first.
"""

from __future__ import annotations

from array import array
from bisect import insort
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Literal

import numpy as np

PATIENCE = 8
QUANTUM = 8
SHARED_TOKENS_MIN = 32  # a shorter common prefix is computed again: that costs less than copying a slot
DRAFTING_MAX = 2  # with more sequences a guess costs as much as a token and cannot pay on a CPU
DRAFTS_TRIED = 16  # after so many guesses a sequence of which less than half were right guesses no more
COST_TOKENS_MAX = 512  # of an answer whose length nobody knows, in the fair order

Reason = Literal["stop", "length", "cancelled", "deadline", "failed"]


@dataclass(frozen=True, slots=True)
class Limits:
    """`context_tokens` is the length of every slot; `step_tokens` what one step computes at most."""

    slots: int
    step_tokens: int
    context_tokens: int
    waiting_max: int
    share_prefixes: bool = True


@dataclass(slots=True, eq=False)
class Sequence:
    """One request on its way. Owned by the scheduler from `add` on; others read."""

    id: int
    principal: str
    adapter: str | None
    tokens: array[int]  # the prompt, then what was generated
    tokens_max: int  # to be generated at most
    deadline_s: float | None = None
    speculates: bool = False
    prompt: int = field(init=False)
    tag: int = field(init=False, default=0)
    arrival: int = field(init=False, default=0)
    slot: int | None = field(init=False, default=None)
    computed: int = field(init=False, default=0)  # tokens whose keys and values are in the slot
    reused: int = field(init=False, default=0)
    passed: int = field(init=False, default=0)
    drafted: int = field(init=False, default=0)
    accepted: int = field(init=False, default=0)
    awaits: tuple[int, int] | None = field(init=False, default=None)  # a running sequence and how far it must come

    def __post_init__(self) -> None:
        assert len(self.tokens) > 0 and self.tokens_max > 0
        self.prompt = len(self.tokens)

    @property
    def generated(self) -> int:
        return len(self.tokens) - self.prompt

    @property
    def guesses_well(self) -> bool:
        return self.speculates and (self.drafted < DRAFTS_TRIED or 2 * self.accepted >= self.drafted)

    @property
    def missing(self) -> int:
        """Tokens still to be computed before the next one can be sampled."""
        return len(self.tokens) - self.computed


@dataclass(frozen=True, slots=True)
class Copy:
    """Make slot `target` hold the first `length` tokens of slot `source`."""

    source: int
    target: int
    length: int


@dataclass(frozen=True, slots=True)
class Trim:
    """Make a slot forget all but its first `length` tokens."""

    slot: int
    length: int


@dataclass(frozen=True, slots=True)
class Piece:
    """Consecutive tokens of one sequence. `samples`: a next token is chosen after the last one.

    The last `drafts` tokens are guesses: they are checked one after another as if each had been sampled.
    """

    sequence: int
    slot: int
    start: int
    tokens: tuple[int, ...]
    samples: bool
    drafts: int = 0


@dataclass(frozen=True, slots=True)
class Plan:
    """One step: first the memory operations in their order, then one forward pass over all pieces, by slot."""

    adapter: str | None
    memory: tuple[Copy | Trim, ...]
    pieces: tuple[Piece, ...]
    finished: tuple[Finished, ...]

    @property
    def tokens(self) -> int:
        return sum(len(piece.tokens) for piece in self.pieces)


@dataclass(frozen=True, slots=True)
class Sampled:
    """What came of a piece that samples: accepted drafts and one token more. `ended`: the last one ends the answer."""

    tokens: tuple[int, ...]
    ended: bool = False
    failed: bool = False


@dataclass(frozen=True, slots=True)
class Finished:
    """A sequence that is done. `tokens` were generated, `reused` of the prompt's were not computed again."""

    sequence: int
    reason: Reason
    prompt: int
    tokens: int
    reused: int


@dataclass(slots=True)
class Slot:
    """`tokens` are those whose keys and values it holds, under `adapter`."""

    tokens: array[int] = field(default_factory=lambda: array("i"))
    adapter: str | None = None
    sequence: int | None = None
    used: int = 0


@dataclass(slots=True)
class Counters:
    """Since the start. `hits` are sequences that reused a prefix."""

    steps: int = 0
    prompt_tokens: int = 0
    generated_tokens: int = 0
    reused_tokens: int = 0
    hits: int = 0
    drafted_tokens: int = 0
    accepted_tokens: int = 0


def common_prefix(first: array[int], second: array[int]) -> int:
    """How many tokens two sequences begin with alike."""
    length = min(len(first), len(second))
    if length == 0 or first[0] != second[0]:
        return 0
    left, right = np.frombuffer(first, dtype=np.int32)[:length], np.frombuffer(second, dtype=np.int32)[:length]
    different = left != right
    place = int(different.argmax())
    return place if different[place] else length


class Scheduler:
    """All sequences and slots; belongs to the worker's loop."""

    def __init__(self, limits: Limits, propose: Callable[[array[int]], tuple[int, ...]] = lambda _tokens: ()) -> None:
        assert 0 < limits.slots <= limits.step_tokens
        self.limits = limits
        self.counters = Counters()
        self.slots = [Slot() for _ in range(limits.slots)]
        self.waiting: list[Sequence] = []
        self.running: dict[int, Sequence] = {}
        self._propose = propose
        self._tags: dict[str, int] = {}
        self._served_tag = 0
        self._arrivals = 0
        self._adapter: str | None = None
        self._turn_steps = 0
        self._served: dict[str | None, int] = {}
        self._pending: list[Trim] = []

    def full(self, principal: str) -> bool:
        """Whether one more may wait. One principal may hold half of the queue, so that others find room."""
        if len(self.waiting) >= self.limits.waiting_max:
            return True
        own = sum(entry.principal == principal for entry in self.waiting)
        return own >= max(1, self.limits.waiting_max // 2)

    def add(self, sequence: Sequence) -> None:
        """Queue a sequence; the caller has asked `full` and checked that the prompt leaves room for a token."""
        assert len(sequence.tokens) < self.limits.context_tokens and sequence.id not in self.running
        sequence.tokens_max = min(sequence.tokens_max, self.limits.context_tokens - len(sequence.tokens))
        self._tags = {name: tag for name, tag in self._tags.items() if tag > self._served_tag}
        sequence.tag = max(self._served_tag, self._tags.get(sequence.principal, 0))
        self._tags[sequence.principal] = sequence.tag + sequence.prompt + min(sequence.tokens_max, COST_TOKENS_MAX)
        self._arrivals += 1
        sequence.arrival = self._arrivals
        insort(self.waiting, sequence, key=lambda entry: (entry.tag, entry.arrival))

    def cancel(self, sequence_id: int, reason: Reason = "cancelled") -> Finished | None:
        """Finish a sequence now; None when there is no such sequence (any more)."""
        sequence = self.running.get(sequence_id)
        if sequence is None:
            sequence = next((entry for entry in self.waiting if entry.id == sequence_id), None)
            if sequence is None:
                return None
            self.waiting.remove(sequence)
        return self._finish(sequence, reason)

    def forget(self, adapter: str) -> list[Finished]:
        """Finish every sequence of an adapter and drop what slots hold of it."""
        affected = [entry.id for entry in (*self.waiting, *self.running.values()) if entry.adapter == adapter]
        finished = [done for number in affected if (done := self.cancel(number, "failed")) is not None]
        self._served.pop(adapter, None)
        for number, slot in enumerate(self.slots):
            if slot.adapter == adapter:
                self._clear(number)
        return finished

    def borrow(self) -> int | None:
        """An idle slot to try something in; what it held is forgotten. None: all are in use."""
        idle = [number for number, slot in enumerate(self.slots) if slot.sequence is None]
        if not idle:
            return None
        number = min(idle, key=lambda place: self.slots[place].used)
        self._clear(number)
        return number

    def reset(self) -> list[Finished]:
        """Fail what runs and forget every slot: a step failed and nobody knows what they hold."""
        finished = [done for number in list(self.running) if (done := self.cancel(number, "failed")) is not None]
        for number in range(len(self.slots)):
            self._clear(number)
        return finished

    def schedule(self, now_s: float) -> Plan:
        """The next step. No pieces: nothing to do. Its `finished` missed their deadline."""
        expired = self._expire(now_s)
        memory: list[Copy | Trim] = [*self._pending]
        self._pending = []
        self._take_turns()
        self._admit(memory)
        pieces = self._pieces()
        if pieces:
            self.counters.steps += 1
            self._turn_steps += 1
            self._served[self._adapter] = self.counters.steps
        return Plan(self._adapter, tuple(memory), tuple(sorted(pieces, key=lambda piece: piece.slot)), tuple(expired))

    def update(self, plan: Plan, sampled: Mapping[int, Sampled]) -> list[Finished]:
        """Take in what a step computed; returns the sequences that it finished."""
        finished = []
        for piece in plan.pieces:
            sequence = self.running[piece.sequence]
            slot = self.slots[piece.slot]
            outcome = sampled[piece.sequence] if piece.samples else Sampled(())
            kept = len(piece.tokens) - piece.drafts + max(0, len(outcome.tokens) - 1)
            assert sequence.computed == piece.start and len(outcome.tokens) <= piece.drafts + 1
            slot.tokens.extend(piece.tokens[:kept])
            sequence.computed += kept
            if kept < len(piece.tokens):
                self._pending.append(Trim(piece.slot, sequence.computed))
            sequence.tokens.extend(outcome.tokens)
            self.counters.generated_tokens += len(outcome.tokens)
            self.counters.prompt_tokens += max(0, min(sequence.prompt, sequence.computed) - piece.start)
            accepted = max(0, len(outcome.tokens) - 1)
            sequence.drafted, sequence.accepted = sequence.drafted + piece.drafts, sequence.accepted + accepted
            self.counters.drafted_tokens += piece.drafts
            self.counters.accepted_tokens += accepted
            if outcome.failed:
                finished.append(self._finish(sequence, "failed"))
            elif outcome.ended:
                finished.append(self._finish(sequence, "stop"))
            elif sequence.generated >= sequence.tokens_max:
                finished.append(self._finish(sequence, "length"))
        return finished

    # Finishing

    def _finish(self, sequence: Sequence, reason: Reason) -> Finished:
        if self.running.pop(sequence.id, None) is not None:
            assert sequence.slot is not None
            slot = self.slots[sequence.slot]
            slot.sequence, slot.used = None, self.counters.steps + 1
        return Finished(sequence.id, reason, sequence.prompt, sequence.generated, sequence.reused)

    def _expire(self, now_s: float) -> list[Finished]:
        late = [
            entry.id
            for entry in (*self.waiting, *self.running.values())
            if entry.deadline_s is not None and entry.deadline_s <= now_s
        ]
        return [done for number in late if (done := self.cancel(number, "deadline")) is not None]

    def _clear(self, number: int) -> None:
        slot = self.slots[number]
        assert slot.sequence is None
        slot.tokens, slot.adapter, slot.used = array("i"), None, 0
        self._pending.append(Trim(number, 0))

    # Choosing what runs

    def _take_turns(self) -> None:
        """Decide whose step this is among the adapters that have running sequences."""
        adapters = {entry.adapter for entry in self.running.values()}
        if not adapters:
            if self.waiting:
                self._turn(self.waiting[0].adapter)
        elif self._adapter not in adapters or (self._turn_steps >= QUANTUM and len(adapters) > 1):
            others = adapters - {self._adapter} or adapters
            self._turn(min(others, key=lambda name: (self._served.get(name, 0), name or "")))

    def _turn(self, adapter: str | None) -> None:
        if adapter != self._adapter:
            self._adapter, self._turn_steps = adapter, 0

    def _pieces(self) -> list[Piece]:
        """Next tokens first; then prompts with the budget that is left."""
        mine = [entry for entry in self.running.values() if entry.adapter == self._adapter]
        decoding = [entry for entry in mine if entry.missing == 1 and entry.computed > 0]
        prefilling = [entry for entry in mine if not (entry.missing == 1 and entry.computed > 0)]
        budget = self.limits.step_tokens - len(decoding)
        assert budget >= 0
        shares: dict[int, int] = {}
        if prefilling:  # the budget belongs to prompts before it does to guesses
            first, others = prefilling[0], sorted(prefilling[1:], key=lambda entry: entry.missing)
            rest = sum(entry.missing for entry in others)
            shares[first.id] = min(first.missing, max(-(-budget // 2), budget - rest))
            budget -= shares[first.id]
            for entry in others:
                shares[entry.id] = min(entry.missing, budget)
                budget -= shares[entry.id]
        pieces = [self._prompt_piece(entry, shares[entry.id]) for entry in prefilling if shares[entry.id]]
        for entry in decoding:
            drafts = self._drafts(entry, budget) if len(decoding) <= DRAFTING_MAX else ()
            budget -= len(drafts)
            tokens = (entry.tokens[-1], *drafts)
            pieces.append(Piece(entry.id, _slot(entry), entry.computed, tokens, samples=True, drafts=len(drafts)))
        return pieces

    def _prompt_piece(self, entry: Sequence, share: int) -> Piece:
        tokens = tuple(entry.tokens[entry.computed : entry.computed + share])
        return Piece(entry.id, _slot(entry), entry.computed, tokens, samples=share == entry.missing)

    def _drafts(self, entry: Sequence, budget: int) -> tuple[int, ...]:
        # One token is sampled after the last draft, and the slot must have room for all of them.
        room = min(budget, entry.tokens_max - entry.generated - 1, self.limits.context_tokens - len(entry.tokens) - 1)
        return self._propose(entry.tokens)[:room] if entry.guesses_well and room > 0 else ()

    # Admission and prefixes

    def _admit(self, memory: list[Copy | Trim]) -> None:
        """Fill free slots. A sequence of another adapter than this step's gets its slot and waits for its turn."""
        # More than can be computed soon would only reserve slots and evict prefixes; one long prompt counts as a step.
        step = self.limits.step_tokens
        ahead = sum(min(entry.missing, step) for entry in self.running.values() if entry.missing > 1)
        while ahead < 2 * step and any(slot.sequence is None for slot in self.slots):
            sequence = self._next_waiting()
            if sequence is None:
                return
            self.waiting.remove(sequence)
            self._served_tag = max(self._served_tag, sequence.tag)
            self._place(sequence, memory)
            self.running[sequence.id] = sequence
            ahead += min(sequence.missing, step)

    def _next_waiting(self) -> Sequence | None:
        active = {entry.adapter for entry in self.running.values()} or {self._adapter}
        passed: list[Sequence] = []
        for entry in self.waiting:
            if self._is_coming(entry):
                continue
            if entry.adapter in active or entry.passed >= PATIENCE:
                for other in passed:
                    other.passed += 1
                return entry
            passed.append(entry)
        return passed[0] if passed else None

    def _is_coming(self, entry: Sequence) -> bool:
        """Whether a running sequence is about to compute a prefix that is worth waiting for."""
        if not self.limits.share_prefixes:
            return False
        if entry.awaits is not None:
            ahead = self.running.get(entry.awaits[0])
            if ahead is not None and ahead.computed < entry.awaits[1]:
                return True
            entry.awaits = None
        ready = max((self._shared(entry, slot) for slot in self.slots), default=0)
        for other in self.running.values():
            if other.adapter == entry.adapter and other.missing > 1:
                shared = min(common_prefix(entry.tokens, other.tokens), entry.prompt - 1)
                if shared - max(ready, other.computed) >= SHARED_TOKENS_MIN:
                    entry.awaits = other.id, shared
                    return True
        return False

    def _shared(self, sequence: Sequence, slot: Slot) -> int:
        """Tokens of a prompt that a slot holds already. The last one is computed again: its logits are needed."""
        if slot.adapter != sequence.adapter or not slot.tokens or not self.limits.share_prefixes:
            return 0
        return min(common_prefix(sequence.tokens, slot.tokens), sequence.prompt - 1)

    def _place(self, sequence: Sequence, memory: list[Copy | Trim]) -> None:
        """Give the sequence a slot and as much of its prefix as can be had."""
        shared = [self._shared(sequence, slot) for slot in self.slots]
        idle = [number for number, slot in enumerate(self.slots) if slot.sequence is None]
        source = max(range(len(self.slots)), key=lambda number: (shared[number], number in idle, -number))
        length = shared[source]
        spare = min((n for n in idle if n != source), key=lambda n: (self.slots[n].used, n), default=None)
        keeps = length * 2 >= len(self.slots[source].tokens)  # little else is lost with it
        if source in idle and (keeps or spare is None):
            target = source
        elif length >= SHARED_TOKENS_MIN and spare is not None:
            target = spare
            memory.append(Copy(source, target, length))
        else:
            target = min(idle, key=lambda n: (self.slots[n].used, n))
            length = shared[target]
        slot = self.slots[target]
        copied = bool(memory) and memory[-1] == Copy(source, target, length)
        if not copied and len(slot.tokens) > length:
            memory.append(Trim(target, length))
        slot.tokens, slot.adapter, slot.sequence = sequence.tokens[:length], sequence.adapter, sequence.id
        sequence.slot, sequence.computed, sequence.reused = target, length, length
        if length:
            self.counters.hits += 1
            self.counters.reused_tokens += length


def _slot(sequence: Sequence) -> int:
    assert sequence.slot is not None
    return sequence.slot
