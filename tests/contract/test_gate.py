"""The gate: epoch, tokens, and KEDA's user on a real Redis that restarts, forgets and loses replies (DESIGN 5)."""

from __future__ import annotations

import contextlib
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest
from redis import exceptions as redis_errors

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.errors import ForbiddenError, StoreError
from sessionctl.models import Epoch, ReleaseOutcome
from tests.support.redis import RedisServer
from tests.support.redis_proxy import command
from tests.support.sessions import HOLD, make_workspace
from tests.support.waiting import until
from tools.localcluster.ports import Ports

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from redis import Redis

    from tests.support.redis_proxy import RedisProxy
    from tests.support.table import Table

KEDA_SCRIPT = """
local listName = KEYS[1]
local listType = redis.call('type', listName).ok
if listType == 'zset' then
  return redis.call('zcard', listName)
elseif listType == 'set' then
  return redis.call('scard', listName)
elseif listType == 'hash' then
  return redis.call('hlen', listName)
elseif listType == 'list' or listType == 'none' then
  return redis.call('llen', listName)
else
  return redis.error_reply('ERR unsupported key type: ' .. listType)
end
"""
"""As in KEDA 2.20.2, pkg/scalers/redis_scaler.go."""


async def begin(store: RedisStore) -> str:
    """Begin the restore of the Redis that answers, and return its token."""
    token = await store.begin_restore((await store.get_epoch()).run_id)
    assert token is not None
    return token


def run(client: Redis, *argv: str) -> object:
    """Send a command as it is."""
    return client.execute_command(*argv)  # type: ignore[no-untyped-call]


class TestEpoch:
    async def test_it_tells_the_run_that_answers_and_the_run_that_was_restored(
        self, store: RedisStore, redis: RedisServer, table: Table
    ) -> None:
        opened = await store.get_epoch()
        table.admin.delete(keys.EPOCH)

        assert opened == Epoch(run_id=redis.run_id(), value=redis.run_id())
        assert opened.is_open
        assert await store.get_epoch() == Epoch(run_id=redis.run_id(), value="")

    async def test_a_restart_closes_the_gate_although_the_data_survived(
        self, store: RedisStore, redis: RedisServer
    ) -> None:
        before = await store.get_epoch()

        redis.restart()

        after = await store.get_epoch()
        assert (after.value, after.is_open) == (before.run_id, False)

    async def test_redis_cluster_is_detected(self, tmp_path_factory: pytest.TempPathFactory) -> None:
        with Ports() as ports:
            # Its default is the port + 10000, where anybody's outgoing connection may be.
            options = ("--cluster-enabled", "yes", "--cluster-port", str(ports["bus"]))
            with RedisServer(tmp_path_factory.mktemp("cluster"), options) as clustered:
                async with RedisStore(clustered.endpoint()) as store:
                    with pytest.raises(StoreError, match="Redis Cluster is not supported"):
                        await store.get_epoch()


