"""What may be sent, how often, and what the same request again does."""

from __future__ import annotations

import asyncio
import socket
from contextlib import ExitStack
from typing import Any

import httpx
import pytest
import uvicorn

from sessionctl.api.connections import TimedProtocol
from sessionctl.api.middleware import RequestMiddleware
from sessionctl.api.sse import MOST_STREAMS_PER_CALLER
from sessionctl.core.identity import new_session_id
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.models import SessionId
from tests.api.browser import Browser
from tests.api.world import EVERYTHING, MINE, URL, Api, open_api
from tests.support.census import Census

CREATE = "/session/create"
SECRET = "sk-1234567890"


@pytest.mark.parametrize(
    ("body", "field"),
    [
        ({}, "user_id"),
        ({"user_id": ""}, "user_id"),
        ({"user_id": 7}, "user_id"),
        ({"user_id": "x" * 257}, "user_id"),
        ({"user_id": "a\u0007b"}, "user_id"),
        ({"user_id": "bob", "profile": "NO SUCH"}, "profile"),
        ({"user_id": "bob", "profile": "nowhere"}, "profile"),
        ({"user_id": "bob", "password": SECRET}, "password"),
        ([SECRET], ""),
    ],
)
async def test_what_create_does_not_take_is_named_and_not_repeated(api: Api, body: Any, field: str) -> None:
    answer = await api.post(CREATE, json=body)
    assert answer.status_code == 422
    problem = answer.json()
    assert [each["field"] for each in problem["errors"]] == [field]
    assert problem["code"] == "invalid_request"
    assert SECRET not in answer.text


@pytest.mark.parametrize(
    "content", [b"", b"{", b"\xff\xfe", b"\xff{}", b'{"user_id": "a\\ud800"}', b"null", b'{"user_id": NaN}']
)
async def test_what_is_no_json_is_refused(api: Api, content: bytes) -> None:
    answer = await api.post(CREATE, content=content, headers={"Content-Type": "application/json"})
    assert answer.status_code == 422
    assert answer.headers["content-type"] == "application/problem+json"


async def test_a_parameter_that_is_misspelt_is_named(api: Api, mine: SessionId) -> None:
    for method, path in (("DELETE", f"/session/{mine}?purg=true"), ("GET", "/sessions?user=x")):
        answer = await api.call(method, path)
        assert answer.status_code == 422
        assert answer.json()["errors"][0]["field"] == path.partition("?")[2].partition("=")[0]
    assert (await api.get(f"/session/{mine}/status")).json()["session"]["status"] != "deleted"


@pytest.mark.parametrize("message", ["", "x" * (256 * 1024 + 1), "\u00e9" * (128 * 1024 + 1)])
async def test_an_empty_or_oversized_message_is_refused(api: Api, mine: SessionId, message: str) -> None:
    answer = await api.post(f"/session/{mine}/chat", json={"message": message})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "message")


async def test_a_body_that_nobody_may_send_is_not_read(api: Api) -> None:
    taken = 0

    async def endless() -> Any:
        nonlocal taken
        while True:
            taken += 1
            yield b"x" * 65536

    declared = await api.post(CREATE, content=b"x" * 10_000_000)
    assert (declared.status_code, declared.json()["code"]) == (413, "too_large")
    chunked = await api.post(CREATE, content=endless())
    assert (chunked.status_code, chunked.json()["code"]) == (413, "too_large")
    assert taken < 64


async def test_a_body_that_does_not_come_is_not_waited_for(api: Api) -> None:
    app = RequestMiddleware(api.app, api.services.metrics, 1000, body_seconds=0.05)

    async def stuck() -> Any:
        yield b"{"
        await asyncio.sleep(3600)

    async with httpx.AsyncClient(transport=httpx.ASGITransport(app), base_url=URL) as http:
        answer = await http.post(CREATE, content=stuck(), headers={"X-API-Key": api.keys["all"]})
    assert (answer.status_code, answer.json()["code"]) == (408, "request_timeout")


@pytest.mark.parametrize(
    "uuid", ["x", "..", "D1F10C82-AF9B-4CA2-8A73-877EFB233028", "00000000-0000-1000-8000-000000000000"]
)
async def test_a_bad_uuid_is_named(api: Api, uuid: str) -> None:
    answer = await api.get(f"/session/{uuid.replace('.', '%2e')}/status")
    assert (answer.status_code, answer.json()["errors"]) == (
        422,
        [{"field": "uuid", "message": "should be a lower-case UUID of version 4"}],
    )


