"""Replies as the SDK tells them: streamed, waited for, cancelled; against answers that only trouble brings."""

from __future__ import annotations

import json
import random
from contextlib import aclosing
from datetime import timedelta
from typing import Any

import httpx
import pytest

from sessionctl.client import ReplyPiece
from sessionctl.errors import ConflictError, InvalidRequestError, NotFoundError
from sessionctl.wire import ChatReply, QueuedChat
from tests.unit.test_client import SESSION, Server, client, frames, problem, streamed

MESSAGE = "7d4b1c1e-1f0a-4c5e-9d59-4a4d9f1f2b55"
QUEUED = {"uuid": SESSION, "action": "chat", "status": "queued", "message_id": MESSAGE}
REPLY = {"uuid": SESSION, "action": "chat", "status": "done", "message_id": MESSAGE, "reply": "hi"}


def told(number: int, kind: str, **more: Any) -> dict[str, Any]:
    at = {"id": f"{1000 + number}-0", "event": kind, "uuid": SESSION, "at": "2026-01-02T03:04:05Z"}
    return at | {"message_id": MESSAGE} | more


def delta(number: int, text: str, seq: int, attempt: int = 1, first: int | None = None) -> dict[str, Any]:
    return told(number, "message-delta", text=text, attempt=attempt, seq=seq, first_seq=first or seq)


def reply_of(*deltas: dict[str, Any], outcome: str = "done", detail: str = "") -> list[dict[str, Any]]:
    last = len(deltas) + 2
    return [
        told(0, "message-queued", text="hello"),
        told(1, "message-started"),
        *deltas,
        told(last, "message-ended", outcome=outcome, detail=detail),
    ]


@pytest.mark.parametrize("seed", range(25))
async def test_a_reply_cut_anywhere_loses_nothing_and_doubles_nothing(seed: int) -> None:
    chance = random.Random(seed)
    words = [f"word {number} ü\u2028🦊 " for number in range(20)]
    events = reply_of(*(delta(number + 2, word, number + 1) for number, word in enumerate(words)))
    asked: list[httpx.Request] = []

    def serve(request: httpx.Request) -> httpx.Response:
        asked.append(request)
        begin = 0
        if request.method == "GET":
            assert request.url.params["message_id"] == MESSAGE
            begin = 1 + [item["id"] for item in events].index(request.headers["last-event-id"])
        else:
            assert json.loads(request.content) == {"message": "hello"}
        if chance.randrange(4) == 0:
            return httpx.Response(503)
        body = frames(events[begin:])
        body = body[: chance.randrange(len(body) + 1)] if len(asked) % 3 else body
        failure = chance.choice([None, httpx.ReadError("cut"), httpx.RemoteProtocolError("half")])
        return streamed([body], failure)

    async with client(serve) as api, api.stream(SESSION, "hello") as reply:
        assert reply.message_id == MESSAGE
        pieces = [piece async for piece in reply]
    assert pieces == [ReplyPiece(word) for word in words]
    assert (reply.text, reply.outcome, reply.reason) == ("".join(words), "done", None)
    # Until it has heard of its message it sends the same one again; from then on it only asks.
    assert all((request.method == "GET") is ("last-event-id" in request.headers) for request in asked)
    assert len({request.headers["idempotency-key"] for request in asked if request.method == "POST"}) == 1
    assert {request.headers["accept"] for request in asked} == {"text/event-stream"}


async def test_a_later_attempt_replaces_what_came_before() -> None:
    events = reply_of(
        delta(2, "first ", 1), delta(3, "try", 2), delta(4, "second", 1, attempt=2), outcome="failed", detail="it broke"
    )
    async with client(Server(streamed([frames(events)]))) as api, api.stream(SESSION, "hello") as reply:
        pieces = [piece async for piece in reply]
    assert [(piece.text, piece.replaces) for piece in pieces] == [("first ", False), ("try", False), ("second", True)]
    assert (reply.text, reply.outcome, reply.reason) == ("second", "failed", "it broke")


async def test_a_first_piece_of_a_later_attempt_replaces_nothing() -> None:
    events = reply_of(delta(2, "second", 1, attempt=2))
    async with client(Server(streamed([frames(events)]))) as api, api.stream(SESSION, "hello") as reply:
        assert [piece.replaces async for piece in reply] == [False]


