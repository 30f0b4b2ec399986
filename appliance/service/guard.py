"""Identifiers in what people ask a model that writes, and in what it answers: found, and done with as the policy says.

    rule = await guard_rule(appliance, principal)            # refuses here where nothing could find them
    guard = Guard(appliance, exchange, rule, request)
    request = await guard.screened()                         # what the model may read
    text = await guard.feed(piece)                           # what the asker may see of the answer so far
    text = await guard.feed(piece, final=True)
    guard.report()                                           # for the asker: labels, counts, places

`allow`: nothing is looked for. `mark`: found and shown, nothing is changed. `mask`: the model reads placeholders; in
the answer those of the asker's own identifiers are put back, and what the model wrote beyond them stays a placeholder.
`block`: a request or an answer with an identifier ends there. Decisions are records of the exchange: labels and counts.

A value found in one message is one in all of them, with one placeholder from turn to turn, and texts that were looked
at lately are not looked at again (`specialists/guard_memory.py`). An answer is cut for looking at by its own text, so
a stream shows what the whole answer would (`specialists/guard_answer.py`).

Looked into are the texts of the conversation, names and tool calls in it included; not tools, schemas or stop texts.
"""

from __future__ import annotations

import asyncio
import json
import re
from collections import Counter
from collections.abc import Mapping, Sequence, Set
from dataclasses import dataclass, field, replace

from appliance.accounts.actions import person_of
from appliance.engine.generation.values import GenerationRequest, Message
from appliance.errors import (
    GuardBlocked,
    GuardUnavailable,
    ModelFileError,
    SpecialistNotFound,
    UnknownOption,
)
from appliance.service.appliance import Appliance
from appliance.service.event_names import GUARD_DECIDED
from appliance.service.exchange import Exchange
from appliance.service.guard_texts import texts_of, with_texts
from appliance.specialists.deid.propagation import CARRIED
from appliance.specialists.guard import (
    Placeholders,
    Policy,
    Value,
    carry,
    find_placeholders,
    mask,
    placeholder,
    restore,
    restored_places,
    typed_in,
)
from appliance.specialists.guard_answer import AnswerCuts, Look
from appliance.specialists.guard_memory import Numbers
from appliance.specialists.registry import SpecialistEntry
from appliance.specialists.tasks import dispatch
from appliance.types import AttributeValue, Material, Principal, Span, Task

DETECTOR = "phi-deid"
_ESCAPED_SPACE = re.compile(r"\\[nrt]")
_REMEDY = f"install the specialist {DETECTOR}, or have an administrator set the policy of the workspace to allow"


@dataclass(frozen=True, slots=True)
class GuardRule:
    """What holds for one request. `detector` None: nothing is looked for."""

    workspace: str
    policy: Policy
    detector: SpecialistEntry | None

    def attributes(self) -> dict[str, AttributeValue]:
        """For the record that opens the exchange."""
        if self.detector is None:
            return {}
        return {
            "guard": self.policy,
            "workspace": self.workspace,
            "guard_version": self.detector.ref.version,
            "guard_sha256": self.detector.sha256,
        }


@dataclass(frozen=True, slots=True)
class Mark:
    """An identifier: characters `start` to `end` of the content of message `message` (from 0; the answer is the next).

    `placeholder`: what the model read or wrote there instead, under `mask`.
    """

    message: int
    start: int
    end: int
    label: str
    placeholder: str = ""


@dataclass(frozen=True, slots=True)
class GuardReport:
    """What was found, by label, and where in the texts as they were sent and shown.

    Under `mask`, `answer` counts what stays hidden, and `answer_marks` are where the asker's own was put back.
    """

    policy: Policy
    prompt: Mapping[str, int]
    answer: Mapping[str, int]
    prompt_marks: tuple[Mark, ...] = ()
    answer_marks: tuple[Mark, ...] = ()
    turns: int = 1  # that were looked into; the answer is the next


async def guard_rule(appliance: Appliance, principal: Principal) -> GuardRule:
    """The policy of the caller's workspace. Raises `GuardUnavailable`: without a detector only `allow` lets through."""
    rules = await asyncio.to_thread(appliance.accounts.guard_rules)
    workspace, policy = rules.policy_of(account_of(principal))
    if policy == "allow":
        return GuardRule(workspace, "allow", None)
    assert policy in ("mark", "mask", "block")
    try:
        entry = await asyncio.to_thread(appliance.registry.get, DETECTOR)
    except SpecialistNotFound:
        entry = None
    if entry is None or entry.ref.task is not Task.TAG:
        raise GuardUnavailable(f"the policy here is {policy!r}, and nothing finds identifiers", hint=_REMEDY)
    return GuardRule(workspace, policy, entry)  # type: ignore[arg-type]  # asserted above