async def test_what_is_not_there_and_what_is_not_allowed_are_problems(api: Api) -> None:
    for method, path, status, code in (
        ("GET", "/nowhere", 404, "no_such_route"),
        ("GET", "/sessions/", 404, "no_such_route"),
        ("PUT", "/sessions", 405, "method_not_allowed"),
        ("GET", "/session/create", 405, "method_not_allowed"),
    ):
        answer = await api.call(method, path)
        assert (answer.status_code, answer.json()["code"]) == (status, code)
        assert answer.headers["content-type"] == "application/problem+json"


async def test_a_bug_tells_nothing_of_itself(api: Api, mine: SessionId, monkeypatch: pytest.MonkeyPatch) -> None:
    async def broken(*_: Any, **__: Any) -> None:
        raise RuntimeError(SECRET)

    monkeypatch.setattr(api.services.views, "get_status", broken)
    answer = await api.get(f"/session/{mine}/status", headers={"X-Request-Id": "bug-1"})
    assert (answer.status_code, answer.json()["code"], answer.headers["X-Request-Id"]) == (500, "internal", "bug-1")
    assert SECRET not in answer.text


async def test_pages_lead_through_all_sessions_once(api: Api, mine: SessionId, census: Census) -> None:
    made = [(await api.post(CREATE, json={"user_id": "pager"})).json()["uuid"] for _ in range(2)]
    seen: list[str] = []
    cursor: dict[str, str] = {}
    while True:
        page = (await api.get("/sessions", params={"limit": 1} | cursor)).json()
        seen += [row["uuid"] for row in page["sessions"]]
        if page["cursor"] is None:
            break
        cursor = {"cursor": page["cursor"]}
    assert len(seen) == len(set(seen))
    assert {mine, *made} <= set(seen)
    for params in ({"cursor": "x"}, {"limit": 0}, {"limit": 501}, {"status": "tired"}):
        assert (await api.get("/sessions", params=params)).status_code == 422
    census.wipe(made)


async def test_the_same_key_makes_one_session(api: Api, census: Census) -> None:
    again = {"Idempotency-Key": new_session_id()}
    first, second = await asyncio.gather(*(api.post(CREATE, json={"user_id": "once"}, headers=again) for _ in range(2)))
    # At the same moment one makes it, and the other is told to come again or finds it made.
    made = next(answer for answer in (first, second) if answer.status_code == 201)
    for answer in (first, second):
        if answer.status_code != 201:
            assert (answer.status_code, answer.json()["code"]) == (409, "in_progress")
            assert int(answer.headers["Retry-After"]) >= 1
    third = await api.post(CREATE, json={"user_id": "once"}, headers=again)
    assert (third.status_code, third.json()) == (201, made.json())
    reused = await api.post(CREATE, json={"user_id": "twice"}, headers=again)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")
    # Of one tenant: another one's key of the same text is another key.
    theirs = await api.post(CREATE, json={"user_id": "once"}, headers=again, key="other")
    assert theirs.status_code == 201
    assert theirs.json()["uuid"] != made.json()["uuid"]
    census.wipe([made.json()["uuid"], theirs.json()["uuid"]])


async def test_a_chat_is_stored_once_and_shown_until_it_is_cancelled(api: Api, mine: SessionId) -> None:
    path = f"/session/{mine}"
    again = {"Idempotency-Key": new_session_id()}
    first = await api.post(f"{path}/chat", json={"message": "hello"}, headers=again)
    message_id = first.json()["message_id"]
    assert (first.status_code, first.json()) == (
        202,
        {"uuid": mine, "action": "chat", "status": "queued", "message_id": message_id},
    )
    second = await api.post(f"{path}/chat", json={"message": "hello"}, headers=again)
    assert second.json() == first.json()
    other = (await api.post(f"{path}/chat", json={"message": "hello"})).json()["message_id"]
    reused = await api.post(f"{path}/chat", json={"message": "bye"}, headers=again)
    assert (reused.status_code, reused.json()["code"]) == (422, "idempotency_key_reused")

    shown = (await api.get(f"{path}/messages")).json()
    assert shown.keys() == {"uuid", "messages", "partial", "cursor"}
    # Asleep, or without an agent that answers, it is what Redis holds: other tests have said something too.
    assert (shown["uuid"], shown["partial"]) == (mine, True)
    told = {"message": "hello", "status": "queued", "reply": None, "reason": None}
    assert [each | {"at": None} for each in shown["messages"][-2:]] == [
        {"message_id": each, "at": None} | told for each in (message_id, other)
    ]
    assert shown["messages"][-1]["at"] is not None
    page = (await api.get(f"{path}/messages", params={"limit": 1})).json()
    assert [each["message_id"] for each in page["messages"]] == [other]
    rest = (await api.get(f"{path}/messages", params={"cursor": page["cursor"], "limit": 1})).json()
    assert [each["message_id"] for each in rest["messages"]] == [message_id]

    refused = await api.post(f"{path}/sleep")
    assert (refused.status_code, refused.json()["code"]) == (409, "conflict")
    assert (await api.post(f"{path}/sleep", params={"force": "true"})).status_code == 200
    shown = (await api.get(f"{path}/messages")).json()
    assert [each["status"] for each in shown["messages"][-2:]] == ["cancelled", "cancelled"]
    events = await api.services.store.list_events(mine, None, 500)
    ended = {event.message_id: event.outcome for event in events if event.kind == "message-ended"}
    assert {ended[message_id], ended[other]} == {"cancelled"}


