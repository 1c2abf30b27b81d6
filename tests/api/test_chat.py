"""Chat as a backend sees it: stored once, waited for, streamed, cancelled; and the conversation."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import suppress
from dataclasses import dataclass, field
from typing import Any

import httpx
import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.errors import QuotaExceededError, StoreError
from sessionctl.models import MessageOutcome, SessionId
from tests.api.world import Api
from tests.support.census import Census
from tests.support.delivering import Deliverer, delivering
from tests.support.waiting import until

STREAM = {"Accept": "text/event-stream"}


@pytest.fixture
async def deliverer(api: Api, mine: SessionId) -> AsyncIterator[Deliverer]:
    """Delivers in the place of a manager; what waits from other tests is ended."""
    await api.services.demand.sleep(mine, force=True)
    async with delivering(api.services.store, mine) as found:
        yield found
        await api.services.demand.sleep(mine, force=True)


def once() -> dict[str, str]:
    """A fresh idempotency key."""
    return {"Idempotency-Key": new_session_id()}


@dataclass
class Heard:
    """A stream as it comes, as the application sends it."""

    api: Api
    method: str
    path: str
    query: str = ""
    headers: dict[str, str] = field(default_factory=dict)
    body: bytes = b""
    status: int = 0
    text: str = ""
    _gone: asyncio.Event = field(default_factory=asyncio.Event)

    async def run(self) -> None:
        """Listen to the end of the stream, or until ``leave``."""
        asked = False

        async def receive() -> Any:
            nonlocal asked
            if not asked:
                asked = True
                return {"type": "http.request", "body": self.body, "more_body": False}
            await self._gone.wait()
            return {"type": "http.disconnect"}

        async def send(message: Any) -> None:
            self.status = message.get("status", self.status)
            self.text += message.get("body", b"").decode()

        given = {"X-API-Key": self.api.keys["all"], "content-type": "application/json", **self.headers}
        headers = [(name.lower().encode(), value.encode()) for name, value in given.items()]
        scope = {"type": "http", "method": self.method, "path": self.path, "raw_path": self.path.encode()}
        await self.api.app({**scope, "query_string": self.query.encode(), "headers": headers}, receive, send)

    def leave(self) -> None:
        """Go away."""
        self._gone.set()

    @property
    def events(self) -> list[dict[str, Any]]:
        """What came so far."""
        blocks = self.text.split("\n\n")[:-1]
        lines = [line for block in blocks for line in block.split("\n") if line.startswith("data: ")]
        return [json.loads(line.removeprefix("data: ")) for line in lines]

    @property
    def kinds(self) -> list[str]:
        """Their kinds."""
        return [event["event"] for event in self.events]


def chat(api: Api, session_id: SessionId, message: str, **headers: str) -> Heard:
    """Return a streamed chat, not yet begun."""
    body = json.dumps({"message": message}).encode()
    return Heard(api, "POST", f"/session/{session_id}/chat", headers=STREAM | headers, body=body)


def events_of(api: Api, session_id: SessionId, message_id: str, **headers: str) -> Heard:
    """Return the stream of one message, not yet begun."""
    return Heard(api, "GET", f"/session/{session_id}/events", f"message_id={message_id}", headers)


async def test_who_waits_gets_the_reply(api: Api, mine: SessionId, deliverer: Deliverer) -> None:
    again = once()
    asking = asyncio.create_task(
        api.post(f"/session/{mine}/chat", json={"message": "hello"}, params={"wait": 60}, headers=again)
    )
    message_id = await deliverer.answer("you ", "said ", "hello ü")
    answer = await asking
    whole = {
        "uuid": mine,
        "action": "chat",
        "status": "done",
        "message_id": message_id,
        "reply": "you said hello ü",
        "partial": False,
    }
    assert (answer.status_code, answer.json()) == (200, whole)
    # Asked once more, in time or long after: the same message and its reply, and nobody is woken for it.
    await api.services.demand.sleep(mine)
    repeated = await api.post(f"/session/{mine}/chat", json={"message": "hello"}, params={"wait": 1}, headers=again)
    assert (repeated.status_code, repeated.json()) == (200, whole)
    plain = await api.post(f"/session/{mine}/chat", json={"message": "hello"}, headers=again)
    assert (plain.status_code, plain.json()["message_id"]) == (202, message_id)
    assert (await api.get(f"/session/{mine}/status")).json()["replicas"] == 0


async def test_a_reply_is_told_again_to_a_tenant_that_may_wake_no_more(
    api: Api, mine: SessionId, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    again = once()
    path = f"/session/{mine}/chat"
    await api.post(path, json={"message": "x"}, headers=again)
    await deliverer.answer("said")

    async def full(_: SessionId) -> None:
        raise QuotaExceededError("as many are awake as may be")

    monkeypatch.setattr(api.services.demand._quotas, "admit_wake", full)
    assert (await api.post(path, json={"message": "y"})).status_code == 403
    repeated = await api.post(path, json={"message": "x"}, headers=again, params={"wait": 1})
    assert (repeated.status_code, repeated.json()["reply"]) == (200, "said")


async def test_who_waits_in_vain_is_told_so_and_may_ask_again(api: Api, mine: SessionId, deliverer: Deliverer) -> None:
    again = once()
    path = f"/session/{mine}/chat"
    first = await api.post(path, json={"message": "slow"}, params={"wait": 1}, headers=again)
    assert (first.status_code, first.json()["status"]) == (202, "queued")
    asking = asyncio.create_task(api.post(path, json={"message": "slow"}, params={"wait": 60}, headers=again))
    assert await deliverer.answer("at last") == first.json()["message_id"]
    assert (await asking).json()["reply"] == "at last"


@pytest.mark.parametrize("outcome", [MessageOutcome.FAILED, MessageOutcome.INTERRUPTED])
async def test_a_reply_says_how_it_ended(
    api: Api, mine: SessionId, deliverer: Deliverer, outcome: MessageOutcome
) -> None:
    asking = asyncio.create_task(api.post(f"/session/{mine}/chat", json={"message": "x"}, params={"wait": 60}))
    await deliverer.answer("half a", outcome=outcome, reason="it broke")
    answer = (await asking).json()
    assert (answer["status"], answer["reply"], answer["reason"]) == (outcome, "half a", "it broke")


async def test_a_later_attempt_replaces_what_an_earlier_one_replied(
    api: Api, mine: SessionId, deliverer: Deliverer
) -> None:
    asking = asyncio.create_task(api.post(f"/session/{mine}/chat", json={"message": "x"}, params={"wait": 60}))
    message = await deliverer.begin()
    await deliverer.say(message.message_id, "first ", "try")
    await deliverer.say(message.message_id, "second", attempt=2)
    await deliverer.end(message.message_id)
    assert (await asking).json()["reply"] == "second"
    shown = (await api.get(f"/session/{mine}/messages")).json()["messages"]
    assert [each["reply"] for each in shown if each["message_id"] == message.message_id] == ["second"]


@pytest.mark.parametrize("wait", ["0", "-1", "61", "4000", "soon", "1.5", ""])
async def test_a_wait_that_nobody_waits_is_named_and_stores_nothing(api: Api, mine: SessionId, wait: str) -> None:
    before = await api.services.store.list_waiting(mine)
    answer = await api.post(f"/session/{mine}/chat", json={"message": "x"}, params={"wait": wait})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "wait")
    both = await api.post(f"/session/{mine}/chat", json={"message": "x"}, params={"wait": 5}, headers=STREAM)
    assert (both.status_code, both.json()["errors"][0]["field"]) == (422, "wait")
    assert await api.services.store.list_waiting(mine) == before


async def test_a_stream_has_the_events_of_its_message_and_then_ends(
    api: Api, mine: SessionId, deliverer: Deliverer
) -> None:
    heard = chat(api, mine, "stream me")
    listening = asyncio.create_task(heard.run())
    message = await deliverer.begin()
    # It does not wait for what comes later, and others' events are not its own.
    await deliverer.say(message.message_id, "one ")
    await until(lambda: "message-delta" in heard.kinds, "the first piece is there before the rest")
    other = (await api.post(f"/session/{mine}/chat", json={"message": "another"})).json()["message_id"]
    await deliverer.say(message.message_id, "two")
    await deliverer.end(message.message_id)
    await asyncio.wait_for(listening, 60)
    assert heard.status == 200
    queued, *middle, ended = heard.events
    assert (queued["event"], queued["text"], queued["message_id"]) == (
        "message-queued",
        "stream me",
        message.message_id,
    )
    assert [event["event"] for event in middle] == ["message-started", "message-delta", "message-delta"]
    assert [(event["text"], event["first_seq"], event["seq"]) for event in middle[1:]] == [
        ("one ", 1, 4),
        ("two", 5, 7),
    ]
    assert (ended["event"], ended["outcome"]) == ("message-ended", "done")
    assert (ended["attempt"], ended["seq"], ended["partial"]) == (1, 7, None)
    assert other not in heard.text


async def test_a_stream_goes_on_after_the_event_that_is_named(api: Api, mine: SessionId, deliverer: Deliverer) -> None:
    first = chat(api, mine, "cut me")
    listening = asyncio.create_task(first.run())
    message = await deliverer.begin()
    await deliverer.say(message.message_id, "a", "b")
    await until(lambda: first.kinds.count("message-delta") == 2, "two pieces came")
    first.leave()
    await asyncio.wait_for(listening, 60)
    at = first.events[-1]["id"]

    second = events_of(api, mine, message.message_id, **{"Last-Event-ID": at})
    listening = asyncio.create_task(second.run())
    await deliverer.say(message.message_id, "c")
    await deliverer.end(message.message_id)
    await asyncio.wait_for(listening, 60)
    assert [event["text"] for event in second.events] == ["c", None]

    # After its end: all of it, or what is left after an event.
    third, fourth = (
        events_of(api, mine, message.message_id),
        events_of(api, mine, message.message_id, **{"Last-Event-ID": second.events[0]["id"]}),
    )
    for heard in (third, fourth):
        await asyncio.wait_for(heard.run(), 60)
    assert [event["id"] for event in third.events] == [event["id"] for event in first.events + second.events]
    assert fourth.kinds == ["message-ended"]


async def test_a_repeated_stream_is_of_the_same_message(api: Api, mine: SessionId, deliverer: Deliverer) -> None:
    again = once()
    first = chat(api, mine, "twice", **again)
    listening = asyncio.create_task(first.run())
    message_id = await deliverer.answer("done")
    await asyncio.wait_for(listening, 60)
    second = chat(api, mine, "twice", **again)
    await asyncio.wait_for(second.run(), 60)
    assert second.events == first.events
    assert {event["message_id"] for event in second.events} == {message_id}
    reused = chat(api, mine, "other words", **again)
    await asyncio.wait_for(reused.run(), 60)
    assert (reused.status, json.loads(reused.text)["code"]) == (422, "idempotency_key_reused")


async def test_an_outcome_is_told_when_its_events_are_kept_no_longer(
    api: Api, mine: SessionId, deliverer: Deliverer, census: Census
) -> None:
    again = once()
    message_id = (await api.post(f"/session/{mine}/chat", json={"message": "x"}, headers=again)).json()["message_id"]
    await deliverer.answer("forgotten", outcome=MessageOutcome.FAILED)
    with census.redis() as redis:
        redis.delete(f"events:{mine}")
    heard = events_of(api, mine, message_id, **{"Last-Event-ID": "5-3"})
    await asyncio.wait_for(heard.run(), 60)
    (end,) = heard.events
    assert (end["event"], end["outcome"], end["partial"]) == ("message-ended", "failed", True)
    # It comes after whatever the listener has seen; what else happens meanwhile may be later still.
    milliseconds, number = map(int, end["id"].split("-"))
    assert (milliseconds, number) > (5, 3)
    waited = await api.post(f"/session/{mine}/chat", json={"message": "x"}, params={"wait": 1}, headers=again)
    assert waited.json()["status"] == "failed"
    assert waited.json()["partial"] is True


async def test_a_message_that_redis_has_lost_ends_its_stream(
    api: Api, mine: SessionId, deliverer: Deliverer, census: Census
) -> None:
    api.services.streams.heartbeat_seconds = 0.05
    heard = chat(api, mine, "lost")
    listening = asyncio.create_task(heard.run())
    await until(lambda: heard.kinds == ["message-queued"], "it has begun")
    with census.redis() as redis:
        redis.delete(f"session:{mine}", f"queue:{mine}")
    await asyncio.wait_for(listening, 60)
    assert heard.kinds == ["message-queued"]
    unknown = await api.get(f"/session/{mine}/events", params={"message_id": heard.events[0]["message_id"]})
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")


async def test_a_place_is_taken_before_anything_is_stored(api: Api, mine: SessionId) -> None:
    before = await api.services.store.list_waiting(mine)
    api.services.streams.most_per_caller = 0
    for more in ({"headers": STREAM}, {"params": {"wait": 1}}):
        refused = await api.post(f"/session/{mine}/chat", json={"message": "x"}, **more)
        assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
        assert int(refused.headers["Retry-After"]) >= 1
    assert await api.services.store.list_waiting(mine) == before


async def test_a_waited_reply_is_held_as_far_as_there_is_room(api: Api, mine: SessionId, deliverer: Deliverer) -> None:
    api.services.holdings.of_one = 1000
    again, path = once(), f"/session/{mine}/chat"
    asking = asyncio.create_task(api.post(path, json={"message": "x"}, params={"wait": 60}, headers=again))
    message_id = await deliverer.answer("a" * 400, "\x01" * 400, "b", reason="as it is")
    for answer in (await asking, await api.post(path, json={"message": "x"}, params={"wait": 60}, headers=again)):
        assert (answer.status_code, answer.json()["message_id"]) == (200, message_id)
        assert (answer.json()["reply"], answer.json()["partial"]) == ("a" * 400, True)
        assert answer.json()["reason"].startswith("as it is; the reply is longer than what is held")
    assert api.services.holdings.total == 0


async def test_who_waits_has_a_place_until_all_of_the_reply_is_sent(
    api: Api, mine: SessionId, deliverer: Deliverer
) -> None:
    reading = asyncio.Event()
    sent = bytearray()

    async def receive() -> Any:
        return {"type": "http.request", "body": b'{"message": "x"}', "more_body": False}

    async def send(message: Any) -> None:
        sent.extend(message.get("body", b""))
        if sent and message["more_body"]:
            await reading.wait()

    headers = [(b"x-api-key", api.keys["all"].encode()), (b"content-type", b"application/json")]
    path = f"/session/{mine}/chat"
    scope = {"type": "http", "method": "POST", "path": path, "raw_path": path.encode(), "query_string": b"wait=60"}
    asking = asyncio.create_task(api.app({**scope, "headers": headers}, receive, send))
    await deliverer.answer(*["\x01" * 60_000] * 4)
    await until(lambda: sent, "the first part is sent")
    await asyncio.sleep(0)
    assert api.services.holdings.total > 240_000
    api.services.streams.most_per_caller = 1
    refused = await api.post(path, json={"message": "y"}, params={"wait": 1})
    assert (refused.status_code, refused.json()["code"]) == (429, "rate_limited")
    reading.set()
    await asyncio.wait_for(asking, 60)
    assert json.loads(sent)["reply"] == "\x01" * 240_000
    assert api.services.holdings.total == 0
    with api.services.streams.place("all"):
        pass


async def test_a_stream_whose_end_is_kept_no_longer_ends_all_the_same(
    api: Api, mine: SessionId, deliverer: Deliverer, census: Census
) -> None:
    """It was trimmed before this manager had read it; whoever asks again is told the outcome."""
    api.services.streams.heartbeat_seconds = 0.05
    heard = chat(api, mine, "x")
    listening = asyncio.create_task(heard.run())
    await until(lambda: heard.kinds == ["message-queued"], "it has begun")
    message_id = heard.events[0]["message_id"]
    with census.redis() as redis, redis.pipeline(transaction=True) as both:
        both.set(f"ended:{mine}:{message_id}", f"done {heard.events[0]['id']}")
        both.hdel(f"session:{mine}", f"message:{message_id}")
        both.execute()
    await asyncio.wait_for(listening, 60)
    assert heard.kinds == ["message-queued"]
    again = events_of(api, mine, message_id, **{"Last-Event-ID": heard.events[0]["id"]})
    await asyncio.wait_for(again.run(), 60)
    (end,) = again.events
    assert (end["event"], end["outcome"], end["partial"]) == ("message-ended", "done", True)


async def test_a_message_that_is_stored_and_cannot_be_followed_is_not_called_lost(
    api: Api, mine: SessionId, deliverer: Deliverer, monkeypatch: pytest.MonkeyPatch
) -> None:
    def away(*_: object) -> None:
        raise StoreError("Redis is away")

    monkeypatch.setattr(api.services.hub, "listen", away)
    waited = await api.post(f"/session/{mine}/chat", json={"message": "x"}, params={"wait": 60})
    assert (waited.status_code, waited.json()["status"]) == (202, "queued")
    heard = chat(api, mine, "y")
    await asyncio.wait_for(heard.run(), 60)
    assert json.loads(heard.text)["code"] == "outcome_unknown"
    waiting = await api.services.store.list_waiting(mine)
    assert [each.message for each in waiting] == ["x", "y"]
    assert waited.json()["message_id"] == waiting[0].message_id


async def test_who_waits_and_who_listens_is_told_when_the_manager_ends(
    api: Api, mine: SessionId, deliverer: Deliverer
) -> None:
    heard = chat(api, mine, "a")
    listening = asyncio.create_task(heard.run())
    waiting = asyncio.create_task(api.post(f"/session/{mine}/chat", json={"message": "b"}, params={"wait": 60}))
    await until(lambda: _count(api, mine, 2), "both are stored")
    await until(lambda: heard.kinds, "the stream has begun")
    api.services.life.ending.set()
    await asyncio.wait_for(listening, 30)
    assert (await asyncio.wait_for(waiting, 30)).status_code == 202


async def _count(api: Api, mine: SessionId, count: int) -> bool:
    return len(await api.services.store.list_waiting(mine)) == count


async def test_cancel_ends_what_waits_and_asks_for_the_end_of_what_runs(
    api: Api, mine: SessionId, deliverer: Deliverer
) -> None:
    path = f"/session/{mine}"
    ids = [(await api.post(f"{path}/chat", json={"message": each})).json()["message_id"] for each in ("runs", "waits")]
    runs, waits = ids
    assert (await deliverer.begin()).message_id == runs

    cancelled = {"uuid": mine, "action": "cancel", "status": "cancelled", "message_id": waits}
    # A repetition after a lost answer is answered as the first.
    for _ in range(2):
        answer = await api.delete(f"{path}/messages/{waits}")
        assert (answer.status_code, answer.json()) == (200, cancelled)
    for _ in range(2):
        answer = await api.delete(f"{path}/messages/{runs}")
        assert (answer.status_code, answer.json()["status"]) == (202, "cancelling")
    assert await deliverer.wished() == [runs]
    await deliverer.end(runs, MessageOutcome.CANCELLED)
    shown = {each["message_id"]: each["status"] for each in (await api.get(f"{path}/messages")).json()["messages"]}
    assert {each: shown[each] for each in ids} == dict.fromkeys(ids, "cancelled")


async def test_what_has_ended_or_never_was_is_not_cancelled(api: Api, mine: SessionId, deliverer: Deliverer) -> None:
    path = f"/session/{mine}"
    message_id = (await api.post(f"{path}/chat", json={"message": "x"})).json()["message_id"]
    await deliverer.answer("y")
    late = await api.delete(f"{path}/messages/{message_id}")
    assert (late.status_code, late.json()["code"], "done" in late.json()["detail"]) == (409, "conflict", True)
    unknown = await api.delete(f"{path}/messages/{new_session_id()}")
    assert (unknown.status_code, unknown.json()["code"]) == (404, "not_found")
    broken = await api.delete(f"{path}/messages/-x")
    assert (broken.status_code, broken.json()["errors"][0]["field"]) == (422, "message_id")


async def test_a_sleep_by_force_asks_the_agent_to_end_what_runs_and_waits_for_it(
    api: Api, mine: SessionId, deliverer: Deliverer
) -> None:
    path = f"/session/{mine}"
    runs, waits = [
        (await api.post(f"{path}/chat", json={"message": each})).json()["message_id"] for each in ("runs", "waits")
    ]
    await deliverer.begin()
    await deliverer.say(runs, "so far")
    assert (await api.post(f"{path}/sleep")).status_code == 409
    sleeping = asyncio.create_task(api.post(f"{path}/sleep", params={"force": "true"}))
    await until(deliverer.wished, "whoever delivers it has been told")
    # Its agent has the last word on it.
    await deliverer.end(runs, MessageOutcome.CANCELLED, "asked to")
    assert (await sleeping).status_code == 200
    events = await api.services.store.list_events(mine, None, 5000)
    ends = {event.message_id: (event.outcome, event.detail) for event in events if event.kind == "message-ended"}
    assert ends[runs] == ("cancelled", "asked to")
    assert ends[waits][0] == "cancelled"
    assert (await api.get(f"{path}/status")).json()["replicas"] == 0


async def test_asleep_the_conversation_is_what_redis_holds_page_by_page(
    api: Api, mine: SessionId, deliverer: Deliverer
) -> None:
    path = f"/session/{mine}/messages"
    for number in range(4):
        await api.post(f"/session/{mine}/chat", json={"message": f"message {number}"})
    done = [await deliverer.answer(f"reply {number}") for number in range(3)]
    runs = (await deliverer.begin()).message_id
    await deliverer.say(runs, "half")
    await api.services.store.release(mine, api.services.settings.idle.timeout, force=True)
    shown = (await api.get(path)).json()
    newest = shown["messages"][-4:]
    assert shown["partial"] is True
    assert [each["message_id"] for each in newest] == [*done, runs]
    assert [each["message"] for each in newest] == [f"message {number}" for number in range(4)]
    assert [each["status"] for each in newest] == ["done", "done", "done", "running"]
    assert [each["reply"] for each in newest] == ["reply 0", "reply 1", "reply 2", "half"]
    assert newest[0]["at"] is not None

    seen: list[str] = []
    cursor: dict[str, str] = {}
    while len(seen) < 4:
        page = (await api.get(path, params={"limit": 1} | cursor)).json()
        (one,) = page["messages"]
        seen.insert(0, one["message_id"])
        cursor = {"cursor": page["cursor"]} if page["cursor"] else {}
        if not cursor:
            break
    assert seen[-4:] == [*done, runs]
    nothing = (await api.get(path, params={"cursor": new_session_id()})).json()
    assert (nothing["messages"], nothing["cursor"]) == ([], None)
    for params in ({"cursor": "../x"}, {"limit": 0}, {"limit": 101}):
        assert (await api.get(path, params=params)).status_code == 422
    with suppress(httpx.HTTPError):
        await deliverer.end(runs)