@dataclass(slots=True)
class Guard:
    """One exchange under a policy other than `allow`. Owned by the task that serves it."""

    appliance: Appliance
    exchange: Exchange
    rule: GuardRule
    request: GenerationRequest
    _numbers: Numbers = field(default=Numbers(), init=False)
    _values: dict[tuple[str, str], Value] = field(default_factory=dict, init=False)  # looked for all through
    _typed: Set[tuple[str, int]] = field(default=frozenset(), init=False)  # placeholders that stood in the prompt
    _said: bytes = field(default=b"", init=False)  # the memory's name of the conversation up to the answer
    _prompt: Counter[str] = field(default_factory=Counter, init=False)
    _answer: Counter[str] = field(default_factory=Counter, init=False)
    _prompt_marks: list[Mark] = field(default_factory=list, init=False)
    _answer_marks: list[Mark] = field(default_factory=list, init=False)
    _cuts: AnswerCuts = field(init=False)
    _shown: list[str] = field(default_factory=list, init=False)  # of the answer

    def __post_init__(self) -> None:
        if self.rule.policy in ("mask", "block") and self.request.logprobs is not None:
            raise UnknownOption(
                f"probabilities are not given under the policy {self.rule.policy!r}: they would show what it hides",
                hint="leave logprobs out",
            )
        if not isinstance(self.request.prompt, str) and any(isinstance(turn, int) for turn in self.request.prompt):
            raise UnknownOption("token ids cannot be looked into", hint="send a text or a conversation")
        self._cuts = AnswerCuts(self.appliance.config.guard)

    async def screened(self) -> GenerationRequest:
        """What the model may read. Raises `GuardBlocked`, `GuardUnavailable`, and what the engine raises."""
        numbered = list(texts_of(self.request.prompt))
        texts = [text for _, text in numbered]
        found = await self._verdicts(texts)
        for text, spans in zip(texts, found, strict=True):
            self._know(text, spans)
        found = await asyncio.to_thread(self._carried, texts, found)
        self._prompt = Counter(span.label for spans in found for span in spans)
        self._typed = frozenset().union(*map(typed_in, texts))
        self._recall()
        if not self._prompt:
            return self.request
        await self._decided("prompt", self._prompt)
        if self.rule.policy == "block":
            raise GuardBlocked(
                f"the request holds {_counted(self._prompt)}; the policy here lets none of them to a model",
                hint="leave identifiers out, or de-identify the text first: POST /v1/deidentify",
            )
        masked = await asyncio.to_thread(self._masked, texts, found) if self.rule.policy == "mask" else texts
        for (message, text), spans in zip(numbered, found, strict=True):
            if message is not None:
                self._prompt_marks += [self._mark(message, text, span) for span in spans]
        return replace(self.request, prompt=with_texts(self.request.prompt, iter(masked)))

    async def feed(self, piece: str, *, final: bool = False) -> str:
        """What may be shown now, after this piece of the answer. Raises as `screened`."""
        if self.rule.policy == "mark":
            self._shown.append(piece)
            if final:
                await self._mark_answer("".join(self._shown))
            return piece
        self._cuts.feed(piece, final=final)
        shown = []
        while (look := self._cuts.next_look()) is not None:
            shown.append(await self._further(look))
        if final:
            await self._tell(self._answer)
            memory = self.appliance.guard_memory
            memory.keep_numbers(memory.after(self._said, "assistant", "".join(self._shown)), self._numbers)
        return "".join(shown)

    async def screened_arguments(self, arguments: str) -> str:
        """What may be shown of a call's arguments, the text of a JSON object. MUST come before the last `feed`.

        Raises as `screened`. They are looked into as one text, names and numbers in it included.
        """
        text = _ESCAPED_SPACE.sub("  ", arguments)
        found = await self._all_of(text, await self._find([text]))
        spans = _without(found, find_placeholders(arguments), arguments)
        if self.rule.policy == "mark":
            self._answer.update(span.label for span in spans)
            return arguments
        spans = [span for span in spans if not self._is_asker_s(arguments[span.start : span.end], span.label)]
        self._answer.update(span.label for span in spans)
        shown = restore(self._hidden(arguments, spans), _as_json(self._numbers.asker))
        if spans and (self.rule.policy == "block" or not _is_json(shown)):
            await self._tell(self._answer)
            raise GuardBlocked(
                f"a call of a tool holds {_counted(self._answer)}; the policy here shows none of them",
                hint="ask without the names and numbers of persons",
            )
        return shown

    def report(self) -> GuardReport:
        """For the asker."""
        marks = tuple(self._prompt_marks), tuple(self._answer_marks)
        return GuardReport(self.rule.policy, dict(self._prompt), dict(self._answer), *marks, self._turns)

    async def _further(self, look: Look) -> str:
        """Look at the end of the answer and let go of what is certain."""
        ours = find_placeholders(look.text)
        found = await self._all_of(look.text, await self._find([look.text]))
        cut = self._cuts.cut(look, _without(found, ours, look.text), ours)
        hidden = [span for span in cut.spans if not self._is_asker_s(cut.text[span.start : span.end], span.label)]
        self._answer.update(span.label for span in hidden)
        if hidden and (self.rule.policy == "block" or self._is_bound):
            await self._tell(self._answer)
            raise GuardBlocked(
                f"the answer holds {_counted(self._answer)}; the policy here shows none of them",
                hint="ask without the names and numbers of persons"
                if self.rule.policy == "block"
                else "an answer bound to a schema cannot be masked: ask for text instead",
            )
        return self._restored(self._hidden(cut.text, hidden))

    def _hidden(self, text: str, spans: Sequence[Span]) -> str:
        """What the model wrote, with placeholders for what nobody is shown; from now on it is looked for everywhere."""
        self._know(text, spans)
        masked = mask(text, spans, self._numbers.model, self._typed | self._numbers.asker.taken())
        self._numbers = replace(self._numbers, model=masked.placeholders)
        return masked.text

    def _restored(self, text: str) -> str:
        """A part of the answer with the asker's own put back, as it leaves."""
        originals = self._numbers.asker
        if self._is_bound:
            originals = _as_json(originals)
        begin = sum(map(len, self._shown))
        self._answer_marks += [
            Mark(self._turns, begin + span.start, begin + span.end, span.label, put)
            for span, put in restored_places(text, originals)
        ]
        self._shown.append(restore(text, originals))
        return self._shown[-1]

    async def _mark_answer(self, text: str) -> None:
        spans = await self._all_of(text, await self._verdicts([text]))
        self._answer.update(span.label for span in spans)
        self._answer_marks = [Mark(self._turns, span.start, span.end, span.label) for span in spans]
        await self._tell(self._answer)

    @property
    def _turns(self) -> int:
        return 1 if isinstance(self.request.prompt, str) else len(self.request.prompt)

    @property
    def _is_bound(self) -> bool:
        """Whether the answer has a form that a placeholder would break."""
        return self.request.json_schema is not None or self.request.grammar is not None

    def _is_asker_s(self, text: str, label: str) -> bool:
        """Whether the model wrote what the asker wrote themselves: it is shown to them as it is."""
        return self._numbers.asker.number_of(label, text) is not None

    def _know(self, text: str, spans: Sequence[Span]) -> None:
        """Look for these through the whole conversation from now on; the oldest give way."""
        for span in spans:
            if span.label not in CARRIED:
                continue
            value = Value(span.label, text[span.start : span.end], span.score)
            key = (value.label, value.text)
            known = self._values.pop(key, value)
            self._values[key] = max(known, value, key=lambda each: each.score)
        for key in list(self._values)[: -self.appliance.config.guard.carried_max]:
            del self._values[key]

    async def _all_of(self, text: str, found: Sequence[tuple[Span, ...]]) -> tuple[Span, ...]:
        """What was found in one text, and what is known from elsewhere."""
        (all_of,) = await asyncio.to_thread(self._carried, [text], found)
        return all_of

    def _carried(self, texts: Sequence[str], found: Sequence[tuple[Span, ...]]) -> list[tuple[Span, ...]]:
        """What one message gives away is an identifier in all of them."""
        values = tuple(self._values.values())
        return [carry(text, spans, values) for text, spans in zip(texts, found, strict=True)]

    def _recall(self) -> None:
        """Who had which placeholder after the newest answer of this conversation that is remembered."""
        memory = self.appliance.guard_memory
        assert self.rule.detector is not None, "a guard has a detector"
        self._said = memory.conversation(self.exchange.principal.id, self.rule.detector.sha256)
        turns = self.request.prompt
        for turn in (Message("user", turns),) if isinstance(turns, str) else turns:
            assert isinstance(turn, Message), "looked at when the guard was made"
            self._said = memory.after(self._said, turn.role, turn.content)
            if turn.role == "assistant":
                self._numbers = memory.numbers(self._said) or self._numbers

    def _masked(self, texts: Sequence[str], found: Sequence[Sequence[Span]]) -> list[str]:
        """The texts with placeholders, numbered through the whole conversation."""
        taken, known, masked = self._typed | self._numbers.model.taken(), self._numbers.asker, []
        for text, spans in zip(texts, found, strict=True):
            done = mask(text, spans, known, taken)
            known = done.placeholders
            masked.append(done.text)
        self._numbers = replace(self._numbers, asker=known)
        return masked

    def _mark(self, message: int, text: str, span: Span) -> Mark:
        number = self._numbers.asker.number_of(span.label, text[span.start : span.end])
        put = "" if number is None or self.rule.policy != "mask" else placeholder(span.label, number)
        return Mark(message, span.start, span.end, span.label, put)

    async def _verdicts(self, texts: Sequence[str]) -> list[tuple[Span, ...]]:
        """What the detector marks in each text; only what it did not see lately is looked at."""
        memory, detector = self.appliance.guard_memory, self.rule.detector
        assert detector is not None, "a guard has a detector"
        keys = [memory.verdict_key(text, self.rule.policy, detector.sha256) for text in texts]
        known = {key: memory.verdict(key) for key in keys}
        new = {key: text for key, text in zip(keys, texts, strict=True) if known[key] is None}
        for key, spans in zip(new, await self._find(list(new.values())) if new else (), strict=True):
            known[key] = spans
            memory.keep_verdict(key, spans)
        return [known[key] or () for key in keys]

    async def _find(self, texts: Sequence[str]) -> list[tuple[Span, ...]]:
        """What the detector marks in each text."""
        entry = self.rule.detector
        assert entry is not None, "a guard has a detector"
        appliance = self.appliance

        def prepare() -> list[dispatch.Prepared]:
            config = appliance.config.specialists
            return [dispatch.prepare(Material(text), entry.manifest, appliance.wordpiece, config) for text in texts]

        prepared = await asyncio.to_thread(prepare)
        inputs = [each for one in prepared for each in one.inputs]
        try:
            await appliance.engine.load(entry.adapter())
        except ModelFileError as error:
            raise GuardUnavailable(f"nothing finds identifiers: {error.message}", hint=_REMEDY) from None
        outputs = await appliance.engine.encode(entry.sha256, inputs) if inputs else []

        def finish() -> list[tuple[Span, ...]]:
            found, place = [], 0
            for one in prepared:
                found.append(dispatch.finish(one, outputs[place : place + len(one.inputs)]).spans)
                place += len(one.inputs)
            return found

        return await asyncio.to_thread(finish)

    async def _tell(self, counts: Counter[str]) -> None:
        if counts:
            await self._decided("answer", counts)

    async def _decided(self, direction: str, counts: Counter[str]) -> None:
        """The decision as a record of the exchange: labels and counts."""
        about: dict[str, AttributeValue] = {**self.rule.attributes(), "direction": direction, "found": counts.total()}
        await self.exchange.note(GUARD_DECIDED, about | {f"label_{label}": count for label, count in counts.items()})


