"""What a model wrote, as text with headings, lists, tables and code; nothing in it is HTML, a link or a picture.

    formatted("**Dear** [x](http://evil.test)")    # <p><strong>Dear</strong> [x](http://evil.test)</p>, all of it inert

CommonMark by markdown-it-py, with HTML, links, images and references switched off in the parser, so that they stay the
text that they are. What is drawn is a fixed set of elements without attributes; every text goes through `inert`. So
nothing a model says can make a browser fetch, run or open anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from markdown_it import MarkdownIt
from markdown_it.token import Token
from markupsafe import Markup

from ui.markup import inert

FORMATTED_CHARS_MAX = 60_000  # beyond that as plain text: parsing it at every piece of an answer would take too long
_OFF = ["image", "link", "autolink", "reference", "html_block", "html_inline"]
_PLAIN = {
    "paragraph": "p", "bullet_list": "ul", "ordered_list": "ol", "list_item": "li", "blockquote": "blockquote",
    "em": "em", "strong": "strong", "s": "s", "thead": "thead", "tbody": "tbody", "tr": "tr", "th": "th", "td": "td",
}  # fmt: skip
_HEADING = "h4"  # below those of the page and of the message; no level is left out, whatever the model begins with
_TABLE = '<div class="plain-frame" tabindex="0" role="group" aria-label="Table"><table class="plain">'


def formatted(text: str) -> Markup:
    """`text` as one line of HTML that begins with a block element."""
    if len(text) > FORMATTED_CHARS_MAX:
        return _joined(['<p class="as-typed">', inert(text), "</p>"])
    return _joined(_drawn(_PARSER.parse(text)))


def _drawn(tokens: Iterable[Token]) -> Iterable[str]:
    for token in tokens:
        if token.type == "inline":
            yield from _drawn(token.children or ())
        elif token.nesting and not token.hidden:
            yield _tag(token)
        elif not token.nesting:
            yield _leaf(token)


def _tag(token: Token) -> str:
    kind, _, _ = token.type.rpartition("_")
    closing = "/" if token.nesting < 0 else ""
    if kind == "heading":
        return f"<{closing}{_HEADING}>"
    if kind == "table":
        return "</table></div>" if closing else _TABLE
    if kind == "ordered_list" and not closing and str(token.attrGet("start") or "").isdecimal():
        return f'<ol start="{token.attrGet("start")}">'
    return f"<{closing}{_PLAIN[kind]}>" if kind in _PLAIN else ""


def _leaf(token: Token) -> str:
    match token.type:
        case "softbreak" | "hardbreak":
            return "<br>"
        case "hr":
            return "<hr>"
        case "code_inline":
            return f"<code>{inert(token.content)}</code>"
        case "fence" | "code_block":
            region = 'tabindex="0" role="group" aria-label="Code"'
            return f"<pre {region}><code>{inert(token.content)}</code></pre>"
        case _:
            return inert(token.content)


def _joined(parts: Iterable[str]) -> Markup:
    return Markup("".join(parts))  # noqa: S704 - every part is inert or written here


_PARSER = MarkdownIt("commonmark", {"html": False}).enable(["table", "strikethrough"]).disable(_OFF)
