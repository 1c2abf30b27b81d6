"""Messages that others end while they wait or run: cancel, sleep by force, delete, a start given up."""

from __future__ import annotations

import json
import random
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sessionctl.adapters.store import keys
from sessionctl.errors import FenceLostError, MessageEndedError
from sessionctl.models import Cancellation, EventKind, Queue, ReleaseOutcome
from tests.contract.chats import (
    CANCELLED,
    DONE,
    FAILED,
    INTERRUPTED,
    MINUTE,
    POD,
    events,
    outcomes,
    running,
    say,
    take,
    with_chats,
)
from tests.support.sessions import HOLD

if TYPE_CHECKING:
    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.models import Fence, SessionId
    from tests.support.table import Table

WEEK = timedelta(days=7)


class TestSettledWhileItRuns:
    async def test_whoever_delivers_it_changes_nothing_more_and_goes_on_with_the_next(
        self, store: RedisStore, table: Table
    ) -> None:
        fence = await running(store, 2)
        assert list(await store.settle_waiting(fence.session_id, CANCELLED, "put to sleep")) == ["m0", "m1"]
        await store.enqueue(fence.session_id, "m2", "x", 100, HOLD)
        before = table.everything()

        for write in (say(store, fence, "m0", 3), store.start_message(fence, "m0", POD)):
            with pytest.raises(MessageEndedError):
                await write
        await store.finish_message(fence, "m0", DONE, "")

        assert table.everything() == before
        assert await outcomes(store, fence.session_id) == [(f"m{n}", CANCELLED, "put to sleep") for n in range(2)]
        found = await store.get_next(fence)
        assert found is not None
        assert (found.message_id, found.started_in) == ("m2", None)

    async def test_one_that_ends_just_before_keeps_its_outcome(self, store: RedisStore) -> None:
        fence = await running(store, 2)
        await store.finish_message(fence, "m0", DONE, "")

        assert list(await store.settle_waiting(fence.session_id, CANCELLED, "")) == ["m1"]
        assert await store.get_outcome(fence.session_id, "m0") is DONE

    async def test_one_that_was_begun_is_interrupted_where_others_fail(self, store: RedisStore) -> None:
        """Failed means that it never began; its command may have done half its work."""
        fence = await running(store, 2)

        await store.settle_waiting(fence.session_id, FAILED, "no node")

        assert await outcomes(store, fence.session_id) == [("m0", INTERRUPTED, "no node"), ("m1", FAILED, "no node")]

    async def test_a_delete_takes_the_right_to_deliver(self, store: RedisStore, table: Table) -> None:
        fence = await running(store, 2)
        await store.bury(fence.session_id, "default", "alice", WEEK)
        before = table.everything()

        for write in (say(store, fence, "m0", 3), store.finish_message(fence, "m0", DONE, ""), store.get_next(fence)):
            with pytest.raises(FenceLostError):
                await write

        assert table.everything() == before
        assert not table.admin.exists(keys.dispatch_lock(fence.session_id))
        assert [outcome for _, outcome, _ in await outcomes(store, fence.session_id)] == [CANCELLED] * 2

    async def test_also_one_that_is_not_in_the_list_any_more(self, store: RedisStore, table: Table) -> None:
        session_id = await with_chats(store, 2)
        table.admin.lpop(keys.queue(session_id), 2)

        await store.bury(session_id, "default", "alice", WEEK)

        assert {message_id for message_id, _, _ in await outcomes(store, session_id)} == {"m0", "m1"}

    @pytest.mark.parametrize("state", ["queued", "5", "[]", "{"])
    async def test_one_whose_state_is_spoilt_ends_all_the_same(
        self, store: RedisStore, table: Table, state: str
    ) -> None:
        fence = await take(store, await with_chats(store, 2))
        for message_id in ("m0", "m1"):
            table.admin.hset(keys.record(fence.session_id), f"message:{message_id}", state)

        found = await store.get_next(fence)
        assert found is not None
        await store.start_message(fence, "m0", POD)
        await store.finish_message(fence, "m0", DONE, "")
        await store.settle_waiting(fence.session_id, FAILED, "")

        assert await outcomes(store, fence.session_id) == [("m0", DONE, ""), ("m1", FAILED, "")]


