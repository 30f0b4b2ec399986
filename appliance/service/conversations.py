"""Conversations with models that write: kept sealed for their owner, answered under the release gate.

    one = await create_conversation(appliance, principal, Wish(model="qwen3-4b", title="Letter"))
    async for told in converse(appliance, principal, one.id, Ask("Write it")):   # pieces, the finish, what is kept
        ...
    await delete_conversation(appliance, principal, one.id)                      # its key is destroyed

A conversation is its owner's alone: to everybody else it is not there, whatever their role. What is said in it goes
into the audit log as everywhere, under the keys of the person or the subject; deleting a conversation does not touch
that. Where it no longer fits the model, its oldest turns are left out, and the answer says so (`about.left_out`).
Editing a message truncates: what followed it is gone from the conversation, and stays in the log.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Any, TypeVar

import msgspec

from appliance.accounts.actions import Action, actions_of, authorize
from appliance.audit.conversations import Conversation, Conversations, ConversationView, Settings, Turn, new_id
from appliance.audit.gate import Released
from appliance.config import ConversationsConfig
from appliance.engine.generation.values import Finish, GenerationRequest, Message, Sampling
from appliance.errors import (
    ApplianceError,
    Conflict,
    ConversationNotFound,
    InputEmpty,
    InputNotText,
    InputTooLong,
    InvalidRequest,
    NotFound,
)
from appliance.service import generation
from appliance.service.appliance import Appliance
from appliance.service.chat import Chosen, answer_words, choose
from appliance.service.events import announced, code_of, record_reading
from appliance.service.generation import Ended, Piece, Wanted
from appliance.service.guard import GuardReport, Mark
from appliance.service.requests import answer
from appliance.service.subjects import check_subject
from appliance.specialists.router import AUTO
from appliance.types import AttributeValue, Principal, Receipt

T = TypeVar("T")
TITLE_CHARS_MAX = 120
MODEL_CHARS_MAX = 96
DELETED = "conversation-deleted"  # the reason in the public record
_TUNED = ("system", "temperature", "max_tokens", "seed")
_ID_DIGITS = 32
logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Wish:
    """What somebody wants of a new conversation, or of one that is there: only what is in `given` counts then.

    `subject`: whom it is about, for good; its contents go when that subject's are destroyed.
    """

    model: str = ""
    title: str = ""
    subject: str = ""
    system: str = ""
    temperature: float | None = None
    max_tokens: int | None = None
    seed: int | None = None
    given: frozenset[str] = frozenset()


@dataclass(frozen=True, slots=True)
class Ask:
    """What is asked: a new message; with `at`, another text for the message there; neither: the last answer again."""

    text: str | None = None
    at: int | None = None


@dataclass(frozen=True, slots=True)
class Kept:
    """The answer as it is kept, and where. It holds what was released before it and nothing else."""

    turn: Turn
    at: int


Told = Released[Any] | Kept


async def list_conversations(appliance: Appliance, principal: Principal) -> list[ConversationView]:
    """One's own, the one that was changed last first. Raises `PermissionDenied`."""
    authorize(principal, Action.SPECIALIST_RUN)
    await record_reading(appliance.audit, principal, "conversation.list")
    return await asyncio.to_thread(_kept(appliance).list_of, principal.id)


async def show_conversation(appliance: Appliance, principal: Principal, conversation: str) -> Conversation:
    """One with its turns. Raises `PermissionDenied`, `ConversationNotFound`, `DecryptionFailed` if it was altered."""
    authorize(principal, Action.SPECIALIST_RUN)
    id_ = parse_id(conversation)
    found = await asyncio.to_thread(_kept(appliance).read, principal.id, id_)
    await record_reading(appliance.audit, principal, "conversation.show", {"conversation": id_.hex()})
    return found


def may_tune(principal: Principal) -> bool:
    """Whether instructions and parameters are theirs to set."""
    return Action.CONVERSATION_TUNE in actions_of(principal)


