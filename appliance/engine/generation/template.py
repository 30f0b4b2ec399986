"""A model's chat template, rendered where it can do no harm: it comes with the weights and is somebody else's code.

    template = ChatTemplate(source, bos="<s>", eos="</s>")        # ModelFileRefused when it is no template
    template.render([{"role": "user", "content": "Hello"}], tools=None)

Jinja's immutable sandbox keeps it from attributes that begin with an underscore and from changing what it is given.
That leaves what a sandbox does not bound, and is bounded here: the lines it executes (counted by a trace function, so
that a loop ends after the same number of lines on every machine), the text it makes at any moment, and the methods
and filters it may call, which are those that templates of chat models use. What it renders knows which characters the
template wrote and which came with the conversation (`provenance.py`). Nothing that a template does is an error
of the server: it ends as `ModelFileRefused` for a template that misbehaves and as `InvalidRequest` for a conversation
that the template itself refuses (`raise_exception`).
"""

from __future__ import annotations

import json
import sys
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime
from functools import partial
from types import FrameType
from typing import Any

import jinja2
import jinja2.compiler
import jinja2.ext
import jinja2.nodes
from jinja2.sandbox import ImmutableSandboxedEnvironment

from appliance.engine.generation.provenance import Traced, joined, of_answer, own
from appliance.errors import ApplianceError, InvalidRequest, ModelFileRefused

# Templates put a role between the halves of a control token's name: these may stand there, any other is content.
ROLES = frozenset(("system", "developer", "user", "assistant", "tool", "function", "ipython", "observation"))
SOURCE_CHARS_MAX = 256 * 1024
TEXT_CHARS_MAX = 8 * 1024 * 1024
LINES_MAX = 500_000
LINES_MIN = 20_000
_NODES_MAX = 200_000
_METHODS: dict[type, frozenset[str]] = {
    str: frozenset(
        "strip lstrip rstrip split rsplit splitlines startswith endswith upper lower title capitalize find rfind "
        "index count removeprefix removesuffix isdigit isalpha isspace partition rpartition".split()
    ),
    dict: frozenset("get items keys values".split()),
    list: frozenset("index count".split()),
    tuple: frozenset("index count".split()),
}
_FILTERS = frozenset(
    "abs attr batch bool capitalize count d default dictsort e escape first float groupby int items last length list "
    "lower map max min reject rejectattr reverse round safe select selectattr slice sort string sum title tojson trim "
    "unique upper".split()
) - {"attr"}


class _TemplateFault(Exception):
    """The template did what it may not. The text says what."""


class _ConversationRefused(Exception):
    """The template called `raise_exception`."""


class _Compiler(jinja2.compiler.CodeGenerator):
    """Concatenation goes through the environment, like every other operator; constants are the template's own."""

    def visit_Const(self, node: jinja2.nodes.Const, frame: jinja2.compiler.Frame) -> None:
        self.write(self._constant(node.as_const(frame.eval_ctx)))

    def _output_const_repr(self, group: Iterable[Any]) -> str:
        return self._owned("".join(group))

    def _constant(self, value: Any) -> str:
        """Source of a value without variables; Jinja folds lists and mappings of constants into one."""
        if isinstance(value, str):
            return self._owned(value)
        if isinstance(value, dict):
            return (
                "{" + ", ".join(f"{self._constant(key)}: {self._constant(each)}" for key, each in value.items()) + "}"
            )
        if isinstance(value, list):
            return "[" + ", ".join(map(self._constant, value)) + "]"
        if isinstance(value, tuple):
            return "(" + "".join(f"{self._constant(each)}, " for each in value) + ")"
        return str(value) if isinstance(value, float) else repr(value)

    def _owned(self, text: str) -> str:
        assert isinstance(self.environment, _Environment)
        self.environment.owned.append(own(text))
        return f"environment.owned[{len(self.environment.owned) - 1}]"

    def visit_Concat(self, node: jinja2.nodes.Concat, frame: jinja2.compiler.Frame) -> None:
        self.write("environment.concatenate((")
        for part in node.nodes:
            self.visit(part, frame)
            self.write(", ")
        self.write("))")


class _GenerationTag(jinja2.ext.Extension):
    """`{% generation %}` marks what training uses; here its content is simply rendered."""

    tags = {"generation"}  # noqa: RUF012  # jinja's own declaration

    def parse(self, parser: Any) -> list[jinja2.nodes.Node]:
        next(parser.stream)
        return parser.parse_statements(("name:endgeneration",), drop_needle=True)


