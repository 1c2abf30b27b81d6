"""Dispatchers on a real Redis: every message has one outcome, in order, whatever dies at which step."""

from __future__ import annotations

import asyncio
from contextlib import suppress
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest
import pytest_asyncio

from sessionctl.adapters.store import keys
from sessionctl.core import dispatcher, pods
from sessionctl.core.delivery import Result
from sessionctl.core.dispatcher import Doorbell
from sessionctl.errors import ClusterError, StoreError
from sessionctl.models import EnqueueOutcome, EventKind, MessageOutcome, SessionId
from tests.support.between import Hooks
from tests.support.dispatching import HURRIED, Gates, Mortal, Room
from tests.support.redis import RedisServer
from tests.support.sessions import make_workspace
from tests.support.table import Table
from tests.support.waiting import throughout, until

DONE, FAILED = MessageOutcome.DONE, MessageOutcome.FAILED


async def test_messages_are_answered_in_order_and_leave_nothing_behind(room: Room, table: Table) -> None:
    session_id = await room.session()
    await room.chat(session_id, "one", "two", "three")
    room.dispatcher()
    assert await room.all_end(session_id, "m3") == [("m1", DONE), ("m2", DONE), ("m3", DONE)]
    assert [await room.reply(session_id, message_id) for message_id in ("m1", "m2", "m3")] == ["one", "two", "three"]
    of_each = [EventKind.MESSAGE_STARTED, EventKind.MESSAGE_DELTA, EventKind.MESSAGE_ENDED]
    assert [event.kind for event in await room.events(session_id)] == [EventKind.MESSAGE_QUEUED] * 3 + of_each * 3
    await room.is_free(session_id)
    assert table.elements(session_id) == [b"awake"]
    assert table.admin.get(keys.dispatch_lock(session_id)) is None
    assert room.metrics.messages == {DONE: 3}


async def test_a_chat_is_delivered_because_its_manager_is_told_and_elsewhere_because_it_is_pending(room: Room) -> None:
    session_id = await room.session()
    doorbell = Doorbell()
    doorbell.ring(session_id)  # nobody hears it
    deaf = room.dispatcher(scans=False)
    doorbell.listen(deaf.notify)
    demand = room.demand(tell=doorbell.ring)
    for number in range(5):
        await demand.enqueue(session_id, f"m{number}", "hello", 100)
    assert len(await room.all_end(session_id, "m4")) == 5
    await room.chat(session_id, "found", first=9)
    await deaf.scan()
    assert (await room.all_end(session_id, "m9"))[-1] == ("m9", DONE)


async def test_a_chat_that_comes_with_the_last_look_is_not_forgotten(room: Room) -> None:
    session_id = await room.session()
    hooks = Hooks()
    dispatcher = room.dispatcher(hooks.around(room.store), scans=False)
    await room.chat(session_id, "one")

    async def another() -> None:
        await room.chat(session_id, "two", first=2)
        dispatcher.notify(session_id)

    hooks.after("get_next", another, nth=2)
    dispatcher.notify(session_id)
    assert await room.all_end(session_id, "m2") == [("m1", DONE), ("m2", DONE)]


STEPS = [
    ("take_dispatch", 1),
    ("get_next", 1),
    ("start_message", 1),
    ("append_reply", 1),
    ("append_reply", 2),
    ("finish_message", 1),
    ("get_next", 2),
    ("finish_message", 2),
    ("get_next", 3),
]


