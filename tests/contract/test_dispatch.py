"""The right to deliver a session's chats, and how far they have come (DESIGN 7)."""

from __future__ import annotations

import asyncio
import random
import shutil
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.identity import new_session_id
from sessionctl.errors import FenceLostError, MessageEndedError, NotFoundError, StoreError
from sessionctl.models import EnqueueOutcome, EventKind, Fence, NextMessage, Progress, ReleaseOutcome, ReplyDelta
from tests.contract.chats import (
    DONE,
    FAILED,
    INTERRUPTED,
    MINUTE,
    POD,
    events,
    outcomes,
    reply,
    running,
    say,
    take,
    with_chats,
)
from tests.support.sessions import HOLD, make_workspace

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from sessionctl.models import SessionId
    from tests.support.redis import RedisServer
    from tests.support.table import Table

HOLD_MS = HOLD // timedelta(milliseconds=1)
WRITES: dict[str, Callable[[RedisStore, Fence], Awaitable[object]]] = {
    "renew": lambda store, fence: store.renew_dispatch(fence, MINUTE),
    "get_next": lambda store, fence: store.get_next(fence),
    "start": lambda store, fence: store.start_message(fence, "m0", POD),
    "append": lambda store, fence: say(store, fence, "m0", 3),
    "finish": lambda store, fence: store.finish_message(fence, "m0", DONE, ""),
}
"""All that a fence is needed for, in a session where two lines of ``m0`` have come."""


async def next_of(store: RedisStore, fence: Fence) -> NextMessage:
    found = await store.get_next(fence)
    assert found is not None
    return found


def lose_lock(table: Table, fence: Fence) -> None:
    """Its time is over."""
    table.admin.delete(keys.dispatch_lock(fence.session_id))


class TestLock:
    async def test_one_has_it(self, store: RedisStore, table: Table) -> None:
        session_id = await with_chats(store)
        fence = await take(store, session_id)

        assert await store.take_dispatch(session_id, "b", MINUTE) is None
        assert await store.take_dispatch(session_id, "a", MINUTE) == fence
        assert table.admin.get(keys.dispatch_lock(session_id)) == fence.token.encode()

    async def test_of_many_at_once_one_gets_it(self, store: RedisStore, redis: RedisServer) -> None:
        session_id = await with_chats(store)
        async with RedisStore(redis.endpoint()) as other:
            calls = [one.take_dispatch(session_id, f"{n}", MINUTE) for n in range(10) for one in (store, other)]
            got = await asyncio.gather(*calls)

        assert len({fence for fence in got if fence is not None}) == 1

    async def test_it_ends_by_itself_and_is_kept_by_renewing(self, store: RedisStore, table: Table) -> None:
        fence = await take(store, await with_chats(store))
        await store.renew_dispatch(fence, timedelta(seconds=5))

        assert 0 < table.admin.pttl(keys.dispatch_lock(fence.session_id)) <= 5000

    async def test_who_comes_later_has_a_greater_number(self, store: RedisStore, table: Table) -> None:
        first = await take(store, await with_chats(store))
        lose_lock(table, first)
        second = await take(store, first.session_id, "b")
        await store.drop_dispatch(second)
        third = await take(store, first.session_id, "b")
        table.admin.delete(keys.record(first.session_id), keys.dispatch_lock(first.session_id))
        await store.ensure_record(make_workspace(first.session_id))
        fourth = await take(store, first.session_id, "a")

        assert first.number < second.number < third.number < fourth.number

    async def test_a_lock_whose_time_is_over_is_good_until_somebody_takes_it(
        self, store: RedisStore, table: Table
    ) -> None:
        fence = await running(store)
        lose_lock(table, fence)

        await say(store, fence, "m0", 3)
        await store.renew_dispatch(fence, MINUTE)

        assert await store.take_dispatch(fence.session_id, "b", MINUTE) is None

    @pytest.mark.parametrize("write", WRITES)
    async def test_with_a_lost_one_nothing_is_written(self, store: RedisStore, table: Table, write: str) -> None:
        old = await running(store)
        lose_lock(table, old)
        new = await take(store, old.session_id, "b")
        before = table.everything()

        with pytest.raises(FenceLostError) as caught:
            await WRITES[write](store, old)
        await store.drop_dispatch(old)

        assert caught.type is FenceLostError
        assert table.everything() == before
        assert (await next_of(store, new)).progress == Progress(1, 2)

    @pytest.mark.parametrize("write", [name for name in WRITES if name != "get_next"])
    async def test_nor_with_one_that_was_given_back(self, store: RedisStore, table: Table, write: str) -> None:
        """A renewal that comes late must not keep everybody away."""
        fence = await running(store)
        await store.drop_dispatch(fence)
        before = table.everything()

        with pytest.raises(FenceLostError):
            await WRITES[write](store, fence)

        assert table.everything() == before
        assert await store.take_dispatch(fence.session_id, "b", MINUTE) is not None

    @pytest.mark.parametrize("write", WRITES)
    async def test_nor_in_a_redis_that_started_again(
        self, store: RedisStore, table: Table, redis: RedisServer, write: str
    ) -> None:
        """It may have forgotten what was written last."""
        old = await running(store)
        await asyncio.to_thread(redis.restart)
        before = table.everything()

        with pytest.raises(FenceLostError):
            await WRITES[write](store, old)

        assert table.everything() == before
        assert (await next_of(store, await take(store, old.session_id, "b"))).progress == Progress(1, 2)

    @pytest.mark.parametrize("write", WRITES)
    async def test_nor_without_the_record(self, store: RedisStore, table: Table, write: str) -> None:
        fence = await running(store)
        table.admin.delete(keys.record(fence.session_id))
        before = table.everything()

        with pytest.raises(FenceLostError):
            await WRITES[write](store, fence)

        assert table.everything() == before

    async def test_a_session_without_a_record_is_not_found_and_has_nothing_pending(
        self, store: RedisStore, table: Table
    ) -> None:
        session_id = await with_chats(store)
        table.admin.delete(keys.record(session_id))

        with pytest.raises(NotFoundError):
            await take(store, session_id)

        assert list(await store.list_pending()) == []

    async def test_an_older_redis_goes_on_from_what_it_knows(
        self, store: RedisStore, redis: RedisServer, table: Table, tmp_path: Path
    ) -> None:
        """It knows that it was begun, and the first two lines; whoever wrote the others reads anew."""
        fence = await running(store)
        await asyncio.to_thread(redis.kill)
        shutil.copytree(redis.data, tmp_path / "older")
        await asyncio.to_thread(redis.start)
        later = await take(store, fence.session_id)
        await say(store, later, "m0", 3, 9)
        await store.finish_message(later, "m0", DONE, "")
        await asyncio.to_thread(redis.kill)
        shutil.rmtree(redis.data)
        shutil.copytree(tmp_path / "older", redis.data)
        await asyncio.to_thread(redis.start)

        with pytest.raises(FenceLostError):
            await store.get_next(later)
        newest = await take(store, fence.session_id)
        found = await next_of(store, newest)

        assert newest.number > later.number
        assert (found.message_id, found.started_in, found.progress) == ("m0", POD, Progress(1, 2))


