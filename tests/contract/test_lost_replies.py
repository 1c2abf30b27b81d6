"""A script whose reply is lost is run again by the client: two runs must leave what one leaves (DESIGN 5)."""

from __future__ import annotations

import asyncio
import secrets
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from redis.exceptions import BusyLoadingError

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.identity import parse_session_id
from sessionctl.errors import OutcomeUnknownError, StoreError
from sessionctl.models import Cancellation, EventKind, Fence, Login, MessageOutcome, ReplyDelta, SessionEvent
from tests.support.redis import RedisServer
from tests.support.redis_proxy import Loss, script
from tests.support.sessions import HOLD, make_workspace
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from pathlib import Path

    from tests.support.redis_proxy import RedisProxy
    from tests.support.table import Table

SESSION = parse_session_id("0b6f3a52-7f64-4a4e-9d2b-5f4a4c1f7a10")
WORKSPACE = make_workspace(SESSION, replicas=1)
SLEEPING = make_workspace(SESSION, slept_at=1)
TOKEN = "restoring:{run_id}:00"
OWNER = ("default", "alice")
OWNER_A = "a manager"
MINUTE = timedelta(minutes=1)
LOGIN = Login(SESSION, "default", "alice", 7)
EVENT = SessionEvent(SESSION, EventKind.WOKEN, "somebody came")


@dataclass(frozen=True)
class Case:
    """A script, what is there before, and the call."""

    script: str
    prepare: Callable[[RedisStore, Table], Awaitable[None]]
    call: Callable[[RedisStore, str], Awaitable[object]]


async def _nothing(store: RedisStore, table: Table) -> None:
    pass


async def _asleep(store: RedisStore, table: Table) -> None:
    await store.ensure_record(SLEEPING)


async def _idle(store: RedisStore, table: Table) -> None:
    await store.ensure_record(WORKSPACE)
    table.age(SESSION, "last_active", 3_600_000)


async def _pushed_by_others(store: RedisStore, table: Table) -> None:
    await _idle(store, table)
    table.push(SESSION, "wake")


async def _chats(store: RedisStore, table: Table) -> None:
    await store.ensure_record(WORKSPACE)
    await store.enqueue(SESSION, "m0", "before", 100, HOLD)


async def _buried(store: RedisStore, table: Table) -> None:
    await _asleep(store, table)
    await store.bury(SESSION, "default", "alice", timedelta(days=7))


async def _restoring(store: RedisStore, table: Table) -> None:
    run_id = (await store.get_epoch()).run_id
    table.admin.set(keys.EPOCH, TOKEN.format(run_id=run_id))


async def _closed(store: RedisStore, table: Table) -> None:
    table.admin.delete(keys.EPOCH)


async def _revoked(store: RedisStore, table: Table) -> None:
    await _asleep(store, table)
    await store.revoke_tokens(SESSION)


async def _reserved(store: RedisStore, table: Table) -> None:
    await store.reserve_session(SESSION, *OWNER, 1)


async def _code(store: RedisStore, table: Table) -> None:
    await store.put_code("secret", LOGIN, "browser", MINUTE)


async def _taken(store: RedisStore, table: Table) -> None:
    await _chats(store, table)
    assert await store.take_dispatch(SESSION, OWNER_A, MINUTE) is not None


async def _running(store: RedisStore, table: Table) -> None:
    await _taken(store, table)
    await store.start_message(_fence(table), "m0", "pod")
    await _append(store, table, 1)


async def _finished(store: RedisStore, table: Table) -> None:
    await _running(store, table)
    await store.finish_message(_fence(table), "m0", MessageOutcome.DONE, "")


def _fence(table: Table) -> Fence:
    number, _, owner = (table.field(SESSION, "fence") or "").partition(":")
    return Fence(SESSION, int(number), owner)


async def _append(store: RedisStore, table: Table, seq: int) -> None:
    await store.append_reply(_fence(table), "m0", ReplyDelta(1, seq, f"line {seq}"), seq)