@pytest.mark.parametrize("before", [True, False], ids=["before", "after"])
@pytest.mark.parametrize(("step", "nth"), STEPS, ids=[f"{step}-{nth}" for step, nth in STEPS])
async def test_whoever_stops_at_a_step_is_followed_and_does_no_harm_when_it_goes_on(
    room: Room, gates: Gates, step: str, nth: int, before: bool
) -> None:
    """A kill and a long pause are the same to everybody else; the one that was paused runs every step twice."""
    session_id = await room.session()
    await room.chat(session_id, "one two", "three")
    mortal = Mortal(room.store, step, before=before, nth=nth)
    room.dispatcher(mortal).notify(session_id)
    if (step, nth) == ("append_reply", 1):
        await mortal.stopped.wait()
    await gates.running("one two") if step not in {"take_dispatch", "get_next", "start_message"} else None
    gates.open("one two")
    await mortal.stopped.wait()
    room.dispatcher()
    await room.all_end(session_id, "m1", "m2")
    await room.is_free(session_id)
    calls = mortal.calls.total()
    mortal.go_on()
    await until(lambda: mortal.calls.total() > calls, "it goes on")
    await room.chat(session_id, "last", first=3)
    assert await room.all_end(session_id, "m3") == [("m1", DONE), ("m2", DONE), ("m3", DONE)]
    assert [await room.reply(session_id, message_id) for message_id in ("m1", "m2")] == ["onetwo", "three"]
    assert room.fake.begun == {"m1": 1, "m2": 1, "m3": 1}


async def test_two_dispatchers_share_sessions_without_a_word(room: Room) -> None:
    sessions = [await room.session() for _ in range(5)]
    both = [room.dispatcher(settings=HURRIED, scans=False) for _ in range(2)]
    for number in range(1, 6):
        for session_id in sessions:
            await room.chat(session_id, "hello", first=number)
            for each in both:
                each.notify(session_id)
    for session_id in sessions:
        assert await room.all_end(session_id, "m5") == [(f"m{number}", DONE) for number in range(1, 6)]


async def test_a_fence_that_is_lost_stops_its_owner_at_once(room: Room, gates: Gates, table: Table) -> None:
    session_id = await room.session()
    await room.chat(session_id, "one two")
    delivery = asyncio.create_task(room.delivery(session_id).run())
    await gates.running("one two")
    await room.says(session_id, "one")
    # Somebody who found the lock expired.
    table.admin.delete(keys.dispatch_lock(session_id))
    fence = await room.store.take_dispatch(session_id, "another", timedelta(seconds=60))
    assert fence is not None
    # Its agent says nothing more: the renewal notices.
    assert await delivery is Result.LOST
    assert await room.ends(session_id) == []
    await room.store.drop_dispatch(fence)
    gates.open("one two")
    room.dispatcher()
    assert await room.all_end(session_id, "m1") == [("m1", DONE)]
    assert await room.reply(session_id) == "onetwo"


async def test_the_end_of_a_process_gives_its_locks_back(room: Room, gates: Gates) -> None:
    session_id = await room.session()
    await room.chat(session_id, "one two")
    first = room.dispatcher(settings=HURRIED, scans=False)
    first.notify(session_id)
    await gates.running("one two")
    await first.close()
    first.notify(session_id)
    gates.open("one two")
    room.dispatcher(settings=HURRIED, scans=False).notify(session_id)
    assert await room.all_end(session_id, "m1") == [("m1", DONE)]
    assert room.fake.begun == {"m1": 1}


async def test_redis_may_be_away_at_any_step(room: Room, gates: Gates) -> None:
    hooks = Hooks()
    store = hooks.around(room.store)

    async def away() -> None:
        raise StoreError("away")

    for step in ("get_next", "start_message", "append_reply", "finish_message", "renew_dispatch"):
        hooks.before(step, away)
        hooks.after(step, away, nth=2)
    session_id = await room.session()
    await room.chat(session_id, "one two", "three")
    room.dispatcher(store)
    await gates.running("one two")
    await until(lambda: hooks.calls["renew_dispatch"] > 3, "the lock is renewed all the same")
    gates.open("one two")
    assert await room.all_end(session_id, "m2") == [("m1", DONE), ("m2", DONE)]
    assert await room.reply(session_id) == "onetwo"
    assert room.fake.begun == {"m1": 1, "m2": 1}


