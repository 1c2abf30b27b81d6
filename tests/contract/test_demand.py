"""The demand list: wake, touch, enqueue and release on a real Redis (DESIGN 5)."""

from __future__ import annotations

import json
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sessionctl.adapters.store import keys
from sessionctl.core.identity import new_session_id
from sessionctl.errors import ConflictError, NotFoundError
from sessionctl.models import EnqueueOutcome, MessageOutcome, Queue, ReleaseOutcome, Woken
from tests.support.sessions import HOLD, make_workspace

if TYPE_CHECKING:
    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.models import SessionId
    from tests.support.redis import RedisServer
    from tests.support.table import Table

RELEASE_AFTER = timedelta(seconds=122)
HOUR_MS = 3_600_000
MINUTE_MS = 60_000
MAX_WAITING = 100


async def known(store: RedisStore, *, replicas: int = 0) -> SessionId:
    """Return a session that has a record."""
    workspace = make_workspace(replicas=replicas)
    await store.ensure_record(workspace)
    return workspace.session_id


async def idle(store: RedisStore, table: Table) -> SessionId:
    """Return a session that is awake and has been idle for an hour."""
    session_id = await known(store, replicas=1)
    table.age(session_id, "last_active", HOUR_MS)
    table.age(session_id, "released_at", HOUR_MS)
    return session_id


async def chat(store: RedisStore, session_id: SessionId, message_id: str = "m1", text: str = "hello") -> EnqueueOutcome:
    return (await store.enqueue(session_id, message_id, text, MAX_WAITING, HOLD)).outcome


def texts(table: Table, session_id: SessionId) -> list[str]:
    """Return the list with chats as their message ids."""
    found = [element.decode() for element in table.elements(session_id)]
    return [json.loads(element)["id"] if element.startswith("{") else element for element in found]