class _Environment(ImmutableSandboxedEnvironment):
    code_generator_class = _Compiler
    intercepted_binops = frozenset(("+", "*", "%", "**"))
    concat = staticmethod(joined)  # what macros and blocks make of their pieces

    def __init__(self) -> None:
        self.owned: list[Traced] = []  # the constants of the one template that this environment compiles
        super().__init__(
            trim_blocks=True,
            lstrip_blocks=True,
            autoescape=False,
            extensions=[jinja2.ext.loopcontrols, _GenerationTag],
            finalize=_printable,
        )
        replaced: dict[str, Callable[..., Any]] = {
            "tojson": _to_json,
            "join": _join,
            "replace": _replace,
            "string": _string,
            "indent": _indent,
        }
        self.filters = {name: call for name, call in self.filters.items() if name in _FILTERS} | replaced
        self.globals = {
            "range": _bounded_range,
            "namespace": self.globals["namespace"],
            "dict": dict,
            "raise_exception": _raise_exception,
            "strftime_now": _strftime_now,
        }

    def is_safe_attribute(self, obj: Any, attr: str, value: Any) -> bool:
        """Values of mappings are reached as items; of other objects, only the methods listed above."""
        if not super().is_safe_attribute(obj, attr, value):
            return False
        if isinstance(obj, jinja2.runtime.LoopContext | jinja2.utils.Namespace | jinja2.runtime.Macro):
            return True
        return any(isinstance(obj, kind) and attr in names for kind, names in _METHODS.items())

    def unsafe_undefined(self, obj: Any, attribute: str) -> Any:
        """Reaching for what is not allowed ends the template instead of passing for something empty."""
        raise _TemplateFault(f"reaches for the attribute {attribute[:40]!r}")

    def wrap_str_format(self, value: Any) -> Any:
        """`str.format` and `format_map` may ask for any width; `replace` is done like the filter, within its bound."""
        name = getattr(value, "__name__", "")
        if name in ("format", "format_map", "replace") and isinstance(getattr(value, "__self__", None), str):
            if name == "replace":
                return partial(_replace, value.__self__)
            raise _TemplateFault("formats a text")
        return None

    def call_binop(self, context: Any, operator: str, left: Any, right: Any) -> Any:
        if operator == "+":
            _bounded(_size(left) + _size(right))
            if isinstance(left, str) and isinstance(right, str):
                return joined((left, right))
        elif operator == "*":
            for one, other in ((left, right), (right, left)):
                if isinstance(one, str | list | tuple):
                    _bounded(_size(one) * other if isinstance(other, int) else 0)
        elif operator == "%" and isinstance(left, str):
            raise _TemplateFault("formats a text with %")
        elif operator == "**":
            raise _TemplateFault("computes a power")
        if isinstance(left, int) and isinstance(right, int) and left.bit_length() + right.bit_length() > 256:
            raise _TemplateFault("computes with very large numbers")
        return super().call_binop(context, operator, left, right)

    def concatenate(self, parts: Sequence[Any]) -> str:
        """What `~` does."""
        texts = [_string(part) for part in parts]
        _bounded(sum(map(len, texts)))
        return joined(texts)


class ChatTemplate:
    """One compiled template; belongs to one thread."""

    def __init__(self, source: str, *, bos: str, eos: str) -> None:
        if len(source) > SOURCE_CHARS_MAX:
            raise _refused(f"has {len(source)} characters, at most {SOURCE_CHARS_MAX} are taken")
        self._tokens = {"bos_token": own(bos), "eos_token": own(eos)}
        try:
            self._template = _Environment().from_string(source)
        except (jinja2.TemplateError, RecursionError, ValueError, OverflowError, MemoryError) as error:
            raise _refused(f"is no template: {type(error).__name__}") from None

    def render(self, messages: Sequence[Mapping[str, Any]], tools: Sequence[Mapping[str, Any]] | None = None) -> str:
        """The prompt, with the opening of the assistant's turn. Raises `ModelFileRefused`, `InvalidRequest`.

        It is `Traced`: only what the template wrote, and roles that are known, may be taken for control tokens.
        """
        lines_max = min(LINES_MAX, LINES_MIN + 500 * len(messages))
        values = {"messages": [_turn(message) for message in messages], "add_generation_prompt": True}
        # Some templates only ask whether `tools` is defined, so without tools it is not.
        offered = {"tools": [dict(tool) for tool in tools]} if tools else {}
        try:
            with _counted_lines(lines_max):
                pieces, size = [], 0
                for piece in self._template.generate(**values, **offered, **self._tokens):
                    size += len(piece)
                    _bounded(size)
                    pieces.append(piece)
        except _ConversationRefused as refusal:
            raise InvalidRequest(
                f"the model's chat template refuses this conversation: {refusal}",
                hint="check the roles and their order",
            ) from None
        except _TemplateFault as fault:
            raise _refused(str(fault)) from None
        except ApplianceError:
            raise
        except (RecursionError, MemoryError):
            raise _refused("calls itself without end") from None
        except Exception as error:  # noqa: BLE001  # whatever foreign code raises is its own fault
            raise _refused(f"fails with {type(error).__name__}") from None
        return joined(pieces)


