"""Calls of tools in what a model writes: text in, text and calls out, wherever it is cut. Pure, but for ids of calls.

    reader = CallReader(form_of(template), {"weather": None})
    reader.feed('Let me look.\\n<tool_call>\\n{"name": "weather", "argu')     # ["Let me look."]
    reader.feed('ments": {"city": "Oslo"}}\\n</tool_call>')                   # [WrittenCall("weather", …)]
    reader.finish()                                                         # [], or what was held back

Models write a call as text, in the form that their chat template taught them. Three forms are read here:

    hermes     <tool_call>{"name": …, "arguments": {…}}</tool_call>             Qwen, Hermes and many others;
               or the same as tags within <tool_call> (`call_tags.py`)          Qwen3-Coder and its relatives
    llama      {"name": …, "parameters": {…}}, at the beginning of the answer   Llama 3
    mistral    [TOOL_CALLS] [{"name": …, "arguments": {…}}, …], or [TOOL_CALLS]name[ARGS]{…}

A call counts when it is complete, names a tool that was offered and has an object for arguments. Everything else stays
the text that it is. Text is held back only where it may yet become a call, and never more than `CALL_CHARS_MAX` of it.
"""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, NoReturn

from appliance.engine.generation.call_tags import CLOSING, OPENING, call_of_tags
from appliance.engine.generation.grammar import CallForm
from appliance.engine.generation.schema_check import fits
from appliance.engine.generation.tools import parameters_of, strict_parameters
from appliance.engine.generation.values import Chunk, GenerationRequest, ToolCall

CALL_CHARS_MAX = 32 * 1024
CALLS_MAX = 32
_SPACE_MAX = 64  # white space before a call that is taken as part of it
_NAME_CHARS_MAX = 160
# The first is what begins a call anywhere in an answer; the others may stand within one.
MARKERS: dict[CallForm, tuple[str, ...]] = {
    "hermes": ("<tool_call>", "</tool_call>"),
    "llama": ("<|python_tag|>",),
    "mistral": ("[TOOL_CALLS]", "[ARGS]", "[CALL_ID]"),
}
_CLOSING: dict[CallForm, str] = {"hermes": "</tool_call>", "llama": "", "mistral": ""}
_KEYS = frozenset(("name", "arguments", "parameters", "id", "type", "function"))
_SPACES, _SEPARATORS = re.compile(r"\s*"), re.compile(r"[\s;,]*")
_FIRST_KEY = re.compile(r'[\[{\s]*"([^"\\]{0,16})"')
_NAMED = re.compile(r"([\w-]{1,64})(?:\[CALL_ID\]\w{1,64})?(?:\[ARGS\])?\s*", re.ASCII)
_NAMED_CHARS = re.compile(r"[\w\-\[\]\s]*", re.ASCII)
_HERMES = re.compile(r"""["']arguments\\?["']\s*:""")  # within a template, perhaps within a text of it
_LLAMA = re.compile(r"""["']name\\?["']: function name, ["']parameters\\?["']:""")
_OUTSIDE, _INSIDE = re.compile(r'[{}\[\]"]'), re.compile(r'["\\]')


@dataclass(frozen=True, slots=True)
class WrittenCall:
    """A call as the model wrote it: an offered name, and its arguments as the text of a JSON object."""

    name: str
    arguments: str


def form_of(template: str | None) -> CallForm | None:
    """In which form a model with this chat template writes calls; None: in none of these, or it does not say."""
    source = template or ""
    if "[TOOL_CALLS]" in source:
        return "mistral"
    if "<tool_call>" in source and "<tool_calls>" not in source and (_HERMES.search(source) or OPENING in source):
        return "hermes"
    return "llama" if _LLAMA.search(source) else None


