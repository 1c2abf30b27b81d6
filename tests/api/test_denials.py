"""Every call, made from the application's own routes, with every credential that must not do it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from sessionctl.adapters.metrics import NoMetrics
from sessionctl.api.app import build
from sessionctl.api.guard import GuardedRoute
from sessionctl.core.identity import new_session_id
from sessionctl.models import Scope, SessionId
from sessionctl.settings import ApiSettings
from tests.api.world import EVERYTHING, MINE, OTHER, Api

PUBLIC = {"/healthz", "/readyz", "/metrics", "/openapi.json", "/docs"}
ROUTER = {f"/router/{name}" for name in ("auth", "asleep", "login", "logout", "wait", "progress")}
"""Decided by the cookie of one session's host: see ``test_editor_access.py``."""
BODIES: tuple[dict[str, Any], ...] = (
    {"json": {"user_id": "eve"}},
    {"json": {"message": "hello"}},
    {"json": {"message": "hello"}, "headers": {"accept": "text/event-stream"}},
    {"content": b"{not json", "headers": {"content-type": "application/json"}},
)
"""Whoever is denied must not learn what a body should be."""

MESSAGE = new_session_id()

Calls = list[tuple[str, str, Scope]]


def calls() -> Calls:
    """Return method, path and scope of every call that needs a credential."""
    found = [route for route in build(ApiSettings(), NoMetrics()).routes if isinstance(route, GuardedRoute)]
    return sorted((method, route.path, route.scope) for route in found for method in route.methods or ())


ALL = calls()
OF_A_SESSION = [call for call in ALL if "{uuid}" in call[1]]
NOT_OF_ONE = [call for call in ALL if "{uuid}" not in call[1]]


async def answers(api: Api, chosen: Calls, uuid: SessionId, headers: dict[str, Any]) -> set[tuple[int, str]]:
    """Make calls with these headers, with bodies good and bad; return every status and code there was."""
    assert chosen
    seen = set()
    for method, path, _ in chosen:
        for body in BODIES if method == "POST" else ({},):
            given = {**headers, **body.get("headers", {})}
            rest = {name: value for name, value in body.items() if name != "headers"}
            answer = await api.http.request(method, path.format(uuid=uuid, message_id=MESSAGE), headers=given, **rest)
            assert answer.headers["content-type"] == "application/problem+json", (method, path, answer.text)
            problem = answer.json()
            assert problem["status"] == answer.status_code
            seen.add((answer.status_code, problem["code"]))
    return seen


UNAUTHENTICATED = {(401, "unauthenticated")}
NO_SCOPE = {(403, "insufficient_scope")}
UNKNOWN = {(404, "not_found")}


def test_every_other_route_is_public_on_purpose() -> None:
    app = build(ApiSettings(), NoMetrics())
    assert {
        getattr(route, "path", None) for route in app.routes if not isinstance(route, GuardedRoute)
    } == PUBLIC | ROUTER
    assert not ROUTER & app.openapi()["paths"].keys()
    assert len(ALL) >= 12


def key(name: str) -> Callable[[Api], dict[str, str]]:
    return lambda api: {"X-API-Key": api.keys[name]}


BAD: dict[str, Callable[[Api], dict[str, Any]]] = {
    "no credential": lambda _: {},
    "an empty key": lambda _: {"X-API-Key": ""},
    "no key of ours": lambda _: {"X-API-Key": "secret"},
    "an unknown key": lambda api: {"X-API-Key": api.keys["all"].replace("sck_all_", "sck_nobody_")},
    "a key with a wrong end": lambda api: {"X-API-Key": f"{api.keys['all'][:-2]}__"},
    "the stored digest": lambda api: {"X-API-Key": api.stored["all"].digest},
    "an expired key": key("expired"),
    "a key as a token": lambda api: {"Authorization": f"Bearer {api.keys['all']}"},
    "basic authentication": lambda _: {"Authorization": "Basic YWxsOnNlY3JldA=="},
    "no token of ours": lambda _: {"Authorization": "Bearer st_e30.e30"},
    "not even text": lambda _: {"Authorization": b"Bearer st_\xff.\xff"},
}


@pytest.mark.parametrize("what", BAD)
async def test_who_shows_no_good_credential_is_refused_before_anything_is_read(
    api: Api, mine: SessionId, what: str
) -> None:
    assert await answers(api, ALL, mine, BAD[what](api)) == UNAUTHENTICATED


