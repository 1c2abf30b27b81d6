"""Rate limits, idempotency keys, one-time codes and token epochs on a real Redis."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.identity import new_session_id
from sessionctl.models import CodeAnswer, CodeOutcome, Login, RateLimit, Remembered, SessionId
from tests.support.redis_proxy import Loss, script
from tests.support.sessions import make_workspace
from tests.support.waiting import until

if TYPE_CHECKING:
    from tests.support.redis import RedisServer
    from tests.support.redis_proxy import RedisProxy
    from tests.support.table import Table

MINUTE = timedelta(minutes=1)
SLOW = RateLimit("slow", 0.01, 3)
"""One in 100 s, three at once: no token comes back during a test."""


class TestLimits:
    async def test_a_burst_and_then_its_rate(self, store: RedisStore) -> None:
        answers = [await store.take([SLOW]) for _ in range(4)]

        assert answers[:3] == [None] * 3
        assert answers[3] is not None
        assert timedelta(seconds=90) < answers[3] <= timedelta(seconds=100)

    async def test_a_token_comes_back_when_it_was_said_to(self, store: RedisStore) -> None:
        quick = RateLimit("quick", 10, 1)
        assert await store.take([quick]) is None
        wait = await store.take([quick])
        assert wait is not None
        assert wait <= timedelta(milliseconds=100)
        await asyncio.sleep(wait.total_seconds())

        assert await store.take([quick]) is None

    async def test_a_refused_call_takes_nothing(self, store: RedisStore) -> None:
        wide = RateLimit("wide", 0.01, 5)
        answers = [await store.take([wide, SLOW]) for _ in range(6)]
        assert [answer is None for answer in answers] == [True] * 3 + [False] * 3

        assert [await store.take([wide]) is None for _ in range(3)] == [True, True, False]

    async def test_the_longest_wait_is_told(self, store: RedisStore) -> None:
        slower = RateLimit("slower", 0.001, 1)
        await store.take([slower, RateLimit("slow", 0.01, 1)])
        for limits in ([slower, RateLimit("slow", 0.01, 1)], [RateLimit("slow", 0.01, 1), slower]):
            wait = await store.take(limits)
            assert wait is not None
            assert timedelta(seconds=900) < wait <= timedelta(seconds=1000)

    async def test_callers_at_the_same_moment_share_it(self, store: RedisStore, redis: RedisServer) -> None:
        ten = RateLimit("ten", 0.01, 10)
        async with RedisStore(redis.endpoint()) as other:
            answers = await asyncio.gather(*(one.take([ten]) for one in (store, other) * 15))

        assert sum(answer is None for answer in answers) == 10

    async def test_it_is_forgotten_when_the_bucket_is_full(self, store: RedisStore, table: Table) -> None:
        await store.take([SLOW])
        assert 90_000 < table.admin.pttl("limit:slow") <= 100_000

        await store.take([RateLimit("quick", 100, 1)])
        await until(lambda: not table.admin.exists("limit:quick"), "the key expires")

    async def test_a_clock_that_was_set_back_locks_nobody_out(self, store: RedisStore, table: Table) -> None:
        table.admin.set("limit:slow", str((table.now() + 86_400_000) * 1000))

        wait = await store.take([SLOW])

        assert wait is not None
        assert wait <= timedelta(seconds=100)

    async def test_no_limit_is_no_wait(self, store: RedisStore) -> None:
        assert await store.take([]) is None


class TestIdempotency:
    async def test_the_first_binds_and_the_next_learn_to_what(self, store: RedisStore) -> None:
        first = await store.remember("key", "request", "value", MINUTE)
        again = await store.remember("key", "request", "other value", MINUTE)
        changed = await store.remember("key", "other request", "other value", MINUTE)

        assert first == Remembered("value", "request", fresh=True)
        assert again == changed == Remembered("value", "request", fresh=False)

    async def test_one_of_many_binds(self, store: RedisStore, redis: RedisServer) -> None:
        async with RedisStore(redis.endpoint()) as other:
            calls = [one.remember("k", "f", str(n), MINUTE) for n, one in enumerate((store, other) * 10)]
            found = await asyncio.gather(*calls)

        assert sum(remembered.fresh for remembered in found) == 1
        assert len({remembered.value for remembered in found}) == 1

    async def test_a_lost_reply_is_still_the_one_that_bound(self, shaky: RedisStore, proxy: RedisProxy) -> None:
        lost = proxy.trap(script("remember"), Loss.REPLY)

        first = await shaky.remember("key", "request", "value", MINUTE)
        second = await shaky.remember("key", "request", "value", MINUTE)

        assert lost.sprung.is_set()
        assert (first.fresh, second.fresh) == (True, False)

    async def test_it_ends_and_does_not_show_the_key(self, store: RedisStore, table: Table) -> None:
        await store.remember("a key of the customer", "f", "v", MINUTE)

        (key,) = table.admin.keys("idem:*")
        assert b"customer" not in key
        assert 0 < table.admin.pttl(key) <= 60_000


LOGIN = Login(new_session_id(), "acme", "alice", 7)
SESSION, BROWSER, OTHER = LOGIN.session_id, "browser-of-alice", "browser-of-mallory"
OPENED = CodeAnswer(CodeOutcome.OPENED, LOGIN)
CONFIRM = CodeAnswer(CodeOutcome.CONFIRM, LOGIN)
REFUSED = {word: CodeAnswer(CodeOutcome(word)) for word in ("other", "used", "unknown")}


async def show(
    store: RedisStore, *, state: str = BROWSER, session: SessionId = SESSION, yes: bool = False
) -> CodeAnswer:
    return await store.open_code("secret", session, state, confirmed=yes)


class TestCodes:
    @pytest.mark.parametrize("state", [BROWSER, ""])
    async def test_a_code_is_used_once(self, store: RedisStore, redis: RedisServer, state: str) -> None:
        await store.put_code("secret", LOGIN, state, MINUTE)
        if not state:
            assert await show(store) == CONFIRM
        async with RedisStore(redis.endpoint()) as other:
            found = await asyncio.gather(*(show(one, yes=not state) for one in (store, other) * 10))

        assert sorted(found, key=str) == sorted([OPENED] + [REFUSED["used"]] * 19, key=str)

    async def test_a_code_for_a_browser_opens_nowhere_else(self, store: RedisStore) -> None:
        await store.put_code("secret", LOGIN, BROWSER, MINUTE)
        for yes in (False, True):
            assert await show(store, state=OTHER, yes=yes) == REFUSED["other"]

        assert await show(store) == OPENED

    async def test_a_code_for_no_browser_is_of_the_first_and_asks_its_user(
        self, store: RedisStore, redis: RedisServer
    ) -> None:
        await store.put_code("secret", LOGIN, "", MINUTE)
        states = [f"browser-{number}" for number in range(10)]
        async with RedisStore(redis.endpoint()) as other:
            found = await asyncio.gather(*(show(one, state=state) for one in (store, other) for state in states))
        first = states[found.index(CONFIRM) % len(states)]

        assert found.count(CONFIRM) == 2
        # Opened again by a reload, or by a page that sends a browser here twice, it still asks.
        assert await show(store, state=first) == CONFIRM
        for state in states:
            assert (await show(store, state=state, yes=True) == OPENED) is (state == first)

    async def test_nobody_confirms_what_was_not_shown_there(self, store: RedisStore) -> None:
        await store.put_code("secret", LOGIN, "", MINUTE)

        assert await show(store, yes=True) == REFUSED["other"]
        assert await show(store) == CONFIRM

    async def test_a_code_of_another_session_opens_nothing_and_is_not_used_up(self, store: RedisStore) -> None:
        await store.put_code("secret", LOGIN, BROWSER, MINUTE)

        assert await show(store, session=new_session_id()) == REFUSED["unknown"]
        assert await show(store) == OPENED

    async def test_what_never_was_opens_nothing(self, store: RedisStore, table: Table) -> None:
        assert await show(store) == REFUSED["unknown"]
        table.admin.set(keys.code("secret"), SESSION)  # as an older manager wrote it
        assert await show(store) == REFUSED["unknown"]

    async def test_it_expires(self, store: RedisStore, table: Table) -> None:
        await store.put_code("secret", LOGIN, BROWSER, timedelta(milliseconds=20))
        await until(lambda: not table.admin.keys("code:*"), "the code expires")

        assert await show(store) == REFUSED["unknown"]

    async def test_redis_does_not_know_the_code_and_forgets_the_used_one(self, store: RedisStore, table: Table) -> None:
        await store.put_code("secret", LOGIN, "", MINUTE)
        await show(store)
        await show(store, yes=True)

        (key,) = table.admin.keys("code:*")
        assert b"secret" not in key
        assert b"secret" not in str(table.admin.hgetall(key)).encode()
        assert 0 < table.admin.pttl(key) <= 60_000

    async def test_a_used_code_cannot_be_put_again(self, store: RedisStore) -> None:
        """Nothing that is repeated late makes it valid a second time."""
        await store.put_code("secret", LOGIN, BROWSER, MINUTE)
        await show(store)
        await store.put_code("secret", LOGIN, BROWSER, MINUTE)

        assert await show(store) == REFUSED["used"]

    async def test_a_lost_reply_does_not_use_it_up(self, shaky: RedisStore, proxy: RedisProxy) -> None:
        await shaky.put_code("secret", LOGIN, BROWSER, MINUTE)
        lost = proxy.trap(script("open_code"), Loss.REPLY)

        assert await show(shaky) == OPENED
        assert lost.sprung.is_set()
        assert await show(shaky) == REFUSED["used"]

    async def test_a_user_is_remembered_as_written(self, store: RedisStore) -> None:
        login = replace(LOGIN, user_id='ä"\\\N{GRINNING FACE}\\u0000 x', epoch=2**53 - 1)
        await store.put_code("secret", login, BROWSER, MINUTE)

        assert await show(store) == CodeAnswer(CodeOutcome.OPENED, login)


class TestTokenEpoch:
    async def test_it_is_the_same_until_it_is_revoked(self, store: RedisStore) -> None:
        workspace = make_workspace()
        await store.ensure_record(workspace)
        first = await store.get_token_epoch(workspace.session_id)
        assert await store.get_token_epoch(workspace.session_id) == first

        revoked = await store.revoke_tokens(workspace.session_id)

        assert revoked > first
        assert await store.get_token_epoch(workspace.session_id) == revoked
        assert await store.revoke_tokens(workspace.session_id) > revoked

    @pytest.mark.parametrize("rebuilt_by", ["ensure_record", "restore"])
    async def test_a_revoked_token_stays_so_after_a_loss(
        self, store: RedisStore, table: Table, redis: RedisServer, rebuilt_by: str
    ) -> None:
        workspace = make_workspace()
        session_id = workspace.session_id
        await store.ensure_record(workspace)
        epochs = [await store.get_token_epoch(session_id), await store.revoke_tokens(session_id)]

        table.admin.flushall()
        assert await store.get_token_epoch(session_id) > max(epochs)
        if rebuilt_by == "restore":
            token = await store.begin_restore(redis.run_id())
            assert token is not None
            await store.restore(token, workspace)
        else:
            await store.ensure_record(workspace)

        assert await store.get_token_epoch(session_id) > max(epochs)

    async def test_a_restart_revokes_nothing(self, store: RedisStore, redis: RedisServer) -> None:
        workspace = make_workspace()
        await store.ensure_record(workspace)
        epoch = await store.get_token_epoch(workspace.session_id)
        redis.restart()
        token = await store.begin_restore(redis.run_id())
        assert token is not None
        await store.restore(token, workspace)

        assert await store.get_token_epoch(workspace.session_id) == epoch

    async def test_a_delete_revokes(self, store: RedisStore) -> None:
        workspace = make_workspace()
        await store.ensure_record(workspace)
        epoch = await store.get_token_epoch(workspace.session_id)
        await store.bury(workspace.session_id, "default", "alice", MINUTE)
        await store.unbury(workspace)

        assert await store.get_token_epoch(workspace.session_id) > epoch

    async def test_a_record_of_an_older_manager_gets_one(self, store: RedisStore, table: Table) -> None:
        workspace = make_workspace()
        await store.ensure_record(workspace)
        table.admin.hdel(keys.record(workspace.session_id), "token_epoch")
        before = table.now() * 1000

        epoch = await store.get_token_epoch(workspace.session_id)

        assert epoch >= before
        assert await store.get_token_epoch(workspace.session_id) == epoch

    async def test_a_session_without_a_record_gets_none(self, store: RedisStore, table: Table) -> None:
        before = table.everything()
        await store.get_token_epoch(new_session_id())
        await store.revoke_tokens(new_session_id())

        assert table.everything() == before
