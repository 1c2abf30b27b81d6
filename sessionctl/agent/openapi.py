"""The agent's OpenAPI document, from the shapes in ``wire``, and a page that shows it without loading anything."""

from __future__ import annotations

from dataclasses import dataclass
from html import escape
from typing import TYPE_CHECKING, Any, Final

from pydantic.json_schema import models_json_schema

from sessionctl import __version__
from sessionctl.wire import (
    AgentActivity,
    AgentConversation,
    ConversationQuery,
    MessageDelta,
    MessageEnd,
    MessageEnded,
    MessageRequest,
    MessageResume,
    Problem,
)

if TYPE_CHECKING:
    from pydantic import BaseModel

JSON: Final = "application/json"
NDJSON: Final = "application/x-ndjson"
TEXT: Final = "text/plain"
PROBLEM: Final = "application/problem+json"
REFUSALS: Final = {
    401: "The token is missing or wrong.",
    403: "This is for what runs in the same pod.",
    404: "There is no such message.",
    409: "The id was used for another message; final.",
    413: "The body is too large; final.",
    422: "The fields that are named cannot be accepted; final.",
    503: "Starting, stopping, another message runs, or volume or editor do not answer: send the very same again.",
}


@dataclass(frozen=True)
class Operation:
    """One thing to ask for; ``answer`` is what comes with 200, nothing comes with 204."""

    method: str
    path: str
    summary: str
    answer: str
    media_type: str = JSON
    shapes: tuple[type[BaseModel], ...] = ()
    query: type[BaseModel] | None = None
    body: type[BaseModel] | None = None
    refusals: tuple[int, ...] = (401, 503)
    authenticated: bool = True
    status: int = 200


OPERATIONS: Final = (
    Operation(
        *("get", "/healthz", "Whether messages are taken", "They are.", TEXT),
        refusals=(503,),
        authenticated=False,
    ),
    Operation(
        *("get", "/v1/activity", "What goes on, in ages: seconds, null where there is nothing", "As of now."),
        shapes=(AgentActivity,),
    ),
    Operation(
        *("post", "/v1/messages", "Run a message, join it while it runs, or repeat its answer"),
        *("A line for each piece of the reply, the outcome on the last; empty lines are signs of life.", NDJSON),
        shapes=(MessageDelta, MessageEnd),
        query=MessageResume,
        body=MessageRequest,
        refusals=(401, 409, 413, 422, 503),
    ),
    Operation(
        *("delete", "/v1/messages/{id}", "End a message", "Its outcome, which is recorded."),
        shapes=(MessageEnded,),
        refusals=(401, 404, 422, 503),
    ),
    Operation(
        *("get", "/v1/conversation", "Read the conversation from its end", "Oldest first."),
        shapes=(AgentConversation,),
        query=ConversationQuery,
        refusals=(401, 404, 422, 503),
    ),
    Operation(
        *("post", "/v1/hold", "Keep the workspace awake while this connection is there; ``age`` says since when"),
        *("It is held.", TEXT),
        refusals=(403, 422),
        authenticated=False,
    ),
    Operation(
        *("post", "/v1/editor/input", "Tell that somebody works in the editor", "Noted."),
        refusals=(403,),
        authenticated=False,
        status=204,
    ),
    Operation(
        *("delete", "/v1/editor/connections", "End all connections to the editor, now and 2 s later", "They end."),
        refusals=(401, 503),
        status=204,
    ),
    Operation(
        *("get", "/openapi.json", "This document", "OpenAPI 3.1."),
        refusals=(),
        authenticated=False,
    ),
    Operation(
        *("get", "/docs", "This document to be read", "A page.", "text/html"),
        refusals=(),
        authenticated=False,
    ),
)


def document() -> dict[str, Any]:
    """Return the document; the same for the same code."""
    answers = [shape for operation in OPERATIONS for shape in operation.shapes] + [Problem]
    bodies = [operation.body for operation in OPERATIONS if operation.body is not None]
    _, schemas = models_json_schema(
        [*((shape, "serialization") for shape in answers), *((shape, "validation") for shape in bodies)],
        ref_template="#/components/schemas/{model}",
    )
    paths: dict[str, dict[str, Any]] = {}
    for operation in OPERATIONS:
        paths.setdefault(operation.path, {})[operation.method] = _operation(operation)
    return {
        "openapi": "3.1.0",
        "info": {
            "title": "sessionctl agent",
            "version": __version__,
            "description": "In each workspace's pod: runs messages, keeps the conversation, tells what goes on.",
        },
        "paths": paths,
        "components": {
            "schemas": schemas["$defs"],
            "securitySchemes": {"token": {"type": "http", "scheme": "bearer", "description": "Of this session."}},
        },
    }


def page() -> str:
    """Return the document as a page."""
    rows = "".join(
        f"<tr><td><code>{escape(operation.method.upper())} {escape(operation.path)}</code></td>"
        f"<td>{escape(operation.summary)}.</td><td>{'bearer token' if operation.authenticated else ''}</td></tr>"
        for operation in OPERATIONS
    )
    return (
        '<!doctype html><html lang="en"><meta charset="utf-8"><title>sessionctl agent</title>'
        "<style>body{font:16px sans-serif;margin:2em}td{padding:.3em 1em .3em 0;vertical-align:top}</style>"
        f"<h1>sessionctl agent {escape(__version__)}</h1>"
        f'<table>{rows}</table><p>All of it: <a href="openapi.json">openapi.json</a>.</p></html>\n'
    )


def _operation(operation: Operation) -> dict[str, Any]:
    answer: dict[str, Any] = {"description": operation.answer}
    if operation.status != 204:  # noqa: PLR2004 - no content
        references = [_reference(shape) for shape in operation.shapes]
        schema = references[0] if len(references) == 1 else {"anyOf": references} if references else {}
        answer["content"] = {operation.media_type: {"schema": schema}}
    problem = {PROBLEM: {"schema": _reference(Problem)}}
    found: dict[str, Any] = {
        "summary": operation.summary,
        "operationId": f"{operation.method}{operation.path.title().translate({ord(each): None for each in '/{}._-'})}",
        "parameters": _parameters(operation),
        "responses": {
            str(operation.status): answer,
            **{str(status): {"description": REFUSALS[status], "content": problem} for status in operation.refusals},
        },
        "security": [{"token": []}] if operation.authenticated else [],
    }
    if operation.body is not None:
        found["requestBody"] = {"required": True, "content": {JSON: {"schema": _reference(operation.body)}}}
    return found


def _parameters(operation: Operation) -> list[dict[str, Any]]:
    found = []
    if "{id}" in operation.path:
        schema = MessageRequest.model_json_schema()["properties"]["id"]
        found.append({"name": "id", "in": "path", "required": True, "schema": schema})
    if operation.path == "/v1/hold":
        schema = {"type": "number", "minimum": 0, "default": 0}
        found.append({"name": "age", "in": "query", "required": False, "schema": schema})
    if operation.query is not None:
        properties = operation.query.model_json_schema()["properties"]
        found += [{"name": name, "in": "query", "required": False, "schema": properties[name]} for name in properties]
    return found


def _reference(shape: type[BaseModel]) -> dict[str, str]:
    return {"$ref": f"#/components/schemas/{shape.__name__}"}
