"""The streams of sessions on a real Redis: order, caps, what is written once, and how long they live."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, cast

import pytest
import pytest_asyncio

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.connection import REPLY_TIMEOUT_SECONDS
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.identity import new_session_id
from sessionctl.errors import InvalidRequestError, StoreError
from sessionctl.models import OLDEST_EVENT, EventKind, MessageOutcome, SessionEvent, SessionId
from sessionctl.settings import EventSettings
from tests.support.sessions import HOLD, make_workspace
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from tests.support.redis import RedisServer
    from tests.support.redis_proxy import RedisProxy
    from tests.support.table import Table

WEEK = timedelta(days=7)
WEEK_MS = WEEK // timedelta(milliseconds=1)
SOON_MS = 600_000
LONG = timedelta(minutes=1)
CAPS = EventSettings(max_length=20, max_bytes=4000, recent=timedelta())


@pytest_asyncio.fixture
async def capped(redis: RedisServer) -> AsyncIterator[RedisStore]:
    """The store, with room for little."""
    async with RedisStore(redis.endpoint(), events=CAPS) as opened:
        yield opened


async def known(store: RedisStore) -> SessionId:
    workspace = make_workspace()
    await store.ensure_record(workspace)
    return workspace.session_id


async def say(store: RedisStore, session_id: SessionId, detail: str = "", once: str = "") -> str | None:
    return await store.append_event(SessionEvent(session_id, EventKind.WOKEN, detail, once=once))


async def details(store: RedisStore, session_id: SessionId, after: str | None = None, limit: int = 10_000) -> list[str]:
    return [event.detail for event in await store.list_events(session_id, after, limit)]


class TestAppend:
    async def test_an_event_comes_back_as_it_was_written(self, store: RedisStore, table: Table) -> None:
        session_id, before = await known(store), table.now()
        event = SessionEvent(
            session_id, EventKind.MESSAGE_ENDED, 'it\'s "ü" \U0001f600', message_id="m1", outcome=MessageOutcome.FAILED
        )

        event_id = await store.append_event(event)

        (found,) = await store.list_events(session_id, None, 10)
        assert (found.session_id, found.event_id, found.kind, found.detail) == (
            session_id,
            event_id,
            event.kind,
            event.detail,
        )
        assert (found.message_id, found.outcome) == ("m1", MessageOutcome.FAILED)
        assert before <= found.milliseconds <= table.now()

    async def test_they_come_in_order_and_after_any_of_them(self, store: RedisStore) -> None:
        session_id = await known(store)
        ids = [await say(store, session_id, str(number)) for number in range(7)]

        assert await details(store, session_id) == [str(number) for number in range(7)]
        assert await details(store, session_id, ids[2]) == ["3", "4", "5", "6"]
        assert await details(store, session_id, ids[2], limit=2) == ["3", "4"]
        assert await details(store, session_id, ids[6]) == []

    async def test_what_two_managers_see_is_written_once(self, store: RedisStore, redis: RedisServer) -> None:
        session_id = await known(store)
        async with RedisStore(redis.endpoint()) as other:
            answers = await asyncio.gather(
                *(say(one, session_id, "seen", once=f"wake {wake}") for wake in range(4) for one in (store, other))
            )

        assert sum(answer is not None for answer in answers) == 4
        assert len(await details(store, session_id)) == 4

    async def test_a_mark_is_of_its_kind_and_its_session(self, store: RedisStore) -> None:
        first, second = await known(store), await known(store)
        await say(store, first, once="1")

        assert await store.append_event(SessionEvent(first, EventKind.READY, once="1")) is not None
        assert await say(store, second, once="1") is not None
        assert await say(store, first, once="1") is None

    async def test_a_mark_outlives_the_entry_that_was_cut_off(self, capped: RedisStore) -> None:
        session_id = await known(capped)
        await say(capped, session_id, once="1")
        for number in range(CAPS.max_length):
            await say(capped, session_id, str(number))

        assert await say(capped, session_id, once="1") is None

    @pytest.mark.parametrize("after", ["", "x", "1-", "-1", "1-2-3", "1" * 30, "$", "+", "1 1", "\u0661"])
    async def test_what_is_no_id_is_refused(self, store: RedisStore, after: str) -> None:
        session_id = await known(store)
        with pytest.raises(InvalidRequestError):
            await store.read_events(session_id, after, 10)
        with pytest.raises(InvalidRequestError):
            await store.wait_events({session_id: after}, LONG)

    async def test_what_is_not_ours_is_passed_over(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        for _ in range(5):
            table.admin.xadd(keys.events(session_id), {"kind": "of-a-newer-manager"})
            table.admin.xadd(keys.events(session_id), {"a": "b"})
        await say(store, session_id, "ours")

        assert await details(store, session_id, limit=2) == ["ours"]
        (event,) = await store.wait_events({session_id: OLDEST_EVENT}, LONG)
        assert event.detail == "ours"

    async def test_a_key_of_another_type_is_replaced(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        table.admin.set(keys.events(session_id), "by mistake")

        await store.enqueue(session_id, "m1", "x", 10, HOLD)

        (event,) = await store.list_events(session_id, None, 10)
        assert (event.kind, event.message_id) == (EventKind.MESSAGE_QUEUED, "m1")


class TestCaps:
    def bytes_of(self, table: Table, session_id: SessionId) -> int:
        entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", table.admin.xrange(keys.events(session_id)))
        return sum(len(name) + len(value) for _, fields in entries for name, value in fields.items())

    async def test_the_newest_stay(self, capped: RedisStore, table: Table) -> None:
        session_id = await known(capped)
        for number in range(50):
            await say(capped, session_id, str(number))
            assert table.admin.xlen(keys.events(session_id)) == min(number + 1, CAPS.max_length)

        assert await details(capped, session_id) == [str(number) for number in range(30, 50)]

    async def test_bytes_bound_it_too(self, capped: RedisStore, table: Table) -> None:
        session_id = await known(capped)
        for number in range(12):
            await say(capped, session_id, f"{number:0700d}")
            assert self.bytes_of(table, session_id) <= CAPS.max_bytes

        assert 4 <= table.admin.xlen(keys.events(session_id)) < 6

    async def test_one_event_larger_than_all_is_shortened(self, capped: RedisStore, table: Table) -> None:
        session_id = await known(capped)
        await say(capped, session_id, "ü" * CAPS.max_bytes)
        await say(capped, session_id, "next")

        first, second = await details(capped, session_id)
        assert set(first) == {"ü"}
        assert second == "next"
        assert self.bytes_of(table, session_id) <= CAPS.max_bytes

    async def test_the_bounds_hold_after_others_wrote_or_cut(self, capped: RedisStore, table: Table) -> None:
        session_id = await known(capped)
        for _ in range(CAPS.max_length):
            table.admin.xadd(keys.events(session_id), {"kind": "woken", "detail": "y" * 300})
        await say(capped, session_id, "one")
        assert self.bytes_of(table, session_id) <= CAPS.max_bytes

        table.admin.xtrim(keys.events(session_id), maxlen=1, approximate=False)
        for number in range(15):
            await say(capped, session_id, str(number))

        assert table.admin.xlen(keys.events(session_id)) == 16


class TestLifetime:
    def ages(self, table: Table, session_id: SessionId) -> set[int]:
        """The remaining lifetimes in ms, rounded; -1 for ever, -2 where there is no key."""
        lives = [table.admin.pttl(key) for key in (keys.events(session_id), keys.marks(session_id))]
        return {life if life < 0 else round(life / SOON_MS) for life in lives}

    async def test_a_sessions_stream_stays(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        await say(store, session_id)

        assert self.ages(table, session_id) == {-1}

    async def test_a_session_that_never_was_leaves_nothing_for_ever(self, store: RedisStore, table: Table) -> None:
        session_id = new_session_id()
        await say(store, session_id, once="1")

        assert self.ages(table, session_id) == {1}

    async def test_what_came_before_the_record_stays_with_it(self, store: RedisStore, table: Table) -> None:
        workspace = make_workspace()
        await say(store, workspace.session_id, "created")
        await store.ensure_record(workspace)

        assert self.ages(table, workspace.session_id) == {-1}

    async def test_what_came_before_the_restore_stays_too(
        self, store: RedisStore, table: Table, redis: RedisServer
    ) -> None:
        workspace = make_workspace()
        table.admin.delete(keys.EPOCH)
        await say(store, workspace.session_id, "after the loss")
        token = await store.begin_restore(redis.run_id())
        assert token is not None
        await store.restore(token, workspace)

        assert self.ages(table, workspace.session_id) == {-1}

    async def test_history_survives_a_delete_for_its_retention(self, store: RedisStore, table: Table) -> None:
        workspace = make_workspace()
        session_id = workspace.session_id
        await store.ensure_record(workspace)
        await say(store, session_id, "before")
        await store.bury(session_id, "default", "alice", WEEK)
        await say(store, session_id, "after")

        assert self.ages(table, session_id) == {round(WEEK_MS / SOON_MS)}
        assert await details(store, session_id) == ["before", "after"]

        await store.unbury(workspace)

        assert self.ages(table, session_id) == {-1}
        assert await say(store, session_id, "restored", once="1") is not None

    async def test_a_delete_without_history_leaves_none(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        await store.bury(session_id, "default", "alice", WEEK)

        assert self.ages(table, session_id) == {-2}


class TestWait:
    async def test_one_call_waits_for_many_sessions(self, store: RedisStore) -> None:
        sessions = [await known(store) for _ in range(50)]
        waiting = asyncio.create_task(store.wait_events(dict.fromkeys(sessions, OLDEST_EVENT), LONG))
        await until(lambda: self.blocked(store), "the read blocks")

        await say(store, sessions[41], "news")

        (event,) = await waiting
        assert (event.session_id, event.detail) == (sessions[41], "news")

    async def blocked(self, store: RedisStore) -> bool:
        return int((await store._client.info("clients"))["blocked_clients"]) == 1

    async def test_it_returns_what_is_there_already_and_no_more(self, store: RedisStore) -> None:
        session_id = await known(store)
        ids = [await say(store, session_id, str(number)) for number in range(3)]

        found = await store.wait_events({session_id: str(ids[0])}, LONG)

        assert [event.detail for event in found] == ["1", "2"]

    async def test_it_ends_with_its_patience(self, store: RedisStore) -> None:
        assert list(await store.wait_events({await known(store): OLDEST_EVENT}, timedelta(milliseconds=50))) == []

    async def test_one_that_is_cut_off_leaves_the_next_alone(self, store: RedisStore) -> None:
        session_id = await known(store)
        for _ in range(3):
            waiting = asyncio.create_task(store.wait_events({session_id: OLDEST_EVENT}, LONG))
            await until(lambda: self.blocked(store), "the read blocks")
            waiting.cancel()
            await asyncio.gather(waiting, return_exceptions=True)
        await say(store, session_id, "news")

        (event,) = await store.wait_events({session_id: OLDEST_EVENT}, LONG)

        assert event.detail == "news"

    async def test_nothing_for_longer_than_any_reply_takes_is_no_error(self, store: RedisStore) -> None:
        longer = timedelta(seconds=REPLY_TIMEOUT_SECONDS + 0.2)

        assert list(await store.wait_events({await known(store): OLDEST_EVENT}, longer)) == []

    async def test_a_lost_connection_is_an_error(self, shaky: RedisStore, proxy: RedisProxy) -> None:
        session_id = await known(shaky)
        waiting = asyncio.create_task(shaky.wait_events({session_id: OLDEST_EVENT}, LONG))
        await until(lambda: self.blocked(shaky), "the read blocks")

        proxy.cut()

        with pytest.raises(StoreError):
            await waiting