class TestCancel:
    async def test_one_that_waits_ends_and_the_others_stay(self, store: RedisStore, table: Table) -> None:
        fence = await running(store, 3)

        assert await store.cancel_message(fence.session_id, "m1") is Cancellation.CANCELLED

        assert await outcomes(store, fence.session_id) == [("m1", CANCELLED, "")]
        assert [chat.message_id for chat in await store.list_waiting(fence.session_id)] == ["m0", "m2"]
        assert list(await store.renew_dispatch(fence, MINUTE)) == []

    async def test_of_one_that_runs_whoever_delivers_it_is_told(self, store: RedisStore) -> None:
        fence = await running(store, 2)

        for _ in range(2):
            assert await store.cancel_message(fence.session_id, "m0") is Cancellation.CANCELLING

        assert list(await store.renew_dispatch(fence, MINUTE)) == ["m0"]
        found = await store.get_next(fence)
        assert found is not None
        assert found.cancelling
        kinds = [event.kind for event in await events(store, fence.session_id, "m0")]
        assert kinds.count(EventKind.MESSAGE_CANCELLING) == 1
        assert await outcomes(store, fence.session_id) == []

    async def test_the_wish_ends_with_the_message(self, store: RedisStore) -> None:
        fence = await running(store, 2)
        await store.cancel_message(fence.session_id, "m0")
        await store.finish_message(fence, "m0", INTERRUPTED, "")

        assert list(await store.renew_dispatch(fence, MINUTE)) == []
        found = await store.get_next(fence)
        assert found is not None
        assert not found.cancelling

    async def test_one_that_has_ended_keeps_its_outcome(self, store: RedisStore) -> None:
        fence = await running(store, 2)
        await store.finish_message(fence, "m0", DONE, "")
        await store.cancel_message(fence.session_id, "m1")

        assert await store.cancel_message(fence.session_id, "m0") is Cancellation.ENDED
        assert await store.cancel_message(fence.session_id, "m1") is Cancellation.CANCELLED
        assert await store.cancel_message(fence.session_id, "never") is Cancellation.UNKNOWN
        assert len(await outcomes(store, fence.session_id)) == 2

    async def test_the_last_one_leaves_the_session_awake_until_it_is_idle(
        self, store: RedisStore, table: Table
    ) -> None:
        session_id = await with_chats(store, 1)
        table.admin.lrem(keys.queue(session_id), 0, "awake")

        await store.cancel_message(session_id, "m0")

        assert table.elements(session_id) == [b"awake"]
        assert await store.release(session_id, timedelta(), force=True) is ReleaseOutcome.RELEASED


def truth(table: Table, session_id: SessionId) -> Queue:
    """Count the list element by element."""
    awake = chats = outside = 0
    for element in table.elements(session_id):
        message_id = json.loads(element)["id"] if element.startswith(b"{") else ""
        if element == b"awake":
            awake += 1
        elif message_id and table.field(session_id, f"message:{message_id}") is not None:
            chats += 1
        else:
            outside += 1
    return Queue(awake=awake, chats=chats, outside=outside)


class Life:
    """A session to which anything may happen."""

    def __init__(self, store: RedisStore, table: Table, session_id: SessionId, fence: Fence) -> None:
        self.store, self.table, self.session_id, self.fence = store, table, session_id, fence
        self.sent = 0

    async def enqueue(self, _: random.Random) -> None:
        await self.store.enqueue(self.session_id, f"m{self.sent}", "x", 100, HOLD)
        self.sent += 1

    async def finish(self, _: random.Random) -> None:
        found = await self.store.get_next(self.fence)
        if found is None:
            self.fence = await take(self.store, self.session_id)
        else:
            await self.store.start_message(self.fence, found.message_id, POD)
            await self.store.finish_message(self.fence, found.message_id, DONE, "")

    async def cancel(self, chance: random.Random) -> None:
        await self.store.cancel_message(self.session_id, f"m{chance.randint(0, self.sent)}")

    async def push(self, chance: random.Random) -> None:
        self.table.push(self.session_id, chance.choice(["wake", "awake", '{"id": "m1", "message": "of others"}']))

    async def lose_entry(self, _: random.Random) -> None:
        self.table.admin.lrem(keys.queue(self.session_id), 0, "awake")

    async def wake(self, _: random.Random) -> None:
        await self.store.wake(self.session_id)
        assert truth(self.table, self.session_id).outside == 0

    async def sleep(self, _: random.Random) -> None:
        waits = truth(self.table, self.session_id).chats > 0
        released = await self.store.release(self.session_id, timedelta(), force=True)
        assert released is (ReleaseOutcome.WAITING if waits else ReleaseOutcome.RELEASED)

    async def settle(self, _: random.Random) -> None:
        await self.store.settle_waiting(self.session_id, FAILED, "")


@pytest.mark.parametrize("seed", range(3))
async def test_the_list_is_counted_rightly_whatever_happens(store: RedisStore, table: Table, seed: int) -> None:
    """Where all is as we left it the record's own count is believed, without reading the list."""
    chance = random.Random(seed)
    session_id = await with_chats(store, 0)
    life = Life(store, table, session_id, await take(store, session_id))
    deeds = [life.enqueue] * 3 + [
        life.finish,
        life.cancel,
        life.push,
        life.lose_entry,
        life.wake,
        life.sleep,
        life.settle,
    ]
    for step in range(100):
        deed = chance.choice(deeds)
        await deed(chance)
        assert await store.get_queue(session_id) == truth(table, session_id), f"step {step}: {deed.__name__}"


async def test_a_count_that_was_deceived_is_put_right(store: RedisStore, table: Table) -> None:
    """Somebody takes a chat off the list and puts something else there: as many elements as before."""
    fence = await take(store, await with_chats(store, 1))
    table.admin.rpop(keys.queue(fence.session_id))
    table.push(fence.session_id, "wake")

    assert await store.get_next(fence) is None

    assert await store.get_queue(fence.session_id) == Queue(awake=1, chats=0, outside=1)
    assert await store.release(fence.session_id, timedelta(), force=False) is ReleaseOutcome.ADOPTED


async def test_long_texts_that_wait_are_not_read_to_count_them(store: RedisStore, table: Table) -> None:
    """A hundred of a quarter of a megabyte would take Redis 150 ms at every request of a browser."""
    session_id = await with_chats(store, 0)
    for number in range(8):
        await store.enqueue(session_id, f"m{number}", "x" * 262_144, 100, HOLD)
    table.admin.config_resetstat()

    await store.touch(session_id, timedelta())
    await store.get_queue(session_id)

    assert "cmdstat_lrange" not in table.admin.info("commandstats")