async def test_a_redis_that_restarts_in_the_middle_of_a_reply(room: Room, gates: Gates, redis: RedisServer) -> None:
    session_id = await room.session()
    await room.chat(session_id, "one two")
    room.dispatcher()
    await gates.running("one two")
    await room.says(session_id, "one")
    await asyncio.to_thread(redis.restart)
    gates.open("one two")
    assert await room.all_end(session_id, "m1") == [("m1", DONE)]
    assert await room.reply(session_id) == "onetwo"
    assert room.fake.begun == {"m1": 1}


async def test_a_record_that_is_missing_is_rebuilt(room: Room, table: Table) -> None:
    session_id = await room.session()
    await room.chat(session_id, "forgotten")
    table.admin.delete(keys.record(session_id))
    assert await room.delivery(session_id).run() is Result.EMPTY
    assert table.field(session_id, "user_id") == "alice"
    await room.is_free(session_id)


async def test_nothing_is_sent_before_a_pod_is_ready(room: Room) -> None:
    session_id = await room.session(ready=False)
    await room.chat(session_id, "hello")
    room.dispatcher()
    for state in ({"ready": False}, {"ready": True, "ending": True}, {"ending": False, "is_over": True}):
        room.field.show_pod(session_id, **state)
        await throughout(lambda: not room.fake.begun, f"nothing is sent to a pod {state}", 0.3)
    room.field.show_pod(session_id, is_over=False)
    assert await room.all_end(session_id, "m1") == [("m1", DONE)]


async def test_nothing_is_sent_to_a_session_that_is_seen_asleep(room: Room) -> None:
    session_id = await room.session(replicas=0)
    await room.chat(session_id, "hello")
    room.dispatcher()
    await throughout(lambda: not room.fake.begun, "its pod is about to be taken down", 0.5)
    room.field.show(replace(room.field.workspaces[session_id], replicas=1))
    assert await room.all_end(session_id, "m1") == [("m1", DONE)]


async def test_a_delivery_that_waits_for_a_pod_ends_with_its_messages(room: Room) -> None:
    session_id = await room.session(ready=False)
    await room.chat(session_id, "hello")
    delivery = asyncio.create_task(room.delivery(session_id).run())
    await until(lambda: session_id in room.mirror.bells._waiting, "it waits")
    await room.store.settle_waiting(session_id, FAILED, "it does not start")
    room.field.show(replace(room.field.workspaces[session_id], replicas=0))
    assert await delivery is Result.EMPTY


async def test_whoever_cannot_see_the_cluster_leaves_what_waits_for_a_pod_to_others(
    room: Room, monkeypatch: pytest.MonkeyPatch
) -> None:
    session_id = await room.session(ready=False)
    await room.chat(session_id, "hello")
    monkeypatch.setattr(pods, "BLIND", timedelta(milliseconds=50))
    delivery = asyncio.create_task(room.delivery(session_id).run())
    await until(lambda: session_id in room.mirror.bells._waiting, "it waits")
    monkeypatch.setattr(room.mirror, "stale_for", lambda: timedelta(minutes=1))
    with pytest.raises(ClusterError):
        await delivery
    assert await room.store.take_dispatch(session_id, "somebody else", timedelta(minutes=1)) is not None