class TestRestore:
    async def test_the_first_sets_a_token_and_the_next_joins_it(
        self, store: RedisStore, redis: RedisServer, table: Table
    ) -> None:
        table.admin.delete(keys.EPOCH)

        tokens = [await begin(store), await begin(store)]

        assert tokens[0] == tokens[1]
        assert tokens[0].startswith(f"restoring:{redis.run_id()}:")

    async def test_an_open_gate_begins_nothing(self, store: RedisStore, redis: RedisServer) -> None:
        assert await store.begin_restore(redis.run_id()) is None
        assert (await store.get_epoch()).is_open

    async def test_a_run_that_is_over_begins_nothing(self, store: RedisStore, redis: RedisServer) -> None:
        earlier = redis.run_id()
        redis.restart(empty=True)

        assert await store.begin_restore(earlier) is None
        assert redis.admin.get(keys.EPOCH) is None

    async def test_a_token_of_an_earlier_run_is_not_joined(self, store: RedisStore, redis: RedisServer) -> None:
        redis.admin.delete(keys.EPOCH)
        earlier = await begin(store)
        redis.restart()

        later = await begin(store)

        assert later != earlier
        assert later.startswith(f"restoring:{redis.run_id()}:")

    async def test_awake_sessions_get_demand_and_activity_of_now(self, store: RedisStore, table: Table) -> None:
        table.admin.flushall()
        token = await begin(store)
        awake, asleep = make_workspace(replicas=1), make_workspace()
        before = table.now()

        assert await store.restore(token, awake)
        assert await store.restore(token, asleep)

        assert table.elements(awake.session_id) == [b"awake"]
        assert table.stamp(awake.session_id, "last_active") >= before
        assert table.elements(asleep.session_id) == []
        assert {w.session_id for w in (awake, asleep)} == set(await store.list_record_ids())

    async def test_wakes_after_it_are_fresh(self, store: RedisStore, table: Table) -> None:
        """What Redis forgot may include a release whose patch is still on its way."""
        table.admin.flushall()
        restored, rebuilt = make_workspace(replicas=1), make_workspace(replicas=1)
        await store.restore(await begin(store), restored)
        await store.ensure_record(rebuilt)

        assert (await store.wake(restored.session_id)).fresh
        assert (await store.wake(rebuilt.session_id)).fresh

    async def test_starts_count_from_it(self, store: RedisStore, table: Table) -> None:
        """What Redis forgot may include a wake whose patch is still on its way."""
        table.admin.flushall()
        begun = await store.get_time()
        restored, rebuilt = make_workspace(replicas=1), make_workspace(replicas=1)
        await store.restore(await begin(store), restored)
        await store.ensure_record(rebuilt)

        for workspace in (restored, rebuilt):
            assert begun <= table.stamp(workspace.session_id, "woken_at") <= table.now()

    async def test_what_redis_still_knows_is_kept(self, store: RedisStore, table: Table) -> None:
        workspace = make_workspace(replicas=1)
        session_id = workspace.session_id
        await store.ensure_record(workspace)
        await store.enqueue(session_id, "m1", "x", 100, HOLD)
        table.push(session_id, "wake")
        table.age(session_id, "last_active", 3_600_000)
        expected, before = table.elements(session_id), table.now()
        table.admin.delete(keys.EPOCH)
        token = await begin(store)

        for _ in range(2):
            assert await store.restore(token, workspace)

        assert table.elements(session_id) == expected
        assert table.stamp(session_id, "last_active") >= before
        assert [chat.message_id for chat in await store.list_waiting(session_id)] == ["m1"]

    async def test_a_session_whose_delete_has_just_begun_is_not_brought_back(
        self, store: RedisStore, table: Table
    ) -> None:
        workspace = make_workspace(replicas=1)
        table.admin.delete(keys.EPOCH)
        token = await begin(store)
        await store.bury(workspace.session_id, "default", "alice", timedelta(days=7))

        assert await store.restore(token, workspace)

        assert await store.list_record_ids() == []
        assert table.elements(workspace.session_id) == []

    async def test_a_tombstone_of_an_older_redis_does_not_bury_a_live_session(
        self, store: RedisStore, table: Table
    ) -> None:
        workspace = make_workspace(replicas=1)
        await store.bury(workspace.session_id, "default", "alice", timedelta(days=7))
        table.admin.set(keys.tombstone(workspace.session_id), str(table.now() - 1000))
        table.admin.delete(keys.EPOCH)
        token = await begin(store)

        assert await store.restore(token, workspace)

        assert table.elements(workspace.session_id) == [b"awake"]
        assert not table.admin.exists(keys.tombstone(workspace.session_id))
        await store.wake(workspace.session_id)

    async def test_a_queue_of_another_type_does_not_keep_the_gate_closed(self, store: RedisStore, table: Table) -> None:
        workspace = make_workspace(replicas=1)
        table.admin.flushall()
        table.admin.set(keys.queue(workspace.session_id), "wake")

        assert await store.restore(await begin(store), workspace)

        assert table.elements(workspace.session_id) == [b"awake"]

    async def test_opening_makes_the_run_the_epoch(self, store: RedisStore, table: Table) -> None:
        table.admin.delete(keys.EPOCH)

        assert await store.open_gate(await begin(store))

        assert (await store.get_epoch()).is_open


