"""The SDK against answers a server gives only in trouble; what it says when all is well is in tests/cli."""

from __future__ import annotations

import asyncio
import json
import random
import time
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from itertools import islice
from typing import Any

import httpx
import pytest

from sessionctl.cli.boundary import exit_code, one_line
from sessionctl.client import Patience, SessionClient
from sessionctl.client.retries import pauses
from sessionctl.client.sse import MOST_BYTES, Frame, FrameDecoder
from sessionctl.errors import (
    ApiError,
    ConflictError,
    DeadlineExceededError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    SessionctlError,
    StoreError,
)
from sessionctl.wire import Event, Problem

SESSION = "3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11"
MADE = {
    "uuid": SESSION,
    "user_id": "alice",
    "status": "created",
    "created_at": "2026-01-02T03:04:05.678901Z",
    "url": f"https://vs-code-{SESSION}.example.com/",
}
WOKEN = {"uuid": SESSION, "action": "wake", "status": "queued", "notice": None}
PATIENCE = Patience(pause=timedelta(milliseconds=1))
IMPATIENT = replace(PATIENCE, retry=timedelta())
Serve = Callable[[httpx.Request], httpx.Response | Awaitable[httpx.Response]]


class Server:
    """Answers one call after the other, the last answer for ever, and keeps what it was asked."""

    def __init__(self, *answers: httpx.Response | Exception) -> None:
        self._answers = list(answers)
        self.asked: list[httpx.Request] = []

    def __call__(self, request: httpx.Request) -> httpx.Response:
        self.asked.append(request)
        answer = self._answers.pop(0) if len(self._answers) > 1 else self._answers[0]
        if isinstance(answer, Exception):
            raise answer
        return answer


def client(serve: Any, patience: Patience = PATIENCE, url: str = "https://api.test", **more: Any) -> SessionClient:
    return SessionClient(url, "key", patience=patience, transport=httpx.MockTransport(serve), **more)


def problem(status: int, code: str, detail: str = "it broke", **more: Any) -> httpx.Response:
    document = Problem(title="Trouble", status=status, code=code, detail=detail)
    headers = {"content-type": "application/problem+json"} | more.pop("headers", {})
    return httpx.Response(status, headers=headers, content=json.dumps(document.model_dump(mode="json") | more))


def every_kind(kind: type[SessionctlError] = SessionctlError) -> list[type[SessionctlError]]:
    return [kind, *(found for child in kind.__subclasses__() for found in every_kind(child))]


@pytest.mark.parametrize("kind", every_kind(), ids=lambda kind: kind.code)
async def test_an_error_of_the_server_is_the_same_error_here(kind: type[SessionctlError]) -> None:
    async with client(Server(problem(418, kind.code, "no room. Make some.")), IMPATIENT) as api:
        with pytest.raises(kind) as caught:
            await api.wake(SESSION)
    assert type(caught.value) is kind
    assert exit_code(caught.value) == exit_code(kind("x"))
    assert one_line(caught.value) == "no room. Make some."


@pytest.mark.parametrize(
    ("status", "kind"),
    [
        (404, NotFoundError),
        (409, ConflictError),
        (422, InvalidRequestError),
        (400, InvalidRequestError),
        (500, ApiError),
    ],
)
async def test_a_code_of_a_newer_server_is_told_by_its_status(status: int, kind: type[SessionctlError]) -> None:
    async with client(Server(problem(status, "brand_new"))) as api:
        with pytest.raises(kind):
            await api.wake(SESSION)


@pytest.mark.parametrize("code", ["no_such_route", "method_not_allowed"])
async def test_a_call_that_an_older_server_lacks_is_no_session_that_is_not_there(code: str) -> None:
    async with client(Server(problem(404, code))) as api:
        with pytest.raises(ApiError, match=r"https://api\.test does not offer this call"):
            await api.why(SESSION)


async def test_the_fields_that_are_wrong_are_named() -> None:
    wrong = problem(422, "invalid_request", "the body is wrong", errors=[{"field": "body.user_id", "message": "empty"}])
    async with client(Server(wrong)) as api:
        with pytest.raises(InvalidRequestError, match=r"^the body is wrong: body\.user_id: empty$"):
            await api.create("x")


async def test_the_fields_of_a_newer_server_are_ignored() -> None:
    async with client(Server(httpx.Response(201, json=MADE | {"colour": "red"}))) as api:
        assert (await api.create("alice")).model_dump(mode="json") == MADE