class TestHold:
    """A message that found its list empty while a pod ran."""

    @pytest_asyncio.fixture
    async def session_id(self, room: Room, table: Table) -> SessionId:
        session_id = await room.session()
        table.admin.delete(keys.queue(session_id))
        room.field.seen_by_keda[session_id] = datetime(2026, 1, 1, tzinfo=UTC)
        return session_id

    async def held(self, room: Room, session_id: SessionId, seconds: float) -> None:
        await room.chat(session_id, "hello", hold=timedelta(seconds=seconds))
        room.dispatcher()
        await throughout(lambda: not room.fake.begun, "it is held", 0.5)

    async def test_it_waits_until_the_time_is_over(self, room: Room, session_id: SessionId) -> None:
        await self.held(room, session_id, 1.2)
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]

    async def test_it_waits_until_keda_has_seen_it(self, room: Room, session_id: SessionId) -> None:
        await self.held(room, session_id, 600)
        room.field.seen_by_keda[session_id] = datetime(2026, 1, 1, 0, 0, 1, tzinfo=UTC)
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]

    async def test_a_pod_that_comes_later_is_used_at_once(self, room: Room, session_id: SessionId) -> None:
        """Whatever the clocks say: the new one may look older than the message."""
        await self.held(room, session_id, 600)
        room.field.show_pod(session_id, ending=True)
        room.field.show_pod(session_id, "another")
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]

    async def test_a_pod_that_was_made_for_it_is_used_at_once(self, room: Room, session_id: SessionId) -> None:
        room.field.show_pod(session_id, created_at=datetime.now(UTC) + timedelta(seconds=1))
        await room.chat(session_id, "hello", hold=timedelta(seconds=600))
        room.dispatcher()
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]


@pytest.mark.parametrize("step", ["get_next", "renew_dispatch"])
async def test_a_cancellation_that_is_swallowed_ends_it_all_the_same(room: Room, gates: Gates, step: str) -> None:
    """As the client of Redis may, before Python 3.12."""
    reached, hooks = asyncio.Event(), Hooks()

    async def swallow() -> None:
        reached.set()
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    hooks.after(step, swallow)
    session_id = await room.session()
    await room.chat(session_id, "one two")
    delivery = asyncio.create_task(room.delivery(session_id, hooks.around(room.store)).run())
    await reached.wait()
    delivery.cancel()
    ended, _ = await asyncio.wait([delivery], timeout=5)
    assert ended


async def test_a_chat_that_is_stored_is_not_called_lost_when_its_session_cannot_be_woken(room: Room) -> None:
    """Redis is lost between the two steps: whoever is told of a failure would send it again."""
    session_id = await room.session(replicas=0, ready=False)
    hooks = Hooks()

    async def away() -> None:
        raise StoreError("away")

    hooks.before("wake", away)
    done, notice = await room.demand(hooks.around(room.store)).enqueue(session_id, "m1", "hello", 100)
    assert done.outcome is EnqueueOutcome.ADDED
    assert notice is not None
    assert "stored" in notice
    assert [each.message_id for each in await room.store.list_waiting(session_id)] == ["m1"]


async def test_one_tenants_slow_agents_leave_room_for_others(
    room: Room, gates: Gates, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(dispatcher, "MOST_SESSIONS", 10)
    slow = [await room.session() for _ in range(15)]
    owner = replace(make_workspace().owner, tenant="another")
    quick = await room.session(owner=owner)
    for session_id in slow:
        await room.chat(session_id, "one two")
    working = room.dispatcher(settings=HURRIED, scans=False)
    await working.scan()
    await until(lambda: room.fake.begun["m1"] == 8, "as many run as have room")
    await room.chat(quick, "hello")
    await working.scan()
    assert await room.all_end(quick, "m1") == [("m1", DONE)]
    assert room.fake.begun["m1"] == 9
    gates.open("one two")

    async def all_end() -> bool:
        await working.scan()
        return room.metrics.messages == {DONE: 16}

    await until(all_end, "the others find room later")


async def test_sessions_that_wait_delay_no_other(room: Room) -> None:
    waits, away = await room.session(ready=False), await room.session()
    room.fake.away.add(away)
    others = [await room.session() for _ in range(10)]
    for session_id in (waits, away, *others):
        await room.chat(session_id, "hello")
    room.dispatcher(settings=HURRIED)
    for session_id in others:
        await room.all_end(session_id, "m1")
    assert room.metrics.messages == {DONE: 10}