async def create_conversation(appliance: Appliance, principal: Principal, wish: Wish) -> Conversation:
    """Begin one. Raises `PermissionDenied`, `InvalidRequest` and its kinds, `Conflict` where there are too many."""
    authorize(principal, Action.SPECIALIST_RUN)
    settings = _checked(appliance.config.conversations, principal, wish, Settings(title="", model=""))
    subject, id_ = check_subject(wish.subject), new_id()
    about: dict[str, AttributeValue] = {"conversation": id_.hex(), "model": settings.model, "subject": bool(subject)}
    async with announced(appliance.audit, principal.id, "conversation.create", about):
        return await asyncio.to_thread(_kept(appliance).create, id_, principal.id, settings, subject)


async def change_conversation(
    appliance: Appliance, principal: Principal, conversation: str, wish: Wish
) -> Conversation:
    """Rename it, or choose otherwise. Raises as `create_conversation`, and `ConversationNotFound`."""
    authorize(principal, Action.SPECIALIST_RUN)
    id_, kept = parse_id(conversation), _kept(appliance)
    now = (await asyncio.to_thread(kept.read, principal.id, id_)).settings
    settings = _checked(appliance.config.conversations, principal, wish, now)
    about: dict[str, AttributeValue] = {"conversation": id_.hex(), "fields": " ".join(sorted(wish.given))}
    changed = {name: getattr(settings, name) for name in wish.given & set(Settings.__struct_fields__)}
    async with announced(appliance.audit, principal.id, "conversation.change", about):
        # Made from what is there by then: two changes of different fields both last.
        change: Callable[[Settings], Settings] = lambda there: msgspec.structs.replace(there, **changed)  # noqa: E731
        return await asyncio.to_thread(kept.change, principal.id, id_, change)


async def delete_conversation(appliance: Appliance, principal: Principal, conversation: str) -> None:
    """Destroy its key, for ever, then what is left of it.

    Raises `PermissionDenied`, `ConversationNotFound`, `UnderLegalHold` (recorded) where a hold covers the class or
    whom it is about. A crash in between leaves rows that nothing opens; the server takes them later.
    """
    authorize(principal, Action.SPECIALIST_RUN)
    id_, kept = parse_id(conversation), _kept(appliance)
    keys = await asyncio.to_thread(kept.keys, principal.id, id_)
    async with announced(appliance.audit, principal.id, "conversation.delete", {"conversation": id_.hex()}) as step:
        try:
            about = () if keys.subject is None else (keys.subject,)
            certificate = await appliance.audit.shred_scopes([keys.own], DELETED, principal.id, about=about)
            step.attributes |= {"seq": certificate.seq, "grade": certificate.grade}
        except NotFound:
            step.attributes["seq"] = -1  # its time was over, or it was cut off while being deleted
        await asyncio.to_thread(kept.remove, principal.id, id_)


async def converse(
    appliance: Appliance, principal: Principal, conversation: str, ask: Ask
) -> AsyncGenerator[Told, None]:
    """The answer, piece by piece, then its finish, then `Kept`; of a specialist `Kept` alone. Nothing changes before.

    Raises what `choose`, `answer` and `generation.stream` raise, `ConversationNotFound`, and `Conflict` where the
    conversation went on meanwhile.
    A consumer that stops early MUST close it; what was written so far is kept as `stopped`.
    """
    authorize(principal, Action.SPECIALIST_RUN)
    id_, kept = parse_id(conversation), _kept(appliance)
    one = await asyncio.to_thread(kept.read, principal.id, id_)
    step = _step(one, ask)
    kept.check_size((*one.turns[: step.keep], *step.turns, _turn("assistant", "")))
    about: dict[str, AttributeValue] = {"conversation": id_.hex(), "turn": step.answer_at, "mode": step.mode}
    await record_reading(appliance.audit, principal, "conversation.answer", about)
    wanted = Wanted(one.settings.model, _request(one, step, principal), one.subject, may_shorten=True)
    chosen = await choose(appliance, principal, wanted)
    if not chosen.model:
        turn = await _said(appliance, principal, chosen)
        both, expected = [*step.turns, turn], len(one.turns)
        await _to_the_end(kept.put, principal.id, id_, expected=expected, keep=step.keep, turns=both)
        yield Kept(turn, step.answer_at)
        return
    writing = _Answer(chosen.model)

    async def keep_question() -> None:
        expected = len(one.turns)
        await _to_the_end(kept.put, principal.id, id_, expected=expected, keep=step.keep, turns=step.turns)
        writing.at = step.answer_at

    async def keep_answer(finish: str) -> Kept:
        assert writing.at is not None
        turn, at, writing.at = writing.turn(finish), writing.at, None
        await _to_the_end(kept.put, principal.id, id_, expected=at, keep=at, turns=[turn])
        return Kept(turn, at)

    last: Kept | None = None
    try:
        async with aclosing(generation.stream(appliance, principal, chosen.wanted)) as pieces:
            async for released in pieces:
                if not writing.begun:
                    writing.begun = True
                    await keep_question()
                writing.take(released)
                if isinstance(released.value, Finish):
                    last = await keep_answer(released.value.reason)
                yield released
    except BaseException as error:
        # The exchange is closed in the log by now. What left before is the person's and is kept for them.
        if writing.at is not None and writing.text:
            await _keep_what_is_there(keep_answer, "failed" if isinstance(error, ApplianceError) else "stopped")
        raise
    if last is not None:
        yield last


