"""Route of vectors of texts, as OpenAI's clients ask for them: `/v1/embeddings`."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Depends, Request
from fastapi.responses import JSONResponse, Response

from appliance.api.disconnects import unless_disconnected
from appliance.api.schemas import receipt_body
from appliance.api.schemas_embeddings import EmbeddingsRequest, embeddings_body
from appliance.api.security import appliance_of, current_principal
from appliance.api.streams import receipt_headers
from appliance.service.embedding import embed
from appliance.types import Principal

routes = APIRouter(prefix="/v1", tags=["text"])
Caller = Annotated[Principal, Depends(current_principal)]


@routes.post("/embeddings", response_class=JSONResponse)
async def embeddings(request: Request, body: EmbeddingsRequest, caller: Caller) -> Response:
    """One vector of length 1 for each text; the dot product of two is their cosine."""
    wanted = body.request()
    released = await unless_disconnected(request, embed(appliance_of(request), caller, wanted))
    request.app.state.metrics.characters.labels(released.value.specialist.id).inc(sum(map(len, wanted.texts)))
    answer = embeddings_body(released.value, body.model, body.encoding_format, receipt_body(released.receipt))
    return JSONResponse(answer, headers=receipt_headers(released.receipt))
