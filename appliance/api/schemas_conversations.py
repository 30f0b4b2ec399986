"""JSON of `/v1/conversations`. Pure.

body.wish()                       # what is given, and only that
conversation_body(one)            # a conversation with its turns
"""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from pydantic import BaseModel, ConfigDict, Field

from appliance.audit.conversations import Conversation, ConversationView, Settings, Turn
from appliance.service.conversations import Ask, Wish

TEXT_CHARS_MAX = 5_000_000  # the site's own bound is tighter; this one is for the parser


class _Body(BaseModel):
    model_config = ConfigDict(extra="forbid", frozen=True)


class ConversationChange(_Body):
    """What to change; fields that are left out stay. Instructions and parameters need `conversation.tune`."""

    title: str | None = Field(default=None, max_length=1000)
    model: str | None = Field(default=None, max_length=1000, description="id of a model, as `/v1/models` lists them")
    system: str | None = Field(default=None, max_length=TEXT_CHARS_MAX, description="instructions before everything")
    temperature: float | None = Field(default=None, ge=0, le=2)
    max_tokens: int | None = Field(default=None, ge=1, le=1_000_000)
    seed: int | None = Field(default=None, ge=-(2**63), lt=2**63)

    def wish(self) -> Wish:
        """Null is the usual value of a number, and an empty text."""
        return Wish(
            model=self.model or "",
            title=self.title or "",
            system=self.system or "",
            temperature=self.temperature,
            max_tokens=self.max_tokens,
            seed=self.seed,
            given=frozenset(self.model_fields_set),
        )


class NewConversation(ConversationChange):
    """A new conversation."""

    model: str = Field(max_length=1000, description="id of a model, as `/v1/models` lists them")
    subject: str = Field(default="", max_length=1000, description="whom it is about; see the other routes")

    def wish(self) -> Wish:
        """As the service takes it."""
        return replace(super().wish(), subject=self.subject)


class AnswerRequest(_Body):
    """A new message; with `at`, another text for the message there; neither: the last answer again."""

    text: str | None = Field(default=None, max_length=TEXT_CHARS_MAX)
    at: int | None = Field(default=None, ge=0, description="which message is replaced; what follows it goes")

    def ask(self) -> Ask:
        """As the service takes it."""
        return Ask(self.text, self.at)


def view_body(view: ConversationView) -> dict[str, Any]:
    """A conversation in a list. `altered`: it cannot be opened, only deleted."""
    settings = view.settings
    return {
        "id": view.id.hex(),
        "title": settings.title if settings else "",
        "model": settings.model if settings else "",
        "turns": view.turns,
        "created": _time(view.created_ms),
        "changed": _time(view.changed_ms),
        "altered": settings is None,
    }


def conversation_body(one: Conversation) -> dict[str, Any]:
    """A conversation with its turns."""
    return {
        "id": one.id.hex(),
        **_settings_body(one.settings),
        "subject": one.subject,
        "created": _time(one.created_ms),
        "changed": _time(one.changed_ms),
        "turns": [turn_body(turn, at) for at, turn in enumerate(one.turns)],
    }


def turn_body(turn: Turn, at: int) -> dict[str, Any]:
    """One turn; an answer says who gave it, why it ended and which record covers it."""
    body: dict[str, Any] = {"at": at, "role": turn.role, "text": turn.text, "time": _time(turn.time_ms)}
    if turn.role == "assistant":
        record = {"record_id": turn.record_id, "seq": turn.seq} if turn.record_id else None
        body |= {"model": turn.model, "finish": turn.finish, "record": record}
    return body | ({"about": dict(turn.about)} if turn.about else {})


def _settings_body(settings: Settings) -> dict[str, Any]:
    return {name: getattr(settings, name) for name in Settings.__struct_fields__}


def _time(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()