class CallReader:
    """The text of one answer as it grows. `offered`: the tools, each with the schema that its arguments must fit, or
    None; `schemas`: of each, for values that are written as tags.

    `bound`: a grammar makes the answer a call, so the marker that begins one may be missing. With `parallel` unset,
    nothing that follows the first call is let through.
    """

    def __init__(
        self,
        form: CallForm,
        offered: Mapping[str, Any],
        schemas: Mapping[str, Mapping[str, Any]] | None = None,
        *,
        bound: bool = False,
        parallel: bool = True,
    ) -> None:
        self._form, self._offered, self._parallel = form, offered, parallel
        self._schemas = schemas or {}
        self._marker = MARKERS[form][0]
        self._bare = form == "llama" or (bound and form == "mistral")
        self._held = ""
        self._body: int | None = None  # where the value begins that may be a call; None: none has begun
        self._extent: _Extent | _TagExtent | None = None
        self._doubted = False  # no marker says that a call has begun
        self._edge = True  # nothing was read since the beginning or since a call
        self.calls = 0

    def feed(self, text: str) -> list[str | WrittenCall]:
        """Take a piece of the answer; returns what may be released now, in order."""
        return self._read(text, final=False)

    def finish(self) -> list[str | WrittenCall]:
        """Nothing follows: release what was held back."""
        return self._read("", final=True)

    def _read(self, text: str, *, final: bool) -> list[str | WrittenCall]:
        if self.calls and not self._parallel:
            return []
        self._held += text
        out: list[str | WrittenCall] = []
        while self._step(out, final):
            if self.calls and not self._parallel:
                self._held = ""
        return out

    def _step(self, out: list[str | WrittenCall], final: bool) -> bool:
        """One decision about what is held; False: more text is needed for the next."""
        if self._body is not None:
            return self._within(out, final)
        return self._at_edge(out, final) if self._edge else self._in_text(out, final)

    def _at_edge(self, out: list[str | WrittenCall], final: bool) -> bool:
        """At the beginning, or after a call: a call may follow without a marker, and white space may mean nothing."""
        between = _SEPARATORS if self._bare and self.calls else _SPACES
        found = between.match(self._held)
        assert found is not None
        place = found.end()
        if place == len(self._held) <= CALL_CHARS_MAX:
            if final and self.calls:
                self._held = ""
            self._edge = not final
            return final and bool(self._held)
        if self._bare and self._held[place : place + 1] in ("{", "[") and self.calls < CALLS_MAX:
            self._body, self._doubted = place, True
        self._edge = False
        return True

    def _in_text(self, out: list[str | WrittenCall], final: bool) -> bool:
        """Release text up to where a call begins, or may begin."""
        place = self._held.find(self._marker) if self.calls < CALLS_MAX else -1
        begun = 0 if final or place >= 0 else _begun(self._held, self._marker)
        text = self._held[: place if place >= 0 else len(self._held) - begun]
        kept = text.rstrip() if place >= 0 or not final else text
        kept = text[: max(len(kept), len(text) - _SPACE_MAX)]
        self._release(out, len(kept))
        if place >= 0:
            self._body, self._doubted = place + len(self._marker) - len(kept), False
        return place >= 0

    def _within(self, out: list[str | WrittenCall], final: bool) -> bool:
        """Look for the end of what may be a call."""
        assert self._body is not None
        start, name = self._value_start()
        if start < 0 or self._extent is None:
            return self._wait(out, final) if start == _MORE else self._no_call(out, self._body)
        if self._doubted and (key := _FIRST_KEY.match(self._held, start, start + _NAME_CHARS_MAX)) is not None:
            if key[1] not in _KEYS:
                return self._no_call(out, self._body)  # JSON that somebody asked for, which need not wait for its end
            self._doubted = False
        end = self._extent.find(self._held)
        if end is None or end > CALL_CHARS_MAX:
            return self._wait(out, final)
        after = self._closed_at(end, final)
        if after is None:
            return False
        calls = self._calls_of(self._held[start:end], name)
        if calls is None or self.calls + len(calls) > CALLS_MAX:
            return self._no_call(out, end)
        calls = calls if self._parallel else calls[:1]
        out += calls
        self.calls += len(calls)
        self._held, self._body, self._extent, self._edge = self._held[after:], None, None, True
        return True

    def _value_start(self) -> tuple[int, str]:
        """Where the JSON begins, and the name that stands before it; `_MORE` and `_NONE` instead of a place."""
        assert self._body is not None
        if self._extent is not None:
            return self._extent.start, self._extent.name
        place = self._body
        named = _NAMED_CHARS if self._form == "mistral" else _SPACES
        found = named.match(self._held, place, place + _NAME_CHARS_MAX)
        assert found is not None
        before, stop = found[0], found.end()
        if self._form == "mistral" and before.lstrip().startswith("["):
            stop, before = place + len(before) - len(before.lstrip()), ""
        if stop == place + _NAME_CHARS_MAX:
            return _NONE, ""
        if stop == len(self._held):
            return _MORE, ""
        if self._form == "hermes" and self._held[stop] == "<":
            tag = self._held[stop : stop + len(OPENING)]
            if tag == OPENING:
                self._extent = _TagExtent(stop)
            return (stop if tag == OPENING else _MORE if OPENING.startswith(tag) else _NONE), ""
        name = _NAMED.fullmatch(before.lstrip()) if before.strip() else None
        if self._held[stop] != "{" and not (self._held[stop] == "[" and not before.strip()):
            return _NONE, ""
        if before.strip() and name is None:
            return _NONE, ""
        self._extent = _Extent(stop, name[1] if name else "")
        return stop, self._extent.name

    def _closed_at(self, end: int, final: bool) -> int | None:
        """Where the text goes on after a value that ends at `end`; None: the closing marker may be on its way."""
        closing = _CLOSING[self._form]
        if not closing:
            return end
        rest = self._held[end : end + _SPACE_MAX + len(closing)]
        said = rest.lstrip()
        if said.startswith(closing):
            return end + len(rest) - len(said) + len(closing)
        return None if closing.startswith(said) and len(rest) < _SPACE_MAX + len(closing) and not final else end

    def _wait(self, out: list[str | WrittenCall], final: bool) -> bool:
        """For the rest of it, as long as that may come."""
        if final or len(self._held) > CALL_CHARS_MAX:
            return self._no_call(out, min(len(self._held), CALL_CHARS_MAX))
        return False

    def _no_call(self, out: list[str | WrittenCall], end: int) -> bool:
        """What looked like a call until here is text."""
        self._body, self._extent, self._edge = None, None, False
        self._release(out, end)
        return True

    def _release(self, out: list[str | WrittenCall], end: int) -> None:
        if end:
            out.append(self._held[:end])
            self._held = self._held[end:]

    def _calls_of(self, value: str, name: str) -> list[WrittenCall] | None:
        """The calls that a JSON value means; None: it means none, or one that was not offered."""
        if value.startswith(OPENING):
            tagged = call_of_tags(value, self._schemas)
            call = None if tagged is None else self._call_of({"name": tagged[0], "arguments": tagged[1]})
            return None if call is None else [call]
        try:
            parsed = json.loads(value, parse_constant=_no_number)
        except (ValueError, RecursionError):
            return None
        said = [{"name": name, "arguments": parsed}] if name else parsed if isinstance(parsed, list) else [parsed]
        calls = [self._call_of(each) for each in said]
        return None if None in calls or not calls else [call for call in calls if call is not None]

    def _call_of(self, said: Any) -> WrittenCall | None:
        if isinstance(said, dict) and isinstance(said.get("function"), dict):
            said = said["function"]
        if not isinstance(said, dict) or not said.keys() <= _KEYS:
            return None
        name, arguments = said.get("name"), said.get("arguments", said.get("parameters"))
        if not isinstance(name, str) or name not in self._offered:
            return None
        try:
            arguments = json.loads(arguments, parse_constant=_no_number) if isinstance(arguments, str) else arguments
            text = json.dumps(arguments, ensure_ascii=False, allow_nan=False)
            text.encode()
        except (ValueError, RecursionError):
            return None
        schema = self._offered[name]
        if not isinstance(arguments, dict) or (schema is not None and not fits(arguments, schema)):
            return None
        return WrittenCall(name, text)