def _turn(message: Mapping[str, Any]) -> dict[str, Any]:
    """A message as the template sees it; what is not marked here is content."""
    turn = dict(message)
    role, content = turn.get("role"), turn.get("content")
    if role in ROLES:
        turn["role"] = own(str(role))
    if role == "assistant" and isinstance(content, str):
        turn["content"] = of_answer(content)
    return turn


class _counted_lines:
    """Ends the code inside after so many lines, wherever the template's code runs."""

    def __init__(self, lines_max: int) -> None:
        self._left = lines_max
        self._before: Any = None

    def __enter__(self) -> None:
        self._before = sys.gettrace()
        sys.settrace(self._called)

    def __exit__(self, *_exception: object) -> None:
        sys.settrace(self._before)

    def _called(self, _frame: FrameType, _event: str, _value: Any) -> Any:
        return self._line

    def _line(self, _frame: FrameType, event: str, _value: Any) -> Any:
        if event == "line":
            self._left -= 1
            if self._left < 0:
                raise _TemplateFault("does not come to an end")
        return self._line


def _bounded(size: int) -> None:
    if size > TEXT_CHARS_MAX:
        raise _TemplateFault(f"makes more than {TEXT_CHARS_MAX} characters")


def _size(value: Any) -> int:
    """Characters and members of a value, counted through its structure, which may hold one part many times."""
    total, open_values, seen = 0, [value], 0
    while open_values:
        current = open_values.pop()
        seen += 1
        if seen > _NODES_MAX:
            raise _TemplateFault("makes a value of too many parts")
        if isinstance(current, str):
            total += len(current)
        elif isinstance(current, Mapping):
            open_values += [*current.keys(), *current.values()]
        elif isinstance(current, list | tuple):
            open_values += current
        else:
            total += 8
        _bounded(total)
    return total + seen


def _printable(value: Any) -> Any:
    if not isinstance(value, str | int | float | jinja2.Undefined) and value is not None:
        _size(value)
    return value


def _string(value: Any) -> str:
    _printable(value)
    return str(value)


def _to_json(value: Any, ensure_ascii: bool = False, indent: int | None = None, **_options: Any) -> str:
    """As chat templates expect it: unlike Jinja's own, without escapes for HTML."""
    _size(value)
    if indent is not None and not 0 <= int(indent) <= 8:
        raise _TemplateFault("indents JSON without bounds")
    return json.dumps(value, ensure_ascii=bool(ensure_ascii), indent=indent)


def _join(values: Iterable[Any], separator: str = "", attribute: str | None = None) -> str:
    members = list(values)
    if attribute is not None:
        members = [member.get(attribute, "") if isinstance(member, Mapping) else "" for member in members]
    texts = [_string(member) for member in members]
    _bounded(sum(map(len, texts)) + len(str(separator)) * len(texts))
    return _between(texts, str(separator))


def _between(texts: Sequence[str], separator: str) -> str:
    return joined(part for text in texts for part in (separator, text))[len(separator) :] if texts else ""


def _replace(text: str, old: str, new: str, count: int | None = None) -> str:
    text, old, new = str(text), str(old), str(new)
    _bounded(len(text) + text.count(old) * len(new))
    limit = -1 if count is None else count
    return _between(text.split(old, limit), new) if old else text.replace(old, new, limit)


def _indent(text: str, width: int = 4, first: bool = False, blank: bool = False) -> str:
    text = str(text)
    _bounded(len(text) + int(width) * (text.count("\n") + 1))
    lines = text.split("\n")
    padded = [
        " " * int(width) + line if (line or blank) and (number or first) else line for number, line in enumerate(lines)
    ]
    return "\n".join(padded)


def _bounded_range(*arguments: int) -> range:
    numbers = range(*arguments)
    if len(numbers) > _NODES_MAX:
        raise _TemplateFault("counts too far")
    return numbers


def _raise_exception(message: object) -> None:
    raise _ConversationRefused(str(message)[:200])


def _strftime_now(form: str) -> str:
    if len(form) > 64:
        raise _TemplateFault("asks for an endless date")
    return datetime.now(UTC).strftime(form)


def _refused(what: str) -> ModelFileRefused:
    return ModelFileRefused(
        f"the model's chat template {what}", hint="use another model file, or send a text instead of a chat"
    )