async def _said(appliance: Appliance, principal: Principal, chosen: Chosen) -> Turn:
    """What no model wrote: a specialist's answer in words, or, where nobody was chosen, what the person can do."""
    if not chosen.specialist:
        assert chosen.route is not None, "nobody was chosen because somebody was to choose"
        return _covered(chosen.advice, chosen.route.receipt, model=AUTO, finish="advice")
    wanted = chosen.specialist_request()
    released = await answer(appliance, principal, wanted)
    words = answer_words(released.value, wanted.text or "")
    return _covered(words, released.receipt, model=chosen.specialist, finish="stop")


@dataclass(frozen=True, slots=True)
class _Step:
    """What one request does: so many turns stay, these follow, then the answer."""

    mode: str  # message, edit or again
    keep: int
    turns: tuple[Turn, ...]

    @property
    def answer_at(self) -> int:
        return self.keep + len(self.turns)


def _step(one: Conversation, ask: Ask) -> _Step:
    count = len(one.turns)
    if ask.text is None:
        if ask.at is not None:
            raise InvalidRequest("a message is edited by another text for it", hint="send `text` with `at`")
        asked = [at for at, turn in enumerate(one.turns) if turn.role == "user"]
        if not asked:
            raise Conflict("nothing was asked yet", hint="send a message")
        return _Step("again", asked[-1] + 1, ())
    if not ask.text.strip():
        raise InputEmpty("the message is empty", hint="write something")
    question = _turn("user", ask.text)
    if ask.at is not None:
        if not 0 <= ask.at < count or one.turns[ask.at].role != "user":
            raise Conflict(f"turn {ask.at} is no message of yours", hint="open the conversation again and look")
        return _Step("edit", ask.at, (question,))
    if count and one.turns[-1].role == "user":
        raise Conflict("the last message has no answer", hint="let it be answered again, or edit it")
    return _Step("message", count, (question,))


def _request(one: Conversation, step: _Step, principal: Principal) -> GenerationRequest:
    settings = one.settings
    turns = [Message(turn.role, turn.text) for turn in (*one.turns[: step.keep], *step.turns)]
    if settings.system:
        turns.insert(0, Message("system", settings.system))
    usual = Sampling()
    temperature = usual.temperature if settings.temperature is None else settings.temperature
    return GenerationRequest(
        prompt=tuple(turns),
        principal=principal.id,
        sampling=Sampling(temperature, seed=settings.seed),
        max_tokens=settings.max_tokens,
    )


@dataclass(slots=True)
class _Answer:
    """What was released of one answer so far. Owned by the task that serves it."""

    model: str
    begun: bool = False
    at: int | None = None  # where it is to be kept, from when its question is kept until it is
    pieces: list[str] = field(default_factory=list)
    receipt: Receipt | None = None
    about: dict[str, Any] = field(default_factory=dict)

    @property
    def text(self) -> str:
        return "".join(self.pieces)

    def take(self, released: Released[Any]) -> None:
        value = released.value
        if isinstance(value, Piece):
            self.pieces.append(value.text)
        elif isinstance(value, Ended):
            if value.guard is not None:
                self.about["guard"] = _guard_about(value.guard)
            if value.left_out:
                self.about["left_out"] = value.left_out
        self.receipt = released.receipt

    def turn(self, finish: str) -> Turn:
        assert self.receipt is not None, "something was released"
        return _covered(self.text, self.receipt, model=self.model, finish=finish, about=self.about)