_HOUR = timedelta(hours=1) / 2
CASES = {
    "wake": Case("wake", _asleep, lambda store, _: store.wake(SESSION)),
    "wake_with_chats": Case("wake", _chats, lambda store, _: store.wake(SESSION)),
    "touch": Case("wake", _idle, lambda store, _: store.touch(SESSION, timedelta(seconds=5))),
    "enqueue": Case("enqueue", _chats, lambda store, _: store.enqueue(SESSION, "m1", "hello", 100, HOLD)),
    "enqueue_the_last_place": Case("enqueue", _chats, lambda store, _: store.enqueue(SESSION, "m1", "hello", 2, HOLD)),
    "release": Case("release", _idle, lambda store, _: store.release(SESSION, _HOUR, force=False)),
    "release_by_force": Case("release", _pushed_by_others, lambda store, _: store.release(SESSION, _HOUR, force=True)),
    "release_that_adopts": Case(
        "release", _pushed_by_others, lambda store, _: store.release(SESSION, _HOUR, force=False)
    ),
    "ensure_record": Case("ensure_record", _nothing, lambda store, _: store.ensure_record(WORKSPACE)),
    "bury": Case("bury", _chats, lambda store, _: store.bury(SESSION, "default", "alice", timedelta(days=7))),
    "unbury": Case("unbury", _buried, lambda store, _: store.unbury(SLEEPING)),
    "append_event": Case("append_event", _asleep, lambda store, _: store.append_event(EVENT)),
    "append_event_once": Case("append_event", _asleep, lambda store, _: store.append_event(replace(EVENT, once="1"))),
    "append_event_of_nobody": Case("append_event", _nothing, lambda store, _: store.append_event(EVENT)),
    "settle_waiting": Case(
        "settle_waiting", _chats, lambda store, _: store.settle_waiting(SESSION, MessageOutcome.FAILED, "why")
    ),
    "cancel_message": Case("cancel_message", _taken, lambda store, _: store.cancel_message(SESSION, "m0")),
    "cancel_message_that_runs": Case("cancel_message", _running, lambda store, _: store.cancel_message(SESSION, "m0")),
    "remember": Case("remember", _nothing, lambda store, _: store.remember("key", "request", "value", MINUTE)),
    "put_code": Case("put_code", _nothing, lambda store, _: store.put_code("secret", LOGIN, "", MINUTE)),
    "open_code": Case(
        "open_code", _code, lambda store, _: store.open_code("secret", SESSION, "browser", confirmed=False)
    ),
    "revoke_tokens": Case("revoke_tokens", _revoked, lambda store, _: store.revoke_tokens(SESSION)),
    "reserve_session": Case("reserve_session", _nothing, lambda store, _: store.reserve_session(SESSION, *OWNER, 1)),
    "cancel_reservation": Case(
        "cancel_reservation", _reserved, lambda store, _: store.cancel_reservation(SESSION, *OWNER)
    ),
    "restore": Case("restore", _restoring, lambda store, run_id: store.restore(TOKEN.format(run_id=run_id), WORKSPACE)),
}


@pytest.mark.parametrize("name", CASES)
async def test_a_lost_reply_leaves_what_one_call_leaves(
    store: RedisStore, shaky: RedisStore, table: Table, redis: RedisServer, proxy: RedisProxy, name: str
) -> None:
    case, run_id = CASES[name], redis.run_id()
    await case.prepare(store, table)
    await case.call(store, run_id)
    expected = table.everything()
    table.admin.flushall()
    table.admin.set(keys.EPOCH, run_id)
    await case.prepare(store, table)

    lost, repeated = proxy.trap(script(case.script), Loss.REPLY), proxy.trap(script(case.script), nth=2)
    await case.call(shaky, run_id)

    assert lost.sprung.is_set()
    assert repeated.sprung.is_set()
    assert table.everything() == expected


@dataclass(frozen=True)
class Delivery:
    """A call of whoever delivers: the script, what is there before, and the call, whose answers must be the same."""

    script: str
    prepare: Callable[[RedisStore, Table], Awaitable[None]]
    call: Callable[[RedisStore, Table], Awaitable[object]]