class TestNext:
    async def test_it_is_told_all_about_the_first(self, store: RedisStore, table: Table) -> None:
        before = table.now()
        fence = await take(store, await with_chats(store))
        table.admin.lpush(keys.queue(fence.session_id), "wake", '{"id": "not ours", "message": "x"}')

        found = await next_of(store, fence)

        assert (found.message_id, found.message, found.user_id) == ("m0", 'text "ü" 0', "alice")
        assert before <= found.queued_at <= found.now <= table.now()
        assert (found.started_in, found.progress, found.cancelling) == (None, Progress(), False)

    async def test_they_come_in_order_each_after_the_end_of_the_one_before(self, store: RedisStore) -> None:
        fence = await take(store, await with_chats(store))
        seen = []
        while (found := await store.get_next(fence)) is not None:
            assert (await next_of(store, fence)).message_id == found.message_id
            await store.start_message(fence, found.message_id, POD)
            await store.finish_message(fence, found.message_id, DONE, "")
            seen.append(found.message_id)

        assert seen == ["m0", "m1", "m2"]
        assert [message_id for message_id, _, _ in await outcomes(store, fence.session_id)] == seen

    async def test_none_left_frees_the_lock_and_is_answered_again(self, store: RedisStore, table: Table) -> None:
        """A repetition after a lost reply, and others that are faster than it."""
        fence = await take(store, await with_chats(store, 0))
        table.admin.sadd(keys.DISPATCH_PENDING, fence.session_id)

        assert await store.get_next(fence) is None
        assert list(await store.list_pending()) == []
        assert await store.get_next(fence) is None

        await store.enqueue(fence.session_id, "m0", "x", 100, HOLD)
        assert list(await store.list_pending()) == [fence.session_id]
        assert await store.get_next(fence) is None
        other = await take(store, fence.session_id, "b")
        assert (await next_of(store, other)).message_id == "m0"
        with pytest.raises(FenceLostError):
            await store.get_next(fence)

    async def test_who_goes_on_knows_that_it_was_begun(self, store: RedisStore, table: Table) -> None:
        fence = await running(store, 2)
        lose_lock(table, fence)

        found = await next_of(store, await take(store, fence.session_id, "b"))

        assert (found.message_id, found.started_in, found.progress) == ("m0", POD, Progress(1, 2))

    @pytest.mark.parametrize("broken", ['{"id": "m0", "message": "', '{"id": "m0", "message": 5}', '{"id": "m0"}'])
    async def test_what_somebody_wrote_under_its_id_is_passed_over(
        self, store: RedisStore, table: Table, broken: str
    ) -> None:
        fence = await take(store, await with_chats(store, 1))
        table.admin.lpush(keys.queue(fence.session_id), broken)

        assert (await next_of(store, fence)).message == 'text "ü" 0'

    @pytest.mark.parametrize("deed", ["delete", "replace"])
    async def test_one_that_somebody_took_off_the_list_ends_too(
        self, store: RedisStore, table: Table, deed: str
    ) -> None:
        fence = await running(store, 2)
        table.admin.delete(keys.queue(fence.session_id))
        if deed == "replace":
            table.admin.set(keys.queue(fence.session_id), "by mistake")

        assert await store.get_next(fence) is None

        ends = await outcomes(store, fence.session_id)
        assert sorted(ends) == [
            ("m0", INTERRUPTED, "somebody took it off its list"),
            ("m1", FAILED, "somebody took it off its list"),
        ]