async def _flush(redis: RedisServer) -> None:
    redis.admin.flushall()


async def _restart(redis: RedisServer) -> None:
    redis.restart()


async def _restart_empty(redis: RedisServer) -> None:
    redis.restart(empty=True)


async def _another_begins_after_a_flush(redis: RedisServer) -> None:
    redis.admin.flushall()
    async with RedisStore(redis.endpoint()) as other:
        await begin(other)


@pytest.mark.parametrize("loss", [_flush, _restart, _restart_empty, _another_begins_after_a_flush])
class TestLossInTheMiddle:
    async def test_nothing_more_is_restored_with_the_old_token(
        self, store: RedisStore, redis: RedisServer, loss: Callable[[RedisServer], Awaitable[None]]
    ) -> None:
        redis.admin.flushall()
        token = await begin(store)
        await loss(redis)

        assert not await store.restore(token, make_workspace(replicas=1))

        assert await store.list_record_ids() == []

    async def test_the_old_token_does_not_open(
        self, store: RedisStore, redis: RedisServer, loss: Callable[[RedisServer], Awaitable[None]]
    ) -> None:
        redis.admin.delete(keys.EPOCH)
        token = await begin(store)
        await loss(redis)

        assert not await store.open_gate(token)

        assert not (await store.get_epoch()).is_open


async def test_a_token_that_survived_a_restart_is_of_no_use(store: RedisStore, redis: RedisServer) -> None:
    """The token itself is what the append-only file brings back; only the run id inside the script tells."""
    redis.admin.delete(keys.EPOCH)
    token = await begin(store)
    redis.restart()

    assert (await store.get_epoch()).value == token
    assert not await store.restore(token, make_workspace(replicas=1))
    assert not await store.open_gate(token)


class TestAdmission:
    async def test_keda_is_let_in_when_the_gate_is_open(self, store: RedisStore, redis: RedisServer) -> None:
        assert not redis.keda_is_on()

        assert await store.admit_keda()

        assert redis.keda_is_on()

    @pytest.mark.parametrize("epoch", [None, "restoring:{run_id}:token", "0" * 40])
    async def test_keda_stays_out_while_it_is_closed(
        self, store: RedisStore, redis: RedisServer, epoch: str | None
    ) -> None:
        redis.admin.delete(keys.EPOCH)
        if epoch is not None:
            redis.admin.set(keys.EPOCH, epoch.format(run_id=redis.run_id()))

        assert not await store.admit_keda()

        assert not redis.keda_is_on()

    @pytest.mark.parametrize("change", ["FLUSHALL", "SET epoch restoring"])
    async def test_keda_stays_out_when_the_epoch_moves_before_exec(
        self, shaky: RedisStore, redis: RedisServer, proxy: RedisProxy, change: str
    ) -> None:
        trap = proxy.trap(command("EXEC"), before=lambda: run(redis.admin, *change.split()))

        assert not await shaky.admit_keda()

        assert trap.sprung.is_set()
        assert not redis.keda_is_on()

    @pytest.mark.parametrize("step", ["WATCH", "GET", "INFO", "MULTI", "EXEC"])
    async def test_keda_stays_out_of_a_redis_that_restarted_empty_at_any_step(
        self, shaky: RedisStore, redis: RedisServer, proxy: RedisProxy, step: str
    ) -> None:
        await shaky.get_epoch()
        trap = proxy.trap(command(step), before=lambda: redis.restart(empty=True))

        with contextlib.suppress(StoreError):
            assert not await shaky.admit_keda()

        await until(trap.sprung.is_set, "Redis is back")
        assert not redis.keda_is_on()

    async def test_nothing_is_repeated_when_the_connection_is_lost(
        self, shaky: RedisStore, redis: RedisServer, proxy: RedisProxy
    ) -> None:
        """The repetition would reach a Redis of which nobody has asked whether it is the same."""
        proxy.trap(command("WATCH"), before=proxy.cut)
        again = proxy.trap(command("WATCH"), nth=2)

        with pytest.raises(StoreError):
            await shaky.admit_keda()

        assert not again.sprung.is_set()
        assert not redis.keda_is_on()

    async def test_shutting_out_ends_open_connections(self, store: RedisStore, redis: RedisServer) -> None:
        await store.admit_keda()
        with redis.as_keda() as keda:
            keda.ping()

            await store.shut_out_keda()

            with pytest.raises(redis_errors.ConnectionError):
                keda.ping()
        assert not redis.keda_is_on()

    async def test_a_redis_that_does_not_let_us_is_named_with_the_next_step(
        self, redis: RedisServer, table: Table
    ) -> None:
        async with RedisStore(redis.endpoint(username="limited")) as limited:
            with pytest.raises(ForbiddenError, match="'limited' may not switch KEDA's user 'keda'") as admitting:
                await limited.admit_keda()
            with pytest.raises(ForbiddenError):
                await limited.shut_out_keda()
        assert "+acl" in (admitting.value.hint or "")


