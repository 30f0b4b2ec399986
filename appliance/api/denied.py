"""Every refusal for who sent the request becomes a bounded record, before it is answered; other refusals are counted.

    install_error_responses(app, note_error)

Recorded are the error's code, the method, the route's template, the peer's address and, if known, who it was. Neither
the path nor a header nor the body: a secret may be in any of them.
"""

from __future__ import annotations

from typing import Any

from fastapi import Request

from appliance import errors
from appliance.api.security import appliance_of, client_address
from appliance.service.denials import Denial
from appliance.service.events import ANONYMOUS
from appliance.service.exchange import NOT_RECORDED
from appliance.types import Principal

_DENIED = (errors.Unauthenticated, errors.PermissionDenied, errors.TooManyAttempts)
# These record each of their own refusals, but for attempts beyond the limit.
_SELF_RECORDED = frozenset({"/v1/sessions", "/v1/setup"})


async def note_error(request: Request, error: errors.ApplianceError) -> None:
    """Record a denial, count a refusal of the release gate."""
    if isinstance(error, NOT_RECORDED):
        request.app.state.metrics.gate_refusals.labels(error.code).inc()
    if not isinstance(error, _DENIED):
        return
    route: Any = request.scope.get("route")
    template = getattr(route, "path", "unmatched")
    if template in _SELF_RECORDED and not isinstance(error, errors.TooManyAttempts):
        return
    caller: Principal | None = getattr(request.state, "caller", None)
    denial = Denial(error.code, request.method, template, client_address(request), caller.id if caller else ANONYMOUS)
    await appliance_of(request).denials.record(denial)