class TestHold:
    """A list that was empty a moment ago: KEDA may still act on that (DESIGN 5)."""

    async def held(self, store: RedisStore, session_id: SessionId) -> NextMessage:
        await store.enqueue(session_id, "m0", "x", 100, HOLD)
        return await next_of(store, await take(store, session_id))

    async def test_a_message_that_finds_it_empty_is_held(self, store: RedisStore) -> None:
        workspace = make_workspace()
        await store.ensure_record(workspace)

        found = await self.held(store, workspace.session_id)

        assert found.hold_until == found.filled_at + HOLD_MS
        assert found.filled_at <= found.queued_at <= found.now

    async def test_so_is_one_that_comes_just_after_a_wake_that_did(self, store: RedisStore, table: Table) -> None:
        workspace = make_workspace()
        await store.ensure_record(workspace)
        await store.wake(workspace.session_id)
        woken = table.stamp(workspace.session_id, "filled_at")

        found = await self.held(store, workspace.session_id)

        assert (found.filled_at, found.hold_until) == (woken, woken + HOLD_MS)

    async def test_so_is_one_that_finds_only_demand_from_outside(self, store: RedisStore, table: Table) -> None:
        """Since when it has been there is not known."""
        workspace = make_workspace()
        await store.ensure_record(workspace)
        table.push(workspace.session_id, "wake")

        assert (await self.held(store, workspace.session_id)).hold_until is not None

    async def test_so_is_one_after_a_restore(self, store: RedisStore) -> None:
        session_id = await with_chats(store, 0)

        assert (await self.held(store, session_id)).hold_until is not None

    async def test_one_for_a_session_that_has_been_awake_is_not(self, store: RedisStore, table: Table) -> None:
        session_id = await with_chats(store, 0)
        table.age(session_id, "filled_at", HOLD_MS)

        assert (await self.held(store, session_id)).hold_until is None

    async def test_another_wake_does_not_prolong_it(self, store: RedisStore, table: Table) -> None:
        session_id = await with_chats(store, 0)
        table.age(session_id, "filled_at", HOLD_MS)
        await store.wake(session_id)
        await store.touch(session_id, timedelta())

        assert (await self.held(store, session_id)).hold_until is None


class TestStart:
    async def test_it_is_told_once_and_the_first_pod_is_known(self, store: RedisStore) -> None:
        fence = await take(store, await with_chats(store, 1))
        for pod in (POD, POD, "user-a-2"):
            await store.start_message(fence, "m0", pod)

        kinds = [event.kind for event in await events(store, fence.session_id)]
        assert kinds == [EventKind.MESSAGE_QUEUED, EventKind.MESSAGE_STARTED]
        assert (await next_of(store, fence)).started_in == POD

    async def test_what_runs_is_listed_as_running_and_keeps_the_session_awake(
        self, store: RedisStore, table: Table
    ) -> None:
        fence = await running(store, 2)
        table.age(fence.session_id, "last_active", 3_600_000)

        listed = await store.list_waiting(fence.session_id)
        assert [(chat.message_id, chat.running) for chat in listed] == [("m0", True), ("m1", False)]
        assert await store.release(fence.session_id, MINUTE, force=False) is ReleaseOutcome.WAITING

    @pytest.mark.parametrize("message_id", ["m0", "never"])
    async def test_what_has_ended_is_not_started(self, store: RedisStore, message_id: str) -> None:
        fence = await take(store, await with_chats(store, 1))
        await store.cancel_message(fence.session_id, "m0")

        with pytest.raises(MessageEndedError):
            await store.start_message(fence, message_id, POD)


