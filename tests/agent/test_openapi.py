from __future__ import annotations

import json

from starlette.routing import Route

from sessionctl.agent import openapi
from sessionctl.agent.activity import Activity
from sessionctl.agent.editor_control import Editor
from sessionctl.agent.server import Agent, build_app
from tests.agent.process import TOKEN, AgentProcess
from tools import docs


def test_the_document_in_the_repository_is_current() -> None:
    assert docs.AGENT_OPENAPI.read_text() == docs.render_agent(), "run: python -m tools.docs"


def test_it_describes_what_is_served_and_nothing_else() -> None:
    app = build_app(Agent(TOKEN, None, Activity(0), Editor(0)))  # type: ignore[arg-type]  # nothing is asked
    served = {
        (method.lower(), route.path)
        for route in app.routes
        if isinstance(route, Route)
        for method in (route.methods or set()) - {"HEAD"}
    }
    described = {(method, path) for path, methods in openapi.document()["paths"].items() for method in methods}
    assert described == served


def test_every_reference_leads_somewhere() -> None:
    document = openapi.document()
    named = {text.partition('"')[0] for text in json.dumps(document).split('"#/components/schemas/')[1:]}
    assert named <= set(document["components"]["schemas"])
    names = [operation["operationId"] for path in document["paths"].values() for operation in path.values()]
    assert len(set(names)) == len(names)


def test_anybody_may_read_it(agent: AgentProcess) -> None:
    answer = agent.ask("GET", "/openapi.json", headers={})
    assert (answer.status, answer.json()) == (200, openapi.document())
    page = agent.ask("GET", "/docs", headers={})
    assert (page.status, page.response.headers["Content-Type"]) == (200, "text/html; charset=utf-8")
    text = page.response.read().decode()
    assert "DELETE /v1/messages/{id}" in text
    assert "src=" not in text
    assert "://" not in text