class TestRightsOfKeda:
    @pytest.fixture
    def keda(self, redis: RedisServer) -> Redis:
        redis.admin.acl_setuser("keda", enabled=True, reset=False)
        return redis.as_keda()

    async def test_they_are_enough_for_its_own_script(self, keda: Redis, redis: RedisServer) -> None:
        redis.admin.rpush("queue:x", "awake", "wake")

        with keda:
            run(keda, "SELECT", "0")
            run(keda, "CLIENT", "SETNAME", "keda")
            assert keda.ping()
            assert (keda.eval(KEDA_SCRIPT, 1, "queue:x"), keda.eval(KEDA_SCRIPT, 1, "queue:y")) == (2, 0)

    @pytest.mark.parametrize(
        "argv",
        [
            ("LRANGE", "queue:x", "0", "-1"),
            ("RPUSH", "queue:x", "wake"),
            ("DEL", "queue:x"),
            ("LLEN", "session:x"),
            ("GET", "epoch"),
            ("EVAL", "return redis.call('DEL', KEYS[1])", "1", "queue:x"),
            ("EVAL", "return redis.call('LLEN', KEYS[1])", "1", "session:x"),
            ("KEYS", "*"),
            ("FLUSHALL",),
            ("ACL", "SETUSER", "keda", "+@all"),
            ("CONFIG", "GET", "*"),
            ("PUBLISH", "x", "y"),
        ],
    )
    async def test_they_are_enough_for_nothing_else(self, keda: Redis, argv: tuple[str, ...]) -> None:
        with keda, pytest.raises(redis_errors.ResponseError, match=r"(?i)permission|NOPERM|can't run this command"):
            run(keda, *argv)


async def test_the_store_reaches_the_database_it_was_given(redis: RedisServer) -> None:
    workspace = make_workspace()
    async with RedisStore(replace(redis.endpoint(), database=3)) as elsewhere:
        await elsewhere.ensure_record(workspace)
    async with RedisStore(redis.endpoint()) as here:
        assert await here.get_record(workspace.session_id) is None


async def test_releases_are_refused_by_a_redis_that_came_back_with_an_old_epoch(
    store: RedisStore, redis: RedisServer, table: Table
) -> None:
    workspace = make_workspace(replicas=1)
    await store.ensure_record(workspace)
    table.age(workspace.session_id, "last_active", 3_600_000)

    redis.restart()

    outcome = await store.release(workspace.session_id, timedelta(seconds=1), force=False)
    assert outcome is ReleaseOutcome.GATED
    assert redis.admin.lrange(keys.queue(workspace.session_id), 0, -1) == [b"awake"]