async def test_what_is_kept_no_longer_is_told() -> None:
    events = reply_of(delta(2, "a", 2, first=1), delta(3, "c", 9, first=8), delta(4, "d", 10))
    async with client(Server(streamed([frames(events)]))) as api, api.stream(SESSION, "hello") as reply:
        assert [(piece.text, piece.gap) async for piece in reply] == [("a", False), ("c", True), ("d", False)]


@pytest.mark.parametrize(
    ("deltas", "end", "partial"),
    [
        ([delta(2, "a", 1)], {"attempt": 1, "seq": 1}, False),
        ([delta(2, "a", 1)], {}, False),
        ([], {}, False),
        ([delta(2, "a", 2, first=1), delta(3, "c", 9, first=8)], {"attempt": 1, "seq": 9}, True),
        ([delta(2, "a", 1)], {"attempt": 1, "seq": 2}, True),
        ([delta(2, "a", 1)], {"attempt": 2, "seq": 1}, True),
        ([], {"attempt": 1, "seq": 3}, True),
        ([], {"partial": True}, True),
        ([delta(2, "b", 5), delta(3, "a", 1, attempt=2)], {"attempt": 2, "seq": 1}, False),
    ],
)
async def test_a_reply_that_lacks_something_says_so(
    deltas: list[dict[str, Any]], end: dict[str, Any], partial: bool
) -> None:
    *before, last = reply_of(*deltas)
    async with client(Server(streamed([frames([*before, last | end])]))) as api, api.stream(SESSION, "hi") as reply:
        _ = [piece async for piece in reply]
    assert (reply.outcome, reply.partial) == ("done", partial)


async def test_a_message_that_the_server_has_lost_ends_the_reply() -> None:
    server = Server(streamed([frames(reply_of()[:1])]), problem(404, "not_found", "there is no message"))
    async with client(server) as api, api.stream(SESSION, "hello") as reply:
        with pytest.raises(NotFoundError, match="there is no message"):
            await anext(reply)


async def test_a_message_that_is_refused_is_not_sent_again() -> None:
    server = Server(problem(409, "conflict", "session is deleted"))
    async with client(server) as api:
        with pytest.raises(ConflictError, match="deleted"):
            async with api.stream(SESSION, "hello"):
                pass
    assert len(server.asked) == 1


async def test_whoever_leaves_closes_the_stream_and_may_leave_at_any_time() -> None:
    server = Server(*(streamed([frames(reply_of(delta(2, "a", 1)))]) for _ in range(2)))
    async with client(server) as api:
        async with api.stream(SESSION, "hello") as reply:
            assert (await anext(reply)).text == "a"
        async with aclosing(api.chat_events(SESSION, "hello")) as events:
            assert (await anext(events)).event == "message-queued"


async def test_a_wait_longer_than_one_request_goes_on_with_the_same_key() -> None:
    server = Server(httpx.Response(202, json=QUEUED), httpx.Response(200, json=REPLY))
    async with client(server) as api:
        reply = await api.chat(SESSION, "hello", wait=timedelta(minutes=1))
    assert isinstance(reply, ChatReply)
    assert (reply.status, reply.reply) == ("done", "hi")
    assert [request.url.params["wait"] for request in server.asked] == ["20", "20"]
    assert len({request.headers["idempotency-key"] for request in server.asked}) == 1


async def test_a_wait_ends() -> None:
    server = Server(httpx.Response(202, json=QUEUED))
    async with client(server) as api:
        queued = await api.chat(SESSION, "hello", wait=timedelta(milliseconds=1), idempotency_key="mine")
        assert isinstance(queued, QueuedChat)
        assert (await api.chat(SESSION, "hello")).message_id == MESSAGE
    waits = [(request.url.params.get("wait"), request.headers["idempotency-key"]) for request in server.asked]
    assert waits[0] == ("1", "mine")
    assert waits[1][0] is None


async def test_a_message_id_cannot_lead_to_another_path() -> None:
    server = Server(httpx.Response(200, json=QUEUED | {"action": "cancel", "status": "cancelled"}))
    async with client(server) as api:
        for word in ("../x", "", "-x", f"{MESSAGE}/.."):
            with pytest.raises(InvalidRequestError, match="is not the id of a message"):
                await api.cancel(SESSION, word)
        assert server.asked == []
        assert (await api.cancel(SESSION, MESSAGE)).status == "cancelled"
    assert (server.asked[0].method, server.asked[0].url.path) == ("DELETE", f"/session/{SESSION}/messages/{MESSAGE}")
