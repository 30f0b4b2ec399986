"""What routes that stream answers share: the headers, the first piece that was waited for, and the receipt's header."""

from __future__ import annotations

import base64
import json
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Any

from appliance.api.schemas import receipt_body
from appliance.audit.gate import Released
from appliance.service.generation import Ended, Piece
from appliance.types import Receipt

RECEIPT_HEADER = "Cloister-Receipt"
MEDIA_TYPE = "text/event-stream"
Written = Released[Piece] | Released[Ended]
_HEADERS = {"Cache-Control": "no-store", "X-Accel-Buffering": "no"}


def receipt_headers(receipt: Receipt) -> dict[str, str]:
    """The receipt as a proof file in base64: of the whole answer, or of the first piece of a stream."""
    return {RECEIPT_HEADER: base64.b64encode(receipt_body(receipt).proof_file.encode()).decode()}


def stream_headers(receipt: Receipt) -> dict[str, str]:
    """Of a response whose first piece has this receipt: nobody in between keeps or delays it."""
    return _HEADERS | receipt_headers(receipt)


async def chained(first: Written, rest: AsyncGenerator[Written, None]) -> AsyncIterator[Written]:
    """The piece that was waited for before the response began, and those after it."""
    yield first
    async for event in rest:
        yield event


def event_text(body: dict[str, Any], name: str | None = None) -> str:
    """One server-sent event. JSON holds no line break, so it is one line."""
    data = json.dumps(body, ensure_ascii=False, separators=(",", ":"))
    return f"data: {data}\n\n" if name is None else f"event: {name}\ndata: {data}\n\n"