class TestAppend:
    async def test_pieces_come_back_as_they_were_written(self, store: RedisStore) -> None:
        fence = await running(store)
        text = 'it\'s "ü" \U0001f600\n\0'
        await store.append_reply(fence, "m0", ReplyDelta(1, 5, text), 3)

        found = (await events(store, fence.session_id, "m0"))[-1]

        assert (found.kind, found.text, found.attempt) == (EventKind.MESSAGE_DELTA, text, 1)
        assert (found.first_seq, found.seq) == (3, 5)
        assert (await next_of(store, fence)).progress == Progress(1, 5)

    async def test_what_is_recorded_is_not_recorded_again(self, store: RedisStore) -> None:
        fence = await running(store)
        for first, last in ((1, 2), (1, 1), (2, 2), (3, 4), (3, 4)):
            await say(store, fence, "m0", first, last)

        assert await reply(store, fence.session_id, "m0") == "1.1 1.2 1.3 1.4 "

    @pytest.mark.parametrize(("first", "attempt"), [(4, 1), (2, 1), (2, 2), (3, 2)])
    async def test_a_gap_or_an_overlap_shows_that_somebody_else_wrote(
        self, store: RedisStore, table: Table, first: int, attempt: int
    ) -> None:
        fence = await running(store)
        before = table.everything()

        with pytest.raises(FenceLostError):
            await say(store, fence, "m0", first, 7, attempt=attempt)

        assert table.everything() == before

    async def test_a_later_attempt_begins_anew_and_ends_the_earlier_one(self, store: RedisStore) -> None:
        fence = await running(store)
        await say(store, fence, "m0", 1, 1, attempt=3)
        await say(store, fence, "m0", 3, 3, attempt=1)
        await say(store, fence, "m0", 2, 2, attempt=3)

        assert await reply(store, fence.session_id, "m0") == "1.1 1.2 3.1 3.2 "
        assert (await next_of(store, fence)).progress == Progress(3, 2)

    async def test_what_was_not_sent_has_no_reply(self, store: RedisStore) -> None:
        fence = await take(store, await with_chats(store))

        with pytest.raises(FenceLostError):
            await say(store, fence, "m0", 1)

    async def test_half_a_character_is_no_reason_to_fail(self, store: RedisStore) -> None:
        fence = await running(store)
        await store.append_reply(fence, "m0", ReplyDelta(1, 3, "a\ud800b"), 3)
        await store.finish_message(fence, "m0", FAILED, "c\udfffd")

        *_, piece, end = await events(store, fence.session_id, "m0")
        assert (piece.text, end.detail) == ("a?b", "c?d")