class TestWake:
    async def test_a_session_without_a_record_is_not_found(self, store: RedisStore, table: Table) -> None:
        session_id = new_session_id()

        with pytest.raises(NotFoundError):
            await store.wake(session_id)

        assert table.elements(session_id) == []

    async def test_a_tombstone_refuses(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        await store.bury(session_id, "default", "alice", timedelta(days=7))

        with pytest.raises(ConflictError):
            await store.wake(session_id)

        assert table.elements(session_id) == []

    async def test_a_tombstone_refuses_even_beside_a_record(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        table.admin.set(keys.tombstone(session_id), "1")

        with pytest.raises(ConflictError):
            await store.wake(session_id)

    async def test_it_leaves_one_entry_and_activity_of_now(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        before = table.now()

        woken = await store.wake(session_id)

        assert texts(table, session_id) == ["awake"]
        assert before <= woken.last_active <= table.now()
        assert table.stamp(session_id, "last_active") == woken.last_active

    async def test_the_first_is_fresh_and_the_next_is_not(self, store: RedisStore) -> None:
        session_id = await known(store)

        assert [(await store.wake(session_id)).fresh, (await store.wake(session_id)).fresh] == [True, False]

    async def test_activity_moves_on_with_every_call(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        table.age(session_id, "last_active", -4000)
        ahead = table.stamp(session_id, "last_active")

        assert [(await store.wake(session_id)).last_active for _ in range(3)] == [ahead + 1, ahead + 2, ahead + 3]

    async def test_demand_from_outside_and_doubles_become_one_entry(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        table.push(session_id, "wake", "awake", "wake", "awake")

        await store.wake(session_id)

        assert texts(table, session_id) == ["awake"]

    async def test_chats_stay_in_order(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        for number in range(5):
            await chat(store, session_id, f"m{number}")
            table.push(session_id, "wake")

        await store.wake(session_id)

        assert [entry for entry in texts(table, session_id) if entry != "awake"] == ["m0", "m1", "m2", "m3", "m4"]
        assert texts(table, session_id).count("awake") == 1

    async def test_it_is_fresh_within_thirty_seconds_of_a_release(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        await store.release(session_id, RELEASE_AFTER, force=False)
        await store.wake(session_id)

        within = await store.wake(session_id)
        table.age(session_id, "released_at", 31_000)
        later = await store.wake(session_id)

        assert (within.fresh, later.fresh) == (True, False)

    async def test_the_record_says_waking(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)

        await store.wake(session_id)

        assert table.field(session_id, "status") == "waking"


class TestTouch:
    async def test_activity_of_a_while_ago_is_remembered_as_such(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)

        touched = await store.touch(session_id, timedelta(seconds=50))

        assert touched.fresh is False
        assert 50_000 <= table.now() - touched.last_active < 50_000 + MINUTE_MS

    async def test_old_news_does_not_take_activity_back(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store, replicas=1)
        known_activity = table.stamp(session_id, "last_active")

        await store.touch(session_id, timedelta(seconds=50))

        assert table.stamp(session_id, "last_active") == known_activity + 1

    async def test_it_brings_a_lost_entry_back_and_asks_for_a_patch(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)

        touched = await store.touch(session_id, timedelta())

        assert touched.fresh is True
        assert texts(table, session_id) == ["awake"]


class TestEnqueue:
    async def test_it_wakes_appends_and_marks_for_dispatch(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)

        answer = await store.enqueue(session_id, "m1", 'it\'s "ü" \U0001f600', MAX_WAITING, HOLD)

        assert (answer.outcome, answer.woken.fresh) == (EnqueueOutcome.ADDED, True)
        assert table.elements(session_id)[0] == b"awake"
        assert json.loads(table.elements(session_id)[1]) == {"id": "m1", "message": 'it\'s "ü" \U0001f600'}
        assert table.admin.smembers(keys.DISPATCH_PENDING) == {session_id.encode()}

    async def test_an_id_is_taken_once(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)

        assert [await chat(store, session_id), await chat(store, session_id)] == ["added", "known"]
        assert texts(table, session_id) == ["awake", "m1"]

    async def test_an_id_that_was_finished_is_not_taken_again(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        await chat(store, session_id)
        table.admin.rpop(keys.queue(session_id))

        assert await chat(store, session_id) == "known"
        assert texts(table, session_id) == ["awake"]

    async def test_a_full_queue_refuses_but_still_knows_its_own(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        answers = [await store.enqueue(session_id, f"m{number}", "x", 2, HOLD) for number in (1, 2, 3, 2)]

        assert [answer.outcome for answer in answers] == ["added", "added", "full", "known"]
        assert texts(table, session_id) == ["awake", "m1", "m2"]

    async def test_long_messages_fill_it_sooner(self, store: RedisStore, table: Table) -> None:
        """All that waits has to fit into Redis, together with that of all other sessions."""
        session_id, long = await known(store), "x" * 150_000
        answers = [await store.enqueue(session_id, f"m{number}", long, 10, HOLD) for number in range(4)]
        await store.cancel_message(session_id, "m1")
        again = await store.enqueue(session_id, "m4", long, 10, HOLD)
        fence = await store.take_dispatch(session_id, "a", timedelta(minutes=1))
        assert fence is not None
        await store.finish_message(fence, "m0", MessageOutcome.DONE, "")
        await store.settle_waiting(session_id, MessageOutcome.FAILED, "")

        assert [answer.outcome for answer in answers] == ["added", "added", "full", "full"]
        assert again.outcome == "added"
        assert table.field(session_id, "chat_bytes") is None
        first = await store.enqueue(session_id, "m5", long * 4, 10, HOLD)
        assert first.outcome == "added"

    async def test_demand_from_outside_does_not_fill_the_queue(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        table.push(session_id, *["wake"] * 10)

        assert (await store.enqueue(session_id, "m1", "x", 1, HOLD)).outcome == EnqueueOutcome.ADDED

    @pytest.mark.parametrize("most", [0, MAX_WAITING])
    async def test_unknown_and_deleted_sessions_refuse(self, store: RedisStore, table: Table, most: int) -> None:
        unknown, deleted = new_session_id(), await known(store)
        await store.bury(deleted, "default", "alice", timedelta(days=7))

        with pytest.raises(NotFoundError):
            await store.enqueue(unknown, "m1", "x", most, HOLD)
        with pytest.raises(ConflictError):
            await store.enqueue(deleted, "m1", "x", most, HOLD)

        assert table.elements(unknown) + table.elements(deleted) == []
        assert table.admin.smembers(keys.DISPATCH_PENDING) == set()


class TestRelease:
    async def test_an_idle_session_is_released(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)

        outcome = await store.release(session_id, RELEASE_AFTER, force=False)

        assert outcome is ReleaseOutcome.RELEASED
        assert table.elements(session_id) == []
        assert abs(table.now() - table.stamp(session_id, "released_at")) < MINUTE_MS
        assert table.field(session_id, "status") == "sleeping"

    async def test_an_empty_list_is_released_too(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        table.admin.delete(keys.queue(session_id))

        assert await store.release(session_id, RELEASE_AFTER, force=False) is ReleaseOutcome.RELEASED
        assert await store.release(session_id, RELEASE_AFTER, force=False) is ReleaseOutcome.RELEASED

    async def test_nothing_is_released_while_the_gate_is_closed(
        self, store: RedisStore, table: Table, redis: RedisServer
    ) -> None:
        session_id = await idle(store, table)

        for epoch in ("", f"restoring:{redis.run_id()}:token", "0" * 40):
            table.admin.set(keys.EPOCH, epoch)
            for force in (False, True):
                assert await store.release(session_id, RELEASE_AFTER, force=force) is ReleaseOutcome.GATED
        table.admin.delete(keys.EPOCH)
        assert await store.release(session_id, RELEASE_AFTER, force=True) is ReleaseOutcome.GATED

        assert texts(table, session_id) == ["awake"]

    async def test_a_session_without_a_record_is_left_alone(self, store: RedisStore, table: Table) -> None:
        session_id = new_session_id()
        table.push(session_id, "awake")

        assert await store.release(session_id, RELEASE_AFTER, force=True) is ReleaseOutcome.UNKNOWN
        assert texts(table, session_id) == ["awake"]

    async def test_a_waiting_chat_keeps_it(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        await chat(store, session_id)
        table.age(session_id, "last_active", HOUR_MS)

        for force in (False, True):
            assert await store.release(session_id, RELEASE_AFTER, force=force) is ReleaseOutcome.WAITING

        assert texts(table, session_id) == ["awake", "m1"]

    async def test_a_message_after_the_judgement_keeps_it(self, store: RedisStore, table: Table) -> None:
        """The script judges the activity it finds, not the one that the sweeper read before."""
        session_id = await idle(store, table)
        (age,) = await store.get_idle_times([session_id])
        assert age is not None
        assert age > RELEASE_AFTER

        await store.wake(session_id)

        assert await store.release(session_id, RELEASE_AFTER, force=False) is ReleaseOutcome.ACTIVE
        assert texts(table, session_id) == ["awake"]

    async def test_demand_from_outside_is_adopted_for_a_whole_timeout(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        table.push(session_id, "wake", "wake")

        first = await store.release(session_id, RELEASE_AFTER, force=False)
        second = await store.release(session_id, RELEASE_AFTER, force=False)

        assert (first, second) == (ReleaseOutcome.ADOPTED, ReleaseOutcome.ACTIVE)
        assert texts(table, session_id) == ["awake"]
        assert abs(table.now() - table.stamp(session_id, "last_active")) < MINUTE_MS

    async def test_force_skips_time_and_adoption(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store, replicas=1)
        table.push(session_id, "wake")

        assert await store.release(session_id, RELEASE_AFTER, force=True) is ReleaseOutcome.RELEASED
        assert table.elements(session_id) == []

    async def test_activity_far_in_the_future_counts_as_now_from_now_on(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store, replicas=1)
        table.age(session_id, "last_active", -HOUR_MS)

        assert await store.release(session_id, RELEASE_AFTER, force=False) is ReleaseOutcome.ACTIVE
        assert abs(table.now() - table.stamp(session_id, "last_active")) < MINUTE_MS

    async def test_activity_a_little_in_the_future_is_kept(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store, replicas=1)
        table.age(session_id, "last_active", -4000)
        ahead = table.stamp(session_id, "last_active")

        assert await store.release(session_id, timedelta(), force=False) is ReleaseOutcome.ACTIVE
        assert table.stamp(session_id, "last_active") == ahead


class TestGiveUp:
    async def test_all_demand_but_chats_goes_with_the_start(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        table.push(session_id, "from outside")

        assert await store.give_up(session_id, table.stamp(session_id, "woken_at")) is ReleaseOutcome.RELEASED

        assert table.elements(session_id) == []
        assert table.field(session_id, "status") == "failed"

    async def test_a_waiting_chat_keeps_it(self, store: RedisStore, table: Table) -> None:
        session_id = await known(store)
        await store.enqueue(session_id, "m1", "x", 100, HOLD)

        assert await store.give_up(session_id, table.stamp(session_id, "woken_at")) is ReleaseOutcome.WAITING
        assert len(table.elements(session_id)) == 2

    async def test_a_wake_that_will_patch_keeps_it(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        judged = table.stamp(session_id, "woken_at")
        table.admin.delete(keys.queue(session_id))
        woken = await store.wake(session_id)

        assert await store.give_up(session_id, judged) is ReleaseOutcome.ACTIVE
        assert (woken.last_active, texts(table, session_id)) == (table.stamp(session_id, "woken_at"), ["awake"])

    async def test_a_wake_that_will_not_patch_does_not(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        judged = table.stamp(session_id, "woken_at")
        assert not (await store.wake(session_id)).fresh

        assert await store.give_up(session_id, judged) is ReleaseOutcome.RELEASED

    async def test_a_session_nobody_woke_is_given_up_too(self, store: RedisStore, table: Table) -> None:
        """KEDA started it, for demand from outside."""
        session_id = await known(store)
        table.push(session_id, "from outside")
        record = await store.get_record(session_id)
        assert record is not None

        assert await store.give_up(session_id, record.woken_at) is ReleaseOutcome.RELEASED

    async def test_a_closed_gate_keeps_it(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        table.admin.set(keys.EPOCH, "0" * 40)

        assert await store.give_up(session_id, table.stamp(session_id, "woken_at")) is ReleaseOutcome.GATED


class TestElementsOfOthers:
    @pytest.mark.parametrize(
        "element",
        [
            b"wake",
            b"",
            b"\xff",
            b"\x00\x01",
            b"{",
            b"null",
            b"true",
            b"17",
            b'"awake"',
            b"[1, 2]",
            b"{}",
            b'{"id": null}',
            b'{"id": 17}',
            b'{"id": {"a": 1}}',
            b'{"id": "not-ours", "message": "x"}',
            b'{"id": "m1\xff"}',
            b"[" * 5000,
            b'{"id": ' + b"9" * 400 + b"}",
            b"AWAKE",
            b"awake ",
        ],
    )
    async def test_whatever_is_not_ours_is_demand_from_outside(
        self, store: RedisStore, table: Table, element: bytes
    ) -> None:
        session_id = await idle(store, table)
        await chat(store, session_id)
        table.push(session_id, element)

        assert await store.get_queue(session_id) == Queue(awake=1, chats=1, outside=1)
        assert await store.list_demanded([session_id, new_session_id()]) == [session_id]
        await store.wake(session_id)
        assert texts(table, session_id) == ["m1", "awake"]

    async def test_bytes_that_are_not_utf8_pushed_by_redis_cli_break_nothing(
        self, store: RedisStore, table: Table, redis: RedisServer
    ) -> None:
        session_id = await idle(store, table)
        redis.cli("RPUSH", f"queue:{session_id}", b"\xff")

        assert await store.release(session_id, RELEASE_AFTER, force=False) is ReleaseOutcome.ADOPTED
        assert texts(table, session_id) == ["awake"]

    async def test_a_chat_copied_from_another_session_is_not_ours(self, store: RedisStore, table: Table) -> None:
        mine, other = await known(store), await known(store)
        await chat(store, other)
        table.push(mine, table.elements(other)[1])

        assert await store.get_queue(mine) == Queue(awake=0, chats=0, outside=1)

    async def test_a_huge_list_and_huge_elements_are_adopted_as_one(self, store: RedisStore, table: Table) -> None:
        session_id = await idle(store, table)
        await chat(store, session_id)
        table.push(session_id, *["wake"] * 20_000, b'{"id": "' + b"x" * 4_000_000 + b'"}')

        assert await store.get_queue(session_id) == Queue(awake=1, chats=1, outside=20_001)
        await store.wake(session_id)
        assert texts(table, session_id) == ["m1", "awake"]

    async def test_a_queue_of_another_type_is_demand_and_is_mended(self, store: RedisStore, table: Table) -> None:
        """KEDA cannot count a string; one such key must not stop the sweep of every other session."""
        sound, broken = await idle(store, table), await idle(store, table)
        table.admin.set(keys.queue(broken), "wake")

        assert await store.list_demanded([sound, broken]) == [sound, broken]
        assert await store.get_queue(broken) == Queue(awake=0, chats=0, outside=1)
        assert await store.release(broken, RELEASE_AFTER, force=False) is ReleaseOutcome.ADOPTED
        assert texts(table, broken) == ["awake"]


async def test_a_wake_is_told_apart_from_every_other_by_its_time(store: RedisStore) -> None:
    """It becomes an annotation of the Deployment, and an equal value would not move the resource version."""
    session_id = await known(store)

    woken: list[Woken] = [await store.wake(session_id) for _ in range(50)]

    assert len({answer.last_active for answer in woken}) == 50
