"""A real redis-server for the session; every test starts with an empty one whose gate is open."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.adapters.store.scripts import PARTS, source
from tests.support.dispatching import Gates, Room
from tests.support.redis import RedisServer
from tests.support.redis_proxy import HOST, RedisProxy
from tests.support.table import Table

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator


@pytest.fixture(scope="session")
def server(tmp_path_factory: pytest.TempPathFactory) -> Iterator[RedisServer]:
    with RedisServer(tmp_path_factory.mktemp("redis")) as started:
        yield started


@pytest.fixture
def redis(server: RedisServer) -> RedisServer:
    admin = server.admin
    admin.flushall()
    admin.acl_setuser("keda", enabled=False, reset=False)
    admin.set(keys.EPOCH, server.run_id())
    for name in PARTS:
        # A first call that fails with NOSCRIPT would be counted by a trap of the proxy.
        admin.script_load(source(name))
    return server


@pytest_asyncio.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    async with RedisStore(redis.endpoint()) as opened:
        yield opened


@pytest.fixture
def proxy(redis: RedisServer) -> Iterator[RedisProxy]:
    with RedisProxy(HOST, redis.port) as started:
        yield started


@pytest_asyncio.fixture
async def shaky(redis: RedisServer, proxy: RedisProxy) -> AsyncIterator[RedisStore]:
    """The store, behind the proxy."""
    async with RedisStore(redis.endpoint(proxy.port)) as opened:
        yield opened


@pytest.fixture
def table(redis: RedisServer) -> Table:
    return Table(redis.admin)


@pytest_asyncio.fixture
async def room(store: RedisStore) -> AsyncIterator[Room]:
    """Where dispatchers work."""
    async with Room(store) as opened:
        yield opened


@pytest.fixture
def gates(room: Room) -> Gates:
    """What stops the replies of its agents."""
    gates = Gates()
    room.fake.reply = gates.reply
    return gates