class TestFinish:
    async def test_its_end_is_one_step(self, store: RedisStore, table: Table) -> None:
        fence = await running(store, 2)
        session_id = fence.session_id
        table.age(session_id, "last_active", 3_600_000)
        before = table.now()

        await store.finish_message(fence, "m0", FAILED, "its command failed")

        assert await outcomes(store, session_id) == [("m0", FAILED, "its command failed")]
        assert [chat.message_id for chat in await store.list_waiting(session_id)] == ["m1"]
        assert table.elements(session_id)[0] == b"awake"
        assert table.stamp(session_id, "last_active") >= before
        assert await store.get_outcome(session_id, "m0") is FAILED
        assert await store.get_outcome(session_id, "m1") is None

    async def test_it_has_one_outcome(self, store: RedisStore, table: Table) -> None:
        fence = await running(store)
        await store.finish_message(fence, "m0", DONE, "")
        before = table.everything()

        await store.finish_message(fence, "m0", FAILED, "again")
        await store.finish_message(fence, "never", FAILED, "again")
        with pytest.raises(MessageEndedError):
            await say(store, fence, "m0", 3)

        assert table.everything() == before

    async def test_its_id_is_known_for_a_while_and_wakes_nobody(self, store: RedisStore, table: Table) -> None:
        fence = await running(store)
        session_id = fence.session_id
        (queued, *_) = await events(store, session_id, "m0")
        assert (await store.enqueue(session_id, "m0", "again", 100, HOLD)).event_id == queued.event_id
        await store.finish_message(fence, "m0", DONE, "")
        await store.release(session_id, timedelta(), force=True)

        again = await store.enqueue(session_id, "m0", "again", 100, HOLD)

        assert (again.outcome, again.event_id, again.ended) == (EnqueueOutcome.KNOWN, queued.event_id, DONE)
        assert again.woken.fresh is False
        assert table.elements(session_id) == []
        day_ms = 86_400_000
        assert day_ms - 60_000 < table.admin.pttl(keys.ended(session_id, "m0")) <= day_ms

    async def test_the_record_does_not_grow(self, store: RedisStore, table: Table) -> None:
        fence = await running(store)
        await store.finish_message(fence, "m0", DONE, "")
        size = table.admin.hlen(keys.record(fence.session_id))

        for number in range(1, 20):
            await store.enqueue(fence.session_id, f"m{number}", "x", 100, HOLD)
            await store.start_message(fence, f"m{number}", POD)
            await say(store, fence, f"m{number}", 1)
            await store.finish_message(fence, f"m{number}", DONE, "")

        assert table.admin.hlen(keys.record(fence.session_id)) == size

    async def test_the_list_does_not_become_empty_by_it(self, store: RedisStore, table: Table) -> None:
        """Its session sleeps when it has been idle, and not before."""
        fence = await running(store)
        table.admin.lrem(keys.queue(fence.session_id), 0, "awake")

        await store.finish_message(fence, "m0", DONE, "")

        assert table.elements(fence.session_id) == [b"awake"]

    async def test_deliveries_go_on_where_redis_is_full(self, store: RedisStore, table: Table) -> None:
        """Each ends a message, and what it adds to its stream is taken off the other end: that frees memory."""
        session_id = await with_chats(store, 4)
        table.admin.config_set("maxmemory", "1mb")
        try:
            fence = await take(store, session_id)
            await store.renew_dispatch(fence, MINUTE)
            for number in range(2):
                await store.start_message(fence, f"m{number}", POD)
                await say(store, fence, f"m{number}", 1)
                await store.cancel_message(session_id, f"m{number}")
                await store.finish_message(fence, f"m{number}", DONE, "")
            await store.cancel_message(session_id, "m2")
            await store.settle_waiting(session_id, FAILED, "")
            assert await store.get_next(fence) is None
            await store.wake(session_id)
            with pytest.raises(StoreError, match="refused"):
                await store.enqueue(session_id, "m4", "x", 100, HOLD)
        finally:
            table.admin.config_set("maxmemory", "0")

        assert [message_id for message_id, _, _ in await outcomes(store, session_id)] == [f"m{n}" for n in range(4)]
        assert await store.get_outcome(session_id, "m4") is None
        assert table.elements(session_id) == [b"awake"]


async def test_many_who_fight_for_a_session_leave_one_story(
    store: RedisStore, redis: RedisServer, table: Table
) -> None:
    """Locks are lost at random; whoever has one resumes after the last line that is recorded."""
    chance = random.Random(7)
    session_id = await with_chats(store, 8)
    lines = 6

    async def deliver(one: RedisStore, owner: str) -> None:
        while await one.list_pending():
            fence = await one.take_dispatch(session_id, owner, MINUTE)
            while fence is not None:
                try:
                    found = await one.get_next(fence)
                    if found is None:
                        break
                    await one.start_message(fence, found.message_id, owner)
                    for seq in range(found.progress.seq + 1, lines + 1):
                        await say(one, fence, found.message_id, seq)
                        if chance.random() < 0.2:
                            lose_lock(table, fence)
                            await asyncio.sleep(0)
                    await one.finish_message(fence, found.message_id, DONE, "")
                except FenceLostError:
                    break

    async with RedisStore(redis.endpoint()) as other:
        await asyncio.gather(*(deliver(one, f"{n}") for n, one in enumerate((store, other, store, other))))

    whole = "".join(f"1.{seq} " for seq in range(1, lines + 1))
    assert [message_id for message_id, _, _ in await outcomes(store, session_id)] == [f"m{n}" for n in range(8)]
    assert {await reply(store, session_id, f"m{n}") for n in range(8)} == {whole}


async def test_only_sessions_are_pending(store: RedisStore, table: Table) -> None:
    session_id = new_session_id()
    table.admin.sadd(keys.DISPATCH_PENDING, session_id, "by mistake")

    assert list(await store.list_pending()) == [session_id]
