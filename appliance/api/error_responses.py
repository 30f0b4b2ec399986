"""One table from error classes to HTTP status, and one shape for every error body (OpenAI's).

{"error": {"code": "input_too_long", "message": "…", "type": "invalid_request_error", "hint": "…"}}
"""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable
from typing import Any

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from fastapi.responses import JSONResponse
from starlette.exceptions import HTTPException

from appliance import errors

STATUS: dict[type[errors.ApplianceError], int] = {
    errors.ApplianceError: 500,
    errors.InvalidRequest: 400,
    errors.BackupInvalid: 422,
    errors.BundleRefused: 422,
    errors.GoldInvalid: 422,
    errors.InputEmpty: 400,
    errors.InputTooLong: 413,
    errors.InputNotText: 400,
    errors.TableRefused: 422,
    errors.NoSpecialistFits: 422,
    errors.GuardBlocked: 400,
    errors.UnknownOption: 400,
    errors.Unauthenticated: 401,
    errors.SetupLinkInvalid: 401,
    errors.PermissionDenied: 403,
    errors.TooManyAttempts: 429,
    errors.NotFound: 404,
    errors.SpecialistNotFound: 404,
    errors.ModelNotFound: 404,
    errors.RecordNotFound: 404,
    errors.ConversationNotFound: 404,
    errors.AccountNotFound: 404,
    errors.Conflict: 409,
    errors.AccountExists: 409,
    errors.UnderLegalHold: 409,
    errors.RetentionShortened: 409,
    errors.SecondPersonNeeded: 409,
    errors.EngineError: 500,
    errors.QueueFull: 429,
    errors.EngineUnavailable: 503,
    errors.GuardUnavailable: 503,
    errors.DeadlineExceeded: 504,
    errors.RequestCancelled: 499,
    errors.ModelFileError: 500,
    errors.ModelFileRefused: 409,
    errors.SignatureInvalid: 422,
    errors.SignerUntrusted: 409,
    errors.SpecialistFileInvalid: 422,
    errors.BaseModelUnavailable: 503,
    errors.ModelSourceUnavailable: 503,
    errors.AuditError: 500,
    errors.AuditUnavailable: 503,
    errors.AuditPaused: 503,
    errors.AuditLogInvalid: 500,
    errors.AuditQuarantined: 503,
    errors.WitnessRefused: 502,
    errors.KeyMaterialError: 500,
    errors.WrongKey: 500,
    errors.KeystoreInvalid: 500,
    errors.KeystoreLocked: 503,
    errors.DecryptionFailed: 500,
    errors.HomeError: 500,
    errors.HomeNotInitialised: 503,
    errors.HomeExists: 409,
    errors.HomeReadOnly: 503,
    errors.HomeFull: 507,
    errors.HomeTooNew: 503,
    errors.HomeInUse: 409,
    errors.ConfigInvalid: 500,
    errors.ExtraMissing: 501,
    errors.TrainingFailed: 500,
    errors.ServerUnavailable: 503,
}

# OpenAI's clients switch on `type`; its values follow the status.
_TYPES = {
    400: "invalid_request_error",
    401: "authentication_error",
    403: "permission_error",
    404: "not_found_error",
    413: "invalid_request_error",
    422: "invalid_request_error",
    429: "rate_limit_error",
}
# What comes back by itself, and when it is worth asking again (seconds).
_RETRY_AFTER_S: dict[type[errors.ApplianceError], float] = {
    errors.AuditPaused: 30.0,
    errors.AuditUnavailable: 5.0,
    errors.AuditQuarantined: 300.0,
    errors.EngineUnavailable: 5.0,
    errors.KeystoreLocked: 60.0,
}
# OpenAI's clients ask again after each 409 and 5xx. They are told not to where nothing comes back by itself:
# a model file that was refused would be read, a question that took too long be answered, three times.
_ONCE = {"X-Should-Retry": "false"}
_CODES_BY_STATUS = {404: "not_found", 405: "method_not_allowed", 415: "unsupported_media_type"}


def status_of(error: errors.ApplianceError) -> int:
    """HTTP status of an error; a class missing from the table takes its nearest ancestor's."""
    return next(STATUS[kind] for kind in type(error).__mro__ if kind in STATUS)


def error_response(error: errors.ApplianceError) -> JSONResponse:
    """The whole response for `error`, with `Retry-After` where the error knows when to come back."""
    status = status_of(error)
    retry_after_s = _retry_after_s(error)
    headers = _ONCE if retry_after_s is None else {"Retry-After": str(max(1, math.ceil(retry_after_s)))}
    if status == 401:
        headers = headers | {"WWW-Authenticate": "Bearer"}
    return JSONResponse(error_body(error.code, error.message, status, error.hint), status, headers)


def _retry_after_s(error: errors.ApplianceError) -> float | None:
    if error.retry_after_s is not None:
        return error.retry_after_s
    return next((_RETRY_AFTER_S[kind] for kind in type(error).__mro__ if kind in _RETRY_AFTER_S), None)


def error_body(code: str, message: str, status: int, hint: str | None = None) -> dict[str, Any]:
    """The one error shape."""
    kind = _TYPES.get(status, "invalid_request_error" if status < 500 else "server_error")
    body = {"code": code, "message": message, "type": kind}
    return {"error": body | ({"hint": hint} if hint else {})}


def install_error_responses(
    app: FastAPI, on_error: Callable[[Request, errors.ApplianceError], Awaitable[None]]
) -> None:
    """Make `app` answer every refusal and failure in the one shape. Unexpected errors show no detail.

    `on_error` sees each error before it is answered, to count and record it; it never raises.
    """

    @app.exception_handler(errors.ApplianceError)
    async def refuse(request: Request, error: errors.ApplianceError) -> JSONResponse:
        await on_error(request, error)
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def explain(request: Request, error: RequestValidationError) -> JSONResponse:
        # Pydantic repeats the offending input in its report; it may be a patient's note, so only place and rule go out.
        first = error.errors()[0]
        place = ".".join(str(part) for part in first["loc"] if part != "body") or "body"
        # What is not said to be JSON is not read as JSON: the rule alone would puzzle whoever sent an object.
        unsaid = tuple(first["loc"]) == ("body",) and "json" not in request.headers.get("content-type", "")
        hint = "send JSON, with the header Content-Type: application/json" if unsaid else None
        return JSONResponse(error_body("invalid_request", f"{place}: {first['msg']}", 400, hint), 400)

    @app.exception_handler(HTTPException)
    async def translate(_request: Request, error: HTTPException) -> JSONResponse:
        code = _CODES_BY_STATUS.get(error.status_code, "invalid_request")
        return JSONResponse(error_body(code, str(error.detail), error.status_code), error.status_code)

    @app.exception_handler(Exception)
    async def hide(_request: Request, _error: Exception) -> JSONResponse:
        message = "the appliance met an unexpected error; the operational log has the details"
        return JSONResponse(error_body("internal_error", message, 500), 500, _ONCE)