async def test_two_credentials_are_one_too_many(api: Api, mine: SessionId) -> None:
    token = await api.services.tokens.issue(mine, MINE, EVERYTHING)
    both = {"X-API-Key": api.keys["all"], "Authorization": f"Bearer {token.text}"}
    assert await answers(api, ALL, mine, both) == UNAUTHENTICATED


async def test_a_session_of_another_tenant_is_as_unknown_as_none(api: Api, mine: SessionId, other: SessionId) -> None:
    assert await answers(api, OF_A_SESSION, mine, {"X-API-Key": api.keys["other"]}) == UNKNOWN
    assert await answers(api, OF_A_SESSION, other, {"X-API-Key": api.keys["all"]}) == UNKNOWN

    nobodys = new_session_id()
    for method, path, _ in OF_A_SESSION:
        theirs, none = [await api.call(method, path.format(uuid=uuid, message_id=MESSAGE)) for uuid in (other, nobodys)]
        assert theirs.text.replace(other, nobodys) == none.text


async def test_a_list_shows_the_tenants_own_sessions(api: Api, mine: SessionId, other: SessionId) -> None:
    found = {row["uuid"] for row in (await api.get("/sessions", params={"limit": 500})).json()["sessions"]}
    assert mine in found
    assert other not in found
    named = await api.get("/sessions", params={"user_id": "alice", "limit": 500}, key="other")
    assert {row["session"]["tenant"] for row in named.json()["sessions"]} == {OTHER}


@pytest.mark.parametrize("scope", Scope)
async def test_a_key_does_what_its_scopes_say_and_nothing_else(api: Api, mine: SessionId, scope: Scope) -> None:
    beyond = [call for call in ALL if call[2] is not scope]
    assert await answers(api, beyond, mine, {"X-API-Key": api.keys[scope]}) == NO_SCOPE


async def test_a_token_does_what_its_scopes_say_and_nothing_else(api: Api, mine: SessionId) -> None:
    for scope in Scope:
        beyond = [call for call in OF_A_SESSION if call[2] is not scope]
        assert await answers(api, beyond, mine, await bearer(api, mine, scopes=[scope])) == NO_SCOPE


async def test_a_token_of_another_session_opens_nothing(api: Api, mine: SessionId, other: SessionId) -> None:
    for tenant in (OTHER, MINE):
        headers = await bearer(api, other, tenant)
        assert await answers(api, OF_A_SESSION, mine, headers) == UNKNOWN
        assert await answers(api, NOT_OF_ONE, mine, headers) == NO_SCOPE


async def test_a_token_is_of_its_tenant(api: Api, other: SessionId) -> None:
    assert await answers(api, OF_A_SESSION, other, await bearer(api, other, MINE)) == UNKNOWN


async def test_an_expired_token_opens_nothing(api: Api, mine: SessionId) -> None:
    tokens = await api.factory.create_token_service()
    tokens._lifetime = timedelta(seconds=-1)
    token = await tokens.issue(mine, MINE, EVERYTHING)
    assert await answers(api, ALL, mine, {"Authorization": f"Bearer {token.text}"}) == UNAUTHENTICATED


async def test_a_revoked_token_opens_nothing_and_a_new_one_does(api: Api, mine: SessionId) -> None:
    headers = await bearer(api, mine)
    assert (await api.get(f"/session/{mine}/status", key=None, headers=headers)).status_code == 200
    revoked = await api.delete(f"/session/{mine}/access")
    assert (revoked.status_code, revoked.content) == (204, b"")
    assert await answers(api, ALL, mine, headers) == UNAUTHENTICATED
    again = await bearer(api, mine)
    assert (await api.get(f"/session/{mine}/status", key=None, headers=again)).status_code == 200


async def test_a_token_signed_with_another_key_opens_nothing(api: Api, mine: SessionId) -> None:
    from sessionctl.core.tokens import TokenService

    forged = await TokenService(["guess"], api.factory.store, api.factory.clock, timedelta(minutes=1)).issue(
        mine, MINE, EVERYTHING
    )
    assert await answers(api, ALL, mine, {"Authorization": f"Bearer {forged.text}"}) == UNAUTHENTICATED


async def bearer(
    api: Api, session: SessionId, tenant: str = MINE, *, scopes: list[Scope] | None = None
) -> dict[str, str]:
    token = await api.services.tokens.issue(session, tenant, scopes if scopes is not None else EVERYTHING)
    return {"Authorization": f"Bearer {token.text}"}