async def test_only_so_many_messages_wait(options: DirectOptions, sessions: Any, mine: SessionId) -> None:
    async with open_factory(options) as factory, open_api(factory, max_waiting=2) as api:
        path = f"/session/{mine}"
        for _ in range(2):
            assert (await api.post(f"{path}/chat", json={"message": "x"})).status_code == 202
        full = await api.post(f"{path}/chat", json={"message": "x"})
        assert (full.status_code, full.json()["code"]) == (429, "queue_full")
        assert int(full.headers["Retry-After"]) >= 1
        assert (await api.post(f"{path}/sleep", params={"force": "true"})).status_code == 200


async def test_too_many_requests_of_a_key_or_for_a_user_are_told_when_to_come_again(
    options: DirectOptions, sessions: Any, mine: SessionId, census: Census
) -> None:
    async with open_factory(options) as factory, open_api(factory, key_rate=1, key_burst=3) as api:
        answers = [await api.get("/sessions", key="access") for _ in range(5)]
        assert {answer.status_code for answer in answers} == {403, 429}
        last = answers[-1]
        assert (last.status_code, last.json()["code"]) == (429, "rate_limited")
        assert int(last.headers["Retry-After"]) >= 1
        assert (await api.get("/sessions", key="other")).status_code == 200
    async with open_factory(options) as factory, open_api(factory, user_rate=1, user_burst=3) as api:
        answers = [await api.get(f"/session/{mine}/status") for _ in range(6)]
        assert {answer.status_code for answer in answers} == {200, 429}
        # The same user of another tenant is another user.
        theirs = [await api.get(f"/session/{sessions['other']}/status", key="other") for _ in range(2)]
        assert {answer.status_code for answer in theirs} == {200}
    # Other tests call with other limits at once.
    with census.redis() as redis:
        redis.delete(*redis.keys("limit:*"))


