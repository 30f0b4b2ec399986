"""JSON of `/v1/embeddings`, as OpenAI's clients send and read it. Pure."""

from __future__ import annotations

import base64
from typing import Any, Literal

import numpy as np
from pydantic import BaseModel, ConfigDict, Field

from appliance.api.schemas import EMBEDDING_DIGITS, ReceiptBody
from appliance.errors import InvalidRequest
from appliance.service.embedding import Embedded, EmbeddingRequest

Encoding = Literal["float", "base64"]


class EmbeddingsRequest(BaseModel):
    """Texts whose vectors are wanted. `model`: a specialist of the task `embed`."""

    model_config = ConfigDict(extra="forbid", frozen=True)

    model: str = Field(min_length=1, max_length=96)
    input: str | list[Any]
    encoding_format: Encoding = "float"
    dimensions: int | None = Field(default=None, ge=1)
    user: str | None = None
    subject: str = Field(default="", description="whom the texts are about; see the other routes")

    def request(self) -> EmbeddingRequest:
        """As the service takes it. Raises `InvalidRequest`."""
        texts = [self.input] if isinstance(self.input, str) else self.input
        if any(not isinstance(text, str) for text in texts):
            raise InvalidRequest(
                "input must be a text or a list of texts; token ids are not taken, because they mean other words in "
                "every model",
                hint="send the text itself (in LangChain: check_embedding_ctx_length=False)",
            )
        return EmbeddingRequest(tuple(texts), self.model, self.dimensions, self.subject)


def embeddings_body(embedded: Embedded, model: str, encoding: Encoding, receipt: ReceiptBody) -> dict[str, Any]:
    """The response. Base64 is of little-endian float32, exact; numbers are rounded to six digits."""
    data = [
        {"object": "embedding", "index": number, "embedding": _encoded(vector, encoding)}
        for number, vector in enumerate(embedded.vectors)
    ]
    usage = {"prompt_tokens": embedded.tokens, "total_tokens": embedded.tokens}
    return {"object": "list", "data": data, "model": model, "usage": usage, "receipt": receipt.model_dump()}


def _encoded(vector: np.ndarray, encoding: Encoding) -> str | list[float]:
    if encoding == "base64":
        return base64.b64encode(vector.astype("<f4").tobytes()).decode()
    return [round(float(value), EMBEDDING_DIGITS) for value in vector]
