"""The HTTP side of a witness (C2SP tlog-witness): one small application of its own, apart from the appliance's.

    application = create_witness_app(Witness(kept))

    POST /add-checkpoint    200 cosignature lines, 400, 403, 404, 409 with `text/x.tlog.size`, 422
    GET  /                  name and verifier key, as JSON

There is no other route, and nobody signs in: what counts is the signature on the checkpoint. Bodies, time and the
number of requests at once are bounded.
"""

from __future__ import annotations

import asyncio

from starlette.applications import Starlette
from starlette.middleware import Middleware
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response
from starlette.routing import Route

from appliance import __version__
from appliance.api.error_responses import error_response
from appliance.api.limits import RequestLimits
from appliance.audit.witness import SUBMISSION_BYTES_MAX, Answer, Verdict, Witness
from appliance.errors import ApplianceError

SIZE_TYPE = "text/x.tlog.size"
_BODY_S = 10.0
_IN_FLIGHT_MAX = 32

_STATUS = {
    Verdict.COSIGNED: 200,
    Verdict.MALFORMED: 400,
    Verdict.UNTRUSTED: 403,
    Verdict.UNKNOWN_LOG: 404,
    Verdict.CONFLICT: 409,
    Verdict.INCONSISTENT: 422,
}
_SAID = {
    Verdict.MALFORMED: "not a submission, or its old size is larger than its checkpoint",
    Verdict.UNTRUSTED: "not signed by a key that is known for this log",
    Verdict.UNKNOWN_LOG: "this log is not known here",
    Verdict.INCONSISTENT: "this checkpoint does not continue the one that was cosigned",
}


def create_witness_app(witness: Witness) -> Starlette:
    """The ASGI application of one witness."""

    async def add_checkpoint(request: Request) -> Response:
        try:
            async with asyncio.timeout(_BODY_S):
                body = await request.body()
        except TimeoutError:
            return PlainTextResponse("the body did not arrive in time\n", 408)
        try:
            return _response(await asyncio.to_thread(witness.submit, body))
        except ApplianceError as error:
            return error_response(error)
        except OSError as error:
            return PlainTextResponse(f"nothing was cosigned: {error.strerror}\n", 503)

    async def about(_request: Request) -> Response:
        return JSONResponse(
            {"name": witness.name, "verifier_key": witness.verifier_key, "software": f"cloister {__version__}"}
        )

    return Starlette(
        routes=[Route("/add-checkpoint", add_checkpoint, methods=["POST"]), Route("/", about, methods=["GET"])],
        middleware=[Middleware(RequestLimits, body_bytes_max=SUBMISSION_BYTES_MAX, in_flight_max=_IN_FLIGHT_MAX)],
    )


def _response(answer: Answer) -> Response:
    status = _STATUS[answer.verdict]
    if answer.verdict == Verdict.COSIGNED:
        return Response(answer.cosignature, status, media_type="text/plain; charset=utf-8")
    if answer.verdict == Verdict.CONFLICT:
        # Set by hand: a charset would be added to a media type of text, and the specification names this one exactly.
        return Response(f"{answer.known}\n".encode(), status, {"Content-Type": SIZE_TYPE})
    return PlainTextResponse(f"{_SAID[answer.verdict]}\n", status)
