"""The HTTP application: routes, limits, one error shape. Knows no rules; each route calls one use case.

app = create_api(appliance)     # an ASGI application; `appliance serve` puts the pages around it
"""

from __future__ import annotations

from fastapi import FastAPI

from appliance import __version__
from appliance.api import (
    routes_accounts,
    routes_audit,
    routes_audit_export,
    routes_audit_keeping,
    routes_audit_search,
    routes_audit_state,
    routes_conversations,
    routes_embeddings,
    routes_finding,
    routes_generation,
    routes_guard,
    routes_responses,
    routes_routing,
    routes_specialists,
    routes_system,
    routes_teaching,
    routes_text,
)
from appliance.api.denied import note_error
from appliance.api.error_responses import install_error_responses
from appliance.api.limits import RequestLimits
from appliance.api.metrics import CountRequests, Metrics
from appliance.api.security import SessionCookie
from appliance.api.uploads import upload_sizes
from appliance.service.appliance import Appliance


def create_api(appliance: Appliance) -> FastAPI:
    """The API of an opened appliance. Its description is served at `/openapi.json`, with no page from a CDN."""
    app = FastAPI(title="Cloister", version=__version__, docs_url=None, redoc_url=None, openapi_url="/openapi.json")
    app.state.appliance = appliance
    app.state.metrics = Metrics()
    app.state.session_cookie = SessionCookie.of(appliance.config.server, appliance.config.accounts)
    install_error_responses(app, note_error)
    limits = appliance.config.limits
    app.add_middleware(
        RequestLimits,
        body_bytes_max=limits.body_bytes_max,
        in_flight_max=limits.requests_in_flight_max,
        uploads=upload_sizes(appliance.config),
    )
    app.add_middleware(CountRequests, metrics=app.state.metrics)
    for module in (
        routes_system,
        routes_routing,  # before those of a named specialist: `auto` names none
        routes_text,
        routes_finding,
        routes_generation,
        routes_responses,
        routes_embeddings,
        routes_guard,
        routes_conversations,
        routes_specialists,
        routes_teaching,
        routes_audit,
        routes_audit_search,
        routes_audit_keeping,
        routes_audit_export,
        routes_audit_state,
        routes_accounts,
    ):
        app.include_router(module.routes)
    return app