DELIVERIES = {
    "take_dispatch": Delivery(
        "take_dispatch", _chats, lambda store, _: _found(store.take_dispatch(SESSION, OWNER_A, MINUTE))
    ),
    "renew_dispatch": Delivery("renew_dispatch", _running, lambda s, table: s.renew_dispatch(_fence(table), MINUTE)),
    "drop_dispatch": Delivery("drop_dispatch", _running, lambda store, table: store.drop_dispatch(_fence(table))),
    "get_next": Delivery("get_next", _running, lambda store, table: _found(store.get_next(_fence(table)))),
    "get_next_of_none": Delivery("get_next", _finished, lambda store, table: store.get_next(_fence(table))),
    "start_message": Delivery(
        "start_message", _taken, lambda store, table: store.start_message(_fence(table), "m0", "pod")
    ),
    "append_reply": Delivery("append_reply", _running, lambda store, table: _append(store, table, 2)),
    "finish_message": Delivery(
        "finish_message",
        _running,
        lambda store, table: store.finish_message(_fence(table), "m0", MessageOutcome.DONE, "why"),
    ),
}


async def _found(answer: Awaitable[object]) -> bool:
    return await answer is not None


@pytest.mark.parametrize("name", DELIVERIES)
async def test_a_lost_reply_of_a_delivery_leaves_and_answers_what_one_call_does(
    store: RedisStore, shaky: RedisStore, table: Table, redis: RedisServer, proxy: RedisProxy, name: str
) -> None:
    case = DELIVERIES[name]
    await case.prepare(store, table)
    answer = await case.call(store, table)
    expected = table.everything()
    table.admin.flushall()
    table.admin.set(keys.EPOCH, redis.run_id())
    await case.prepare(store, table)

    lost, repeated = proxy.trap(script(case.script), Loss.REPLY), proxy.trap(script(case.script), nth=2)

    assert await case.call(shaky, table) == answer
    assert lost.sprung.is_set()
    assert repeated.sprung.is_set()
    assert table.everything() == expected


async def test_a_cancel_whose_reply_was_lost_says_what_it_did(
    shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
) -> None:
    await _chats(store, table)
    proxy.trap(script("cancel_message"), Loss.REPLY)

    assert await shaky.cancel_message(SESSION, "m0") is Cancellation.CANCELLED


async def test_a_wake_whose_reply_was_lost_is_still_patched(
    shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
) -> None:
    """The first run took the entry's place, so the second finds it there: the pod must be patched all the same."""
    await _idle(store, table)
    await store.release(SESSION, timedelta(seconds=1), force=False)
    proxy.trap(script("wake"), Loss.REPLY)

    assert (await shaky.wake(SESSION)).fresh


async def test_a_message_whose_reply_was_lost_is_reported_as_taken(
    shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
) -> None:
    await _chats(store, table)
    proxy.trap(script("enqueue"), Loss.REPLY)

    answer = await shaky.enqueue(SESSION, "m1", "hello", 2, HOLD)

    assert answer.outcome in {"added", "known"}
    assert len(table.elements(SESSION)) == 3


async def test_the_restore_goes_on_with_the_token_of_the_lost_reply(
    shaky: RedisStore, store: RedisStore, table: Table, redis: RedisServer, proxy: RedisProxy
) -> None:
    await _closed(store, table)
    proxy.trap(script("begin_restore"), Loss.REPLY)

    token = await shaky.begin_restore(redis.run_id())

    assert token is not None
    assert (await store.get_epoch()).value == token


async def test_an_opening_whose_reply_was_lost_has_opened(
    shaky: RedisStore, store: RedisStore, table: Table, redis: RedisServer, proxy: RedisProxy
) -> None:
    """The second run finds no token and says no; the gate is open, and the next check sees it."""
    await _closed(store, table)
    token = await store.begin_restore(redis.run_id())
    assert token is not None
    proxy.trap(script("open_gate"), Loss.REPLY)

    await shaky.open_gate(token)

    assert (await store.get_epoch()).is_open