async def test_a_browser_may_call_from_where_it_is_allowed_to(
    options: DirectOptions, sessions: Any, mine: SessionId
) -> None:
    async with open_factory(options) as factory, open_api(factory, cors_origins=("https://app.example",)) as api:
        ask = {"Access-Control-Request-Method": "POST", "Access-Control-Request-Headers": "authorization"}
        path = f"/session/{mine}/wake"
        allowed = await api.call("OPTIONS", path, key=None, headers=ask | {"Origin": "https://app.example"})
        assert allowed.headers["access-control-allow-origin"] == "https://app.example"
        refused = await api.call("OPTIONS", path, key=None, headers=ask | {"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in refused.headers
        plain = await api.get(f"/session/{mine}/status", headers={"Origin": "https://evil.example"})
        assert "access-control-allow-origin" not in plain.headers


async def test_access_is_a_code_that_works_once_and_a_token(api: Api, mine: SessionId) -> None:
    answer = await api.post(f"/session/{mine}/access")
    assert answer.status_code == 200, answer.text
    body = answer.json()
    assert body.keys() == {"uuid", "url", "url_expires_at", "token", "expires_at", "scopes"}
    assert body["scopes"] == ["read", "write"]
    assert body["url"].startswith(f"https://vs-code-{mine}.example.com/_session/login?code=")
    browser = Browser(api, mine)
    assert (await browser.login(body["url"])).status_code == 200
    assert [(await browser.login(body["url"], "POST")).status_code for _ in range(2)] == [303, 403]
    token = {"Authorization": f"Bearer {body['token']}"}
    assert (await api.post(f"/session/{mine}/wake", key=None, headers=token)).status_code == 202
    assert (await api.get("/sessions", key=None, headers=token)).status_code == 403
    # No more than the key that asks may do itself.
    assert (await api.post(f"/session/{mine}/access", key="access")).json()["scopes"] == []


async def test_health_needs_no_credential(api: Api) -> None:
    assert (await api.get("/healthz", key=None)).status_code == 200
    assert (await api.get("/readyz", key=None)).json() == {"status": "ready"}
    verbose = (await api.get("/readyz?verbose", key=None)).json()
    assert verbose == {"status": "ready", "dependencies": {"redis": True, "cluster": True, "watch": True}}
    api.services.life.draining.set()
    draining = await api.get("/readyz", key=None)
    assert (draining.status_code, draining.json()) == (503, {"status": "draining"})
    assert (await api.get("/healthz", key=None)).status_code == 200


async def test_a_token_outlives_the_record_that_redis_lost_before_it(api: Api, mine: SessionId, census: Census) -> None:
    with census.redis() as redis:
        redis.delete(f"session:{mine}")
    token = (await api.post(f"/session/{mine}/access")).json()["token"]
    assert (await api.post(f"/session/{mine}/wake")).status_code == 202
    assert (
        await api.get(f"/session/{mine}/status", key=None, headers={"Authorization": f"Bearer {token}"})
    ).status_code == 200


async def test_one_caller_does_not_take_all_places_for_streams(api: Api, mine: SessionId) -> None:
    with ExitStack() as held:
        for _ in range(MOST_STREAMS_PER_CALLER):
            held.enter_context(api.services.streams.place("all"))
        refused = await api.get(f"/session/{mine}/events")
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) >= 1
        held.enter_context(api.services.streams.place("read"))
    with api.services.streams.place("all"):
        pass


async def test_a_stream_ends_when_its_credential_is_revoked(api: Api, mine: SessionId) -> None:
    api.services.streams.heartbeat_seconds = 0.05
    token = await api.services.tokens.issue(mine, MINE, EVERYTHING)
    headers = [(b"authorization", f"Bearer {token.text}".encode())]
    path = f"/session/{mine}/events"
    scope = {"type": "http", "method": "GET", "path": path, "raw_path": path.encode(), "query_string": b""}
    sent: list[Any] = []
    beaten, asked = asyncio.Event(), False

    async def receive() -> Any:
        nonlocal asked
        if not asked:
            asked = True
            return {"type": "http.request", "body": b"", "more_body": False}
        return await asyncio.Event().wait()

    async def send(message: Any) -> None:
        sent.append(message)
        if message.get("body", b"").startswith(b":"):
            beaten.set()

    streaming = asyncio.create_task(api.app({**scope, "headers": headers}, receive, send))
    async with asyncio.timeout(30):
        await beaten.wait()
        assert not streaming.done()
        await api.delete(f"/session/{mine}/access")
        await streaming
    assert sent[0]["status"] == 200
    assert sent[-1]["more_body"] is False


async def test_a_head_that_does_not_come_to_its_end_is_not_waited_for() -> None:
    class Quick(TimedProtocol):
        head_seconds = 0.2

    async def app(scope: Any, receive: Any, send: Any) -> None:
        await asyncio.sleep(0.5)
        await send({"type": "http.response.start", "status": 200, "headers": [(b"content-length", b"2")]})
        await send({"type": "http.response.body", "body": b"ok"})

    config = uvicorn.Config(app, http=Quick, lifespan="off", log_config=None, ws="none")
    server = uvicorn.Server(config)
    listener = socket.create_server(("127.0.0.1", 0))
    serving = asyncio.create_task(server._serve([listener]))
    try:
        async with asyncio.timeout(30):
            for begun in (b"", b"GET / HTTP/1.1\r\nHost:"):
                reader, writer = await asyncio.open_connection(*listener.getsockname())
                writer.write(begun)
                assert await reader.read() == b""
                writer.close()
            # An answer may take longer than a head, and the connection is good for another request.
            reader, writer = await asyncio.open_connection(*listener.getsockname())
            for _ in range(2):
                writer.write(b"GET / HTTP/1.1\r\nHost: a\r\n\r\n")
                assert (await reader.readuntil(b"ok")).startswith(b"HTTP/1.1 200")
            writer.close()
    finally:
        server.should_exit = True
        await serving