def account_of(principal: Principal) -> str:
    """The name that the rules know a caller by; whoever is at the machine itself works in `default`."""
    return person_of(principal).removeprefix("account:") if principal.kind != "local" else ""


def _as_json(placeholders: Placeholders) -> Placeholders:
    """Originals as they stand within a string of JSON."""
    entries = ((label, number, json.dumps(text)[1:-1]) for label, number, text in placeholders.entries)
    return Placeholders(tuple(entries))


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _without(spans: Sequence[Span], ours: Sequence[Span], text: str) -> list[Span]:
    """What of the spans lies outside of placeholders; a remainder without a letter or digit is nobody's."""
    left: list[Span] = []
    for span in spans:
        start = span.start
        for other in (*(one for one in ours if one.end > span.start and one.start < span.end), None):
            end = span.end if other is None else max(start, other.start)
            if any(character.isalnum() for character in text[start:end]):
                left.append(replace(span, start=start, end=end))
            start = end if other is None else min(other.end, span.end)
    return left


def _counted(counts: Counter[str]) -> str:
    """`2 identifiers (NAME 1, MRN 1)`: labels, never values."""
    total = counts.total()
    listed = ", ".join(f"{label} {count}" for label, count in sorted(counts.items()))
    return f"{total} identifier{'s' if total > 1 else ''} ({listed})"