@pytest.mark.parametrize(
    "failure",
    [
        httpx.ConnectError("refused"),
        httpx.ReadError("cut"),
        httpx.ReadTimeout("late"),
        httpx.RemoteProtocolError("half an answer"),
        httpx.Response(502, text="bad gateway"),
        httpx.Response(503, html="<h1>no backend</h1>"),
        httpx.Response(504, text="late"),
        problem(503, "outcome_unknown", headers={"retry-after": "0"}),
        problem(429, "rate_limited", headers={"retry-after": "0"}),
        problem(409, "in_progress", headers={"retry-after": "0"}),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else str(value.status_code),
)
async def test_a_create_that_may_be_lost_is_repeated_with_the_same_key(failure: Any) -> None:
    server = Server(failure, failure, httpx.Response(201, json=MADE))
    async with client(server) as api:
        assert (await api.create("alice")).uuid == SESSION
        await api.create("alice")
    keys = [request.headers["idempotency-key"] for request in server.asked]
    assert keys[0] == keys[1] == keys[2] != keys[3]
    assert {request.content for request in server.asked[:3]} == {b'{"user_id":"alice","profile":"default"}'}


@pytest.mark.parametrize("code", ["helm_failed", "deadline_exceeded", "internal", "conflict"])
async def test_what_the_server_has_decided_is_not_asked_again(code: str) -> None:
    server = Server(problem(502 if code == "helm_failed" else 504, code), httpx.Response(201, json=MADE))
    async with client(server) as api:
        with pytest.raises(SessionctlError, match="it broke"):
            await api.create("alice")
    assert len(server.asked) == 1


def test_pauses_grow_with_jitter_up_to_a_limit() -> None:
    found = list(islice(pauses(timedelta(milliseconds=200)), 8))
    assert all(low <= pause <= low * 1.5 for low, pause in zip((0.2, 0.4, 0.8, 1.6, 3.2, 5, 5, 5), found, strict=True))
    assert found != list(islice(pauses(timedelta(milliseconds=200)), 8))


async def test_an_api_that_does_not_answer_is_named_when_patience_ends() -> None:
    reports: list[str] = []
    server = Server(httpx.ConnectError("refused"))
    async with client(server, replace(PATIENCE, retry=timedelta(milliseconds=50)), report=reports.append) as api:
        with pytest.raises(ApiError, match=r"^https://api\.test does not answer: refused$"):
            await api.wake(SESSION)
    assert reports == ["https://api.test does not answer: refused; trying again"] * (len(server.asked) - 1)
    assert reports


async def test_the_server_says_when_to_come_back() -> None:
    server = Server(problem(503, "unavailable", headers={"retry-after": "1"}), httpx.Response(202, json=WOKEN))
    begun = time.monotonic()
    async with client(server) as api:
        await api.wake(SESSION)
    assert time.monotonic() - begun >= 1


async def test_a_wait_longer_than_the_patience_is_not_begun() -> None:
    server = Server(problem(429, "rate_limited", "too many", headers={"retry-after": "60"}))
    async with client(server) as api:
        with pytest.raises(RateLimitedError, match="too many") as caught:
            await api.wake(SESSION)
    assert (caught.value.retry_after, len(server.asked)) == (60, 1)


async def test_a_call_ends_when_its_time_is_over() -> None:
    async def never(_: httpx.Request) -> httpx.Response:
        await asyncio.Event().wait()
        raise AssertionError

    async with client(never, replace(PATIENCE, total=timedelta(milliseconds=10))) as api:
        with pytest.raises(DeadlineExceededError, match=r"https://api\.test did not answer within 0\.01 s"):
            await api.create("alice")


async def test_credentials_in_the_url_are_used_and_not_shown() -> None:
    server = Server(httpx.UnsupportedProtocol("no"))
    async with client(server, url="https://user:hunter2@api.test/base/") as api:
        with pytest.raises(ApiError) as caught:
            await api.wake(SESSION)
    assert server.asked[0].url.path == f"/base/session/{SESSION}/wake"
    assert server.asked[0].headers["authorization"].startswith("Basic ")
    assert "https://api.test/base does not answer" in str(caught.value)
    assert "hunter2" not in str(caught.value) + repr(caught.value)


@pytest.mark.parametrize("url", ["", "api.test", "ftp://api.test", "https://", "http://api.test:x", "/session"])
def test_what_is_no_url_is_refused(url: str) -> None:
    with pytest.raises(InvalidRequestError, match="the URL of the Session API"):
        SessionClient(url, "key")


@pytest.mark.parametrize("key", ["", " \n", "a\nb", "schlüssel"])
def test_what_is_no_key_is_refused_and_not_shown(key: str) -> None:
    with pytest.raises(InvalidRequestError, match="the API key is empty or holds") as caught:
        SessionClient("https://api.test", key)
    assert not key.strip() or key not in str(caught.value)


async def test_a_redirect_is_not_followed_and_the_key_goes_nowhere_else() -> None:
    server = Server(httpx.Response(307, headers={"location": "https://elsewhere.test/"}))
    async with client(server) as api:
        with pytest.raises(ApiError, match="redirect"):
            await api.wake(SESSION)
    assert [request.url.host for request in server.asked] == ["api.test"]


@pytest.mark.parametrize(
    "answer",
    [
        httpx.Response(200, html="<h1>Log in</h1>"),
        httpx.Response(200, headers={"content-type": "application/json"}, text="{"),
        httpx.Response(200, json={"uuid": SESSION}),
        httpx.Response(404, text="404 page not found"),
        httpx.Response(400, headers={"content-type": "application/problem+json"}, text="[]"),
    ],
)
async def test_somebody_else_is_not_taken_for_the_session_api(answer: httpx.Response) -> None:
    async with client(Server(answer)) as api:
        with pytest.raises(ApiError):
            await api.wake(SESSION)


async def test_a_session_id_cannot_lead_to_another_path() -> None:
    server = Server(httpx.Response(202, json=WOKEN))
    async with client(server) as api:
        for word in ("../create", SESSION.upper(), f"{SESSION}/..", ""):
            with pytest.raises(InvalidRequestError, match="is not a session id"):
                await api.wake(word)
    assert server.asked == []


# Streams


def event(number: int, **more: Any) -> dict[str, Any]:
    base = {"id": f"{1000 + number}-0", "event": "woken", "uuid": SESSION, "at": "2026-01-02T03:04:05Z"}
    return base | {"detail": f"number {number}, ü \u2028 🦊"} | more


def frames(events: list[dict[str, Any]], end: str = "\n") -> bytes:
    def one(item: dict[str, Any]) -> str:
        data = json.dumps(item, ensure_ascii=False)
        return f": keep-alive{end}{end}id: {item['id']}{end}event: {item['event']}{end}data: {data}{end}{end}"

    return "".join(one(item) for item in events).encode()


class Pieces(httpx.AsyncByteStream):
    """A body that comes in given pieces and then ends, or breaks."""

    def __init__(self, pieces: list[bytes], failure: Exception | None = None) -> None:
        self._pieces = pieces
        self._failure = failure

    async def __aiter__(self) -> AsyncIterator[bytes]:
        for piece in self._pieces:
            yield piece
        if self._failure is not None:
            raise self._failure


def streamed(pieces: list[bytes], failure: Exception | None = None) -> httpx.Response:
    return httpx.Response(200, headers={"content-type": "text/event-stream"}, stream=Pieces(pieces, failure))


@pytest.mark.parametrize("seed", range(25))
@pytest.mark.parametrize("honest", [True, False], ids=["resumes", "begins anew"])
async def test_a_stream_cut_anywhere_misses_nothing_and_repeats_nothing(seed: int, honest: bool) -> None:
    chance = random.Random(seed)
    events = [event(number) for number in range(30)]
    asked: list[str | None] = []

    def serve(request: httpx.Request) -> httpx.Response:
        last = request.headers.get("last-event-id")
        asked.append(last)
        begin = 0 if last is None or not honest else 1 + [item["id"] for item in events].index(last)
        body = frames(events[begin:], chance.choice(["\n", "\r\n", "\r"]))
        body = body[: chance.randrange(len(body) + 1)] if len(asked) % 3 else body
        cuts = sorted(chance.randrange(len(body) + 1) for _ in range(chance.randrange(20)))
        pieces = [body[start:stop] for start, stop in zip([0, *cuts], [*cuts, len(body)], strict=True)]
        failure = chance.choice(
            [None, httpx.ReadError("cut"), httpx.RemoteProtocolError("half"), httpx.ReadTimeout("")]
        )
        return httpx.Response(503) if chance.randrange(4) == 0 else streamed(pieces, failure)

    seen: list[Event] = []
    async with client(serve) as api, aclosing(api.events(SESSION)) as stream:
        async for item in stream:
            seen.append(item)
            if len(seen) == len(events):
                break
    assert [item.model_dump(mode="json", exclude_none=True) for item in seen] == events


async def test_a_stream_goes_on_after_the_event_that_is_named() -> None:
    server = Server(streamed([frames([event(8)])]))
    async with client(server) as api:
        found = [item.id async for item in api.events(SESSION, after="1007-0", follow=False)]
    assert found == ["1008-0"]
    assert server.asked[0].headers["last-event-id"] == "1007-0"
    assert server.asked[0].headers["accept"] == "text/event-stream"


async def test_kinds_and_fields_of_a_newer_server_are_left_out() -> None:
    body = frames([event(1, event="teleported"), event(2, weather="fine")])
    async with client(Server(streamed([body]))) as api:
        assert [item.id async for item in api.events(SESSION, follow=False)] == ["1002-0"]


@pytest.mark.parametrize("kind", [NotFoundError, StoreError])
async def test_a_stream_ends_with_what_the_server_says(kind: type[SessionctlError]) -> None:
    status = 404 if kind is NotFoundError else 502
    server = Server(streamed([frames([event(1)])]), problem(status, kind.code))
    async with client(server) as api:
        stream = api.events(SESSION)
        assert (await anext(stream)).id == "1001-0"
        with pytest.raises(kind, match="it broke"):
            await anext(stream)


async def test_a_stream_that_only_fails_is_given_up() -> None:
    server = Server(httpx.ConnectError("refused"))
    async with client(server, replace(PATIENCE, retry=timedelta(milliseconds=50))) as api:
        with pytest.raises(ApiError, match="does not answer: refused"):
            await anext(api.events(SESSION))
    assert len(server.asked) > 1


def test_the_standard_s_own_examples_of_a_stream() -> None:
    decoder = FrameDecoder()
    assert decoder.feed(
        b"\xef\xbb\xbf: test stream\n\ndata: first event\nid: 1\n\ndata:second event\nid\n\ndata:  third"
    ) == [
        Frame("1", "message", "first event"),
        Frame("", "message", "second event"),
    ]
    assert decoder.feed(b" event\nretry: 1500\n\n") == [Frame("", "message", " third event")]
    assert decoder.retry_seconds == 1.5
    assert decoder.feed(b"data: YHOO\ndata: +2\ndata: 10\n\ndata\n\ndata\ndata\n\ndata:") == [
        Frame("", "message", "YHOO\n+2\n10"),
        Frame("", "message", ""),
        Frame("", "message", "\n"),
    ]


def test_an_event_without_end_is_not_held() -> None:
    with pytest.raises(ApiError, match="more than 4 MiB"):
        FrameDecoder().feed(b"data: " + b"x" * MOST_BYTES)
    with pytest.raises(ApiError, match="more than 4 MiB"):
        FrameDecoder().feed((b"data: " + b"x" * 1000 + b"\n") * (MOST_BYTES // 1000))


async def test_a_list_goes_on_from_page_to_page() -> None:
    row = {
        "uuid": SESSION,
        "session": {"user_id": "a", "tenant": "t", "profile": "p", "status": "active", "reason": None, "url": "u"}
        | {"created_at": "2026-01-02T03:04:05Z", "last_active": None, "deleted_at": None, "restorable_until": None},
        "queue_length": None,
        "replicas": 1,
        "ready_replicas": 1,
        "timestamp": "2026-01-02T03:04:05Z",
    }
    server = Server(
        httpx.Response(200, json={"sessions": [row, row], "cursor": "next"}),
        httpx.Response(200, json={"sessions": [row], "cursor": None}),
    )
    async with client(server) as api:
        assert len([item async for item in api.list(user_id="a&b")]) == 3
    assert [dict(request.url.params) for request in server.asked] == [
        {"user_id": "a&b"},
        {"user_id": "a&b", "cursor": "next"},
    ]


async def test_certificates_that_cannot_be_trusted_are_said_at_once() -> None:
    import ssl

    refused = ssl.SSLCertVerificationError(1, "certificate verify failed")
    refused.verify_message = "self-signed certificate"
    failure = httpx.ConnectError("certificate verify failed")
    failure.__cause__ = refused
    server = Server(failure)
    async with client(server) as api:
        with pytest.raises(ApiError, match="no certificate that can be trusted: self-signed certificate"):
            await api.wake(SESSION)
    assert len(server.asked) == 1