def _covered(text: str, receipt: Receipt, **more: Any) -> Turn:
    return _turn("assistant", text, record_id=receipt.record_id.hex(), seq=receipt.seq, **more)


def _guard_about(report: GuardReport) -> dict[str, Any]:
    """What the guard found, as it is kept beside the answer: counts by label, and places in question and answer."""
    question = [mark for mark in report.prompt_marks if mark.message == report.turns - 1]
    return {
        "policy": report.policy,
        "prompt": dict(report.prompt),
        "answer": dict(report.answer),
        "question_marks": [_mark(mark) for mark in question],
        "answer_marks": [_mark(mark) for mark in report.answer_marks],
    }


def _mark(mark: Mark) -> dict[str, Any]:
    where = {"start": mark.start, "end": mark.end, "label": mark.label}
    return where | ({"placeholder": mark.placeholder} if mark.placeholder else {})


async def _keep_what_is_there(keep_answer: Callable[[str], Any], finish: str) -> None:
    try:
        await keep_answer(finish)
    except ApplianceError as error:  # deleted or changed meanwhile, or the disk is full: the log has all of it
        logger.warning("an answer that was cut off is not kept in its conversation: %s", code_of(error))


async def _to_the_end(work: Callable[..., T], *args: Any, **options: Any) -> T:
    """`work` in a thread, waited for through any number of cancellations: a database transaction ends by itself."""
    working = asyncio.ensure_future(asyncio.to_thread(work, *args, **options))
    cancelled: asyncio.CancelledError | None = None
    while not working.done():
        try:
            await asyncio.wait({working})
        except asyncio.CancelledError as error:
            cancelled = error
    result = working.result()
    if cancelled is not None:
        raise cancelled
    return result


def _checked(limits: ConversationsConfig, principal: Principal, wish: Wish, there: Settings) -> Settings:
    """`there` with what is given, in bounds. Raises `PermissionDenied`, `InvalidRequest` and its kinds."""
    if wish.given & set(_TUNED):
        authorize(principal, Action.CONVERSATION_TUNE)
    given = {name: getattr(wish, name) for name in wish.given & set(Settings.__struct_fields__)}
    settings = msgspec.structs.replace(there, **given)
    settings = msgspec.structs.replace(settings, title=" ".join(settings.title.split()))
    if not settings.model or len(settings.model) > MODEL_CHARS_MAX or not settings.model.isprintable():
        raise InvalidRequest("no model is named", hint="`appliance models list` shows those that are here")
    if len(settings.title) > TITLE_CHARS_MAX:
        raise InputTooLong(f"the title has {len(settings.title)} characters; {TITLE_CHARS_MAX} are taken")
    if len(settings.system) > limits.system_chars_max:
        raise InputTooLong(
            f"the instructions have {len(settings.system)} characters; {limits.system_chars_max} are taken",
            hint="shorten them, or raise conversations.system_chars_max in config.toml",
        )
    for text in (settings.title, settings.system):
        _check_text(text)
    return settings


def _turn(role: Any, text: str, **more: Any) -> Turn:
    _check_text(text)
    return Turn(role=role, text=text, time_ms=int(time.time() * 1000), **more)


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError:
        raise InputNotText("the text has lone surrogates, so it is no text", hint="send valid Unicode") from None


def parse_id(conversation: str) -> bytes:
    """The id in a path. Raises `ConversationNotFound`: what is no id names nothing."""
    try:
        if len(conversation) == _ID_DIGITS and conversation == conversation.lower():
            return bytes.fromhex(conversation)
    except ValueError:
        pass
    raise ConversationNotFound("there is no such conversation of yours", hint="list them: GET /v1/conversations")


def _kept(appliance: Appliance) -> Conversations:
    assert appliance.conversations is not None, "a server has them"
    return appliance.conversations