async def test_a_redis_that_loses_every_reply_is_an_error(
    shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
) -> None:
    await _asleep(store, table)
    for nth in (1, 2, 3):
        proxy.trap(script("wake"), Loss.REPLY, nth=nth)

    with pytest.raises(OutcomeUnknownError, match="does not answer"):
        await shaky.wake(SESSION)

    assert table.elements(SESSION) == [b"awake"]


async def test_a_command_that_never_arrived_is_sent_again(
    shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
) -> None:
    await _asleep(store, table)
    lost = proxy.trap(script("wake"), Loss.COMMAND)

    await shaky.wake(SESSION)

    assert lost.sprung.is_set()
    assert table.elements(SESSION) == [b"awake"]


class TestOutcome:
    """Whether Redis may have done what it was asked for, when no answer came (DESIGN 5, Redis unreachable)."""

    async def test_a_lost_reply_and_then_no_redis_leave_it_open(
        self, shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
    ) -> None:
        """The last error is that nobody listens; what matters is the first."""
        await _asleep(store, table)
        await shaky.get_time()
        # The first command's reply is lost, and repetitions find nobody to connect to.
        proxy.trap(script("enqueue"), Loss.REPLY, before=proxy.refuse)

        with pytest.raises(OutcomeUnknownError):
            await shaky.enqueue(SESSION, "m1", "hello", 100, HOLD)

        assert len(table.elements(SESSION)) == 2

    async def test_a_redis_that_is_not_there_has_done_nothing(
        self, store: RedisStore, redis: RedisServer, table: Table
    ) -> None:
        await _asleep(store, table)
        await asyncio.to_thread(redis.kill)
        try:
            with pytest.raises(StoreError) as caught:
                await store.wake(SESSION)
        finally:
            redis.start()

        assert caught.type is StoreError

    async def test_one_that_dies_with_connections_open_has_done_nothing(
        self, shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
    ) -> None:
        await _asleep(store, table)
        await asyncio.gather(*(shaky.get_time() for _ in range(5)))
        proxy.refuse()
        await asyncio.to_thread(proxy.cut)

        with pytest.raises(StoreError) as caught:
            await shaky.wake(SESSION)

        assert caught.type is StoreError

    async def test_one_that_is_loading_has_done_nothing(self, tmp_path: Path) -> None:
        """It answers, and its answer is no."""
        slow = ("--key-load-delay", "20000", "--loading-process-events-interval-bytes", "1024")
        with RedisServer(tmp_path, slow) as loading:
            async with RedisStore(loading.endpoint()) as asking:
                await asking.ensure_record(SLEEPING)
                for number in range(50):
                    loading.admin.set(f"key:{number}", secrets.token_hex(1024))
                # It answers while it loads a snapshot.
                loading.admin.bgrewriteaof()
                await until(lambda: not loading.admin.info("persistence")["aof_rewrite_in_progress"], "it is written")
                await asyncio.to_thread(loading.kill)
                starting = asyncio.create_task(asyncio.to_thread(loading.start))

                async def refused() -> BaseException | None:
                    with pytest.raises(StoreError) as caught:
                        await asking.wake(SESSION)
                    assert caught.type is StoreError
                    return caught.value if isinstance(caught.value.__cause__, BusyLoadingError) else None

                await until(refused, "it says that it is loading")
                await starting

    async def test_a_repetition_that_was_answered_settles_it(self, shaky: RedisStore, proxy: RedisProxy) -> None:
        proxy.trap(script("remember"), Loss.REPLY)

        assert (await shaky.remember("key", "request", "value", MINUTE)).fresh

    async def test_what_only_reads_is_never_in_doubt(
        self, shaky: RedisStore, store: RedisStore, table: Table, proxy: RedisProxy
    ) -> None:
        await _asleep(store, table)
        for nth in (1, 2, 3):
            proxy.trap(script("get_queue"), Loss.REPLY, nth=nth)

        with pytest.raises(StoreError) as caught:
            await shaky.get_queue(SESSION)

        assert caught.type is StoreError
