"""The application."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi import FastAPI
from starlette.middleware.cors import CORSMiddleware

from sessionctl import __version__
from sessionctl.api import problems
from sessionctl.api.middleware import RequestMiddleware
from sessionctl.api.openapi import document
from sessionctl.api.routes import access, chat, demand, events, health, portal, reading, router, sessions

if TYPE_CHECKING:
    from sessionctl.api.services import Services
    from sessionctl.ports import Metrics
    from sessionctl.settings import ApiSettings

LARGEST_ESCAPE: Final = 6
"""Bytes that JSON may take for one byte of a message."""
BODY_MARGIN: Final = 16 * 1024


class SessionApi(FastAPI):
    """FastAPI with our document."""

    def openapi(self) -> dict[str, Any]:
        """Return the OpenAPI document."""
        if not self.openapi_schema:
            self.openapi_schema = document(self)
        return self.openapi_schema


def create_app(services: Services) -> SessionApi:
    """Return the application on these services."""
    app = build(services.settings.api, services.metrics)
    app.state.services = services
    if services.settings.portal.enabled:
        app.router.routes.extend(portal.router.routes)
    return app


def build(settings: ApiSettings, metrics: Metrics) -> SessionApi:
    """Return the application without anything behind it: enough for its document."""
    app = SessionApi(
        title="sessionctl",
        version=__version__,
        redoc_url=None,
        swagger_ui_oauth2_redirect_url=None,
        redirect_slashes=False,
        # Our measurements are Prometheus's; looking at each request whether others are wanted takes time.
        telemetry={"tracing": False, "metrics": False, "logs": False},
    )
    for part in (sessions, demand, chat, reading, events, access, health, router):
        app.router.routes.extend(part.router.routes)
    problems.install(app)
    app.add_middleware(
        CORSMiddleware,
        allow_origins=settings.cors_origins,
        allow_methods=["GET", "POST", "DELETE"],
        allow_headers=[
            "Authorization",
            "Content-Type",
            "Idempotency-Key",
            "Last-Event-ID",
            "X-API-Key",
            "X-Request-Id",
        ],
        expose_headers=["Retry-After", "X-Request-Id"],
        max_age=600,
    )
    # Added last, it is outermost.
    max_body = LARGEST_ESCAPE * settings.max_message_bytes + BODY_MARGIN
    app.add_middleware(RequestMiddleware, metrics=metrics, max_body=max_body)
    return app