class AnswerCalls:
    """The chunks of one answer to a request with tools, with its calls taken out of their text."""

    def __init__(self, request: GenerationRequest, form: CallForm, *, bound: bool) -> None:
        offered = strict_parameters(request.tools)
        schemas = parameters_of(request.tools)
        self._reader = CallReader(form, offered, schemas, bound=bound, parallel=request.parallel_calls)

    def read(self, chunk: Chunk) -> Chunk | None:
        """What of it may go on; None: nothing yet."""
        found = self._reader.feed(chunk.text) + (self._reader.finish() if chunk.finish else [])
        text = "".join(piece for piece in found if isinstance(piece, str))
        calls = tuple(ToolCall(new_call_id(), call.name, call.arguments) for call in found if not isinstance(call, str))
        finish = chunk.finish
        if finish is not None and self._reader.calls and finish.reason == "stop":
            finish = replace(finish, reason="tool_calls")
        if not (text or calls or finish or chunk.logprobs):
            return None
        return Chunk(text, chunk.tokens, chunk.logprobs, finish, calls)


def new_call_id() -> str:
    """A name that results are sent under. Random: it is no part of what the model says."""
    return f"call_{secrets.token_hex(12)}"


_MORE, _NONE = -1, -2


class _Extent:
    """Where a JSON object or list ends; every character is looked at once, however the text arrives."""

    def __init__(self, start: int, name: str = "") -> None:
        self.start, self.name = start, name
        self._place, self._depth, self._inside, self._end = start, 0, False, -1

    def find(self, text: str) -> int | None:
        """The place after its last bracket; None: it is not there yet."""
        while self._end < 0:
            found = (_INSIDE if self._inside else _OUTSIDE).search(text, self._place)
            if found is None:
                self._place = len(text)
                return None
            mark = found[0]
            if mark == "\\" and found.end() == len(text):
                self._place = found.start()  # what it escapes is not there yet
                return None
            self._place = found.end() + (mark == "\\")
            if mark == '"':
                self._inside = not self._inside
            elif mark != "\\":
                self._depth += 1 if mark in "{[" else -1
                self._end = self._place if self._depth == 0 else -1
        return self._end


class _TagExtent:
    """The same for a call written as tags."""

    name = ""

    def __init__(self, start: int) -> None:
        self.start = self._place = start
        self._end = -1

    def find(self, text: str) -> int | None:
        """The place after its closing tag; None: it is not there yet."""
        if self._end < 0:
            found = text.find(CLOSING, self._place)
            self._place = max(self.start, len(text) - len(CLOSING))
            self._end = found + len(CLOSING) if found >= 0 else -1
        return None if self._end < 0 else self._end


def _begun(text: str, marker: str) -> int:
    """Length of the longest end of `text` with which `marker` begins."""
    return next((size for size in range(len(marker) - 1, 0, -1) if text.endswith(marker[:size])), 0)


def _no_number(_name: str) -> NoReturn:
    raise ValueError("NaN and Infinity are no JSON")
