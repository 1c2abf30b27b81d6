"""The OpenAPI document: what FastAPI finds, with our errors and credentials in it."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any, Final

from fastapi.openapi.utils import get_openapi

from sessionctl import __version__
from sessionctl.api.guard import SCOPE
from sessionctl.api.problems import PROBLEM_JSON
from sessionctl.labels import SESSION_ID

if TYPE_CHECKING:
    from fastapi import FastAPI

_PROBLEM: Final = "#/components/schemas/Problem"
_SCHEMES: Final = {
    "apiKey": {"type": "apiKey", "in": "header", "name": "X-API-Key", "description": "Of one tenant, with scopes."},
    "sessionToken": {
        "type": "http",
        "scheme": "bearer",
        "description": "Of one session, for a short time; from POST /session/{uuid}/access.",
    },
}
_RETRIED: Final = {"409", "429", "503", "504"}
_METHODS: Final = {"get", "post", "delete", "put", "patch"}


def document(app: FastAPI) -> dict[str, Any]:
    """Return the document; the same for the same code."""
    found = get_openapi(
        title="sessionctl Session API",
        version=__version__,
        description="Per-user AI workspaces on Kubernetes that sleep for free and wake on a message.",
        routes=app.routes,
    )
    for path, operations in found["paths"].items():
        for method, operation in operations.items():
            if method in _METHODS:
                _complete(path, operation)
    found["components"]["securitySchemes"] = _SCHEMES
    for unused in ("HTTPValidationError", "ValidationError"):
        found["components"]["schemas"].pop(unused, None)
    return found


def _complete(path: str, operation: dict[str, Any]) -> None:
    if SCOPE in operation:
        # A token is of one session, so only what is about one session takes it.
        schemes = ["apiKey", "sessionToken"] if "{uuid}" in path and operation[SCOPE] != "access" else ["apiKey"]
        operation["security"] = [{name: []} for name in schemes]
    for parameter in operation.get("parameters", []):
        if parameter["name"] == "uuid":
            parameter["schema"] = {"type": "string", "pattern": f"^{SESSION_ID.pattern}$"}
    for status, answer in operation["responses"].items():
        content = answer.get("content", {}).get("application/json", {})
        if content.get("schema", {}).get("$ref") == _PROBLEM:
            answer["content"] = {PROBLEM_JSON: content}
            if status in _RETRIED:
                answer["headers"] = {"Retry-After": {"schema": {"type": "integer"}, "description": "Seconds."}}
