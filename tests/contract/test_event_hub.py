"""Many listeners and one reader on a real Redis: nothing missing, nothing twice, nobody in the way."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import random
from contextlib import AsyncExitStack
from datetime import timedelta
from functools import partial
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sessionctl.adapters.clock import SystemClock
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.core.events import MOST_UNTAKEN, EventHub, Listener
from sessionctl.core.identity import new_session_id
from sessionctl.errors import InvalidRequestError, StoreError
from sessionctl.models import EventKind, EventPage, SessionEvent, SessionId, StoredEvent
from sessionctl.settings import EventSettings
from tests.support.redis_proxy import command
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable, Mapping, Sequence

    from tests.support.redis import RedisServer
    from tests.support.redis_proxy import RedisProxy
    from tests.support.table import Table

ROOM = EventSettings(max_length=100_000, max_bytes=1 << 30)
FOR_EVER = timedelta(hours=1)
"""A reader that must be told of everything: looking again after a while would hide that it was not."""


class HeldStore(RedisStore):
    """The store; what it has read may be held back before whoever asked hears of it."""

    def __init__(self, redis: RedisServer) -> None:
        super().__init__(redis.endpoint(), events=ROOM)
        self.page: Held | None = None
        self.news: Held | None = None

    async def read_events(self, session_id: SessionId, after: str, limit: int) -> EventPage:
        found = await super().read_events(session_id, after, limit)
        held, self.page = self.page, None
        if held is not None:
            await held.back()
        return found

    async def wait_events(self, after: Mapping[SessionId, str], patience: timedelta) -> Sequence[StoredEvent]:
        found = await super().wait_events(after, patience)
        held, self.news = self.news, None
        if held is not None:
            await held.back()
        return found


class Held:
    """One answer of Redis on its way; ``first`` is called when it is there."""

    def __init__(self, first: Callable[[], None] = lambda: None) -> None:
        self.there = asyncio.Event()
        self._first = first
        self._go = asyncio.Event()

    async def back(self) -> None:
        self._first()
        self.there.set()
        await self._go.wait()

    def let_go(self) -> None:
        self._go.set()


@pytest_asyncio.fixture
async def held(redis: RedisServer) -> AsyncIterator[HeldStore]:
    async with HeldStore(redis) as opened:
        yield opened


@pytest_asyncio.fixture
async def held_hub(held: HeldStore) -> AsyncIterator[EventHub]:
    opened = EventHub(held, SystemClock(), FOR_EVER)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def store(redis: RedisServer) -> AsyncIterator[RedisStore]:
    """The store, with room for all events of a test."""
    async with RedisStore(redis.endpoint(), events=ROOM) as opened:
        yield opened


@pytest_asyncio.fixture
async def hub(store: RedisStore) -> AsyncIterator[EventHub]:
    opened = EventHub(store, SystemClock(), FOR_EVER)
    yield opened
    await opened.close()


@pytest_asyncio.fixture
async def shaky_hub(shaky: RedisStore) -> AsyncIterator[EventHub]:
    """A hub whose connections the proxy cuts."""
    opened = EventHub(shaky, SystemClock(), FOR_EVER)
    yield opened
    await opened.close()


async def say(store: RedisStore, session_id: SessionId, *words: object) -> list[str]:
    ids = [await store.append_event(SessionEvent(session_id, EventKind.WOKEN, str(word))) for word in words]
    return [str(event_id) for event_id in ids]


async def take(listener: Listener, count: int) -> list[str]:
    return [(await anext(listener)).detail for _ in range(count)]


def blocks(table: Table) -> bool:
    return bool(table.admin.info("clients")["blocked_clients"])


def words(numbers: Sequence[int]) -> list[str]:
    return [str(number) for number in numbers]


async def test_history_comes_first_and_news_after_it(store: RedisStore, hub: EventHub, table: Table) -> None:
    session_id = new_session_id()
    await say(store, session_id, *range(200))
    async with hub.listen(session_id) as listener:
        assert await take(listener, 200) == words(range(200))
        news = asyncio.create_task(take(listener, 2))
        await until(lambda: blocks(table), "the reader waits")
        await say(store, session_id, "a", "b")

        assert await news == ["a", "b"]


async def test_it_goes_on_after_any_event(store: RedisStore, hub: EventHub) -> None:
    session_id = new_session_id()
    ids = await say(store, session_id, *range(5))
    async with hub.listen(session_id, ids[2]) as listener:
        await say(store, session_id, 5)

        assert await take(listener, 3) == words([3, 4, 5])


async def test_what_is_no_id_is_refused_before_anything_is_followed(hub: EventHub) -> None:
    with pytest.raises(InvalidRequestError):
        async with hub.listen(new_session_id(), "yesterday"):
            pass


async def test_others_join_while_the_reader_waits(store: RedisStore, hub: EventHub, table: Table) -> None:
    """One reader, whose wait has no end of its own, learns of each new session at once."""
    async with AsyncExitStack() as stack:
        for number in range(5):
            session_id = new_session_id()
            listener = await stack.enter_async_context(hub.listen(session_id))
            news = asyncio.create_task(take(listener, 2))
            await until(partial(getattr, listener, "live"), "it waits for news")
            await until(lambda: blocks(table), "the reader waits")
            assert table.admin.info("clients")["blocked_clients"] == 1, number
            await say(store, session_id, "first")
            if number:
                await say(store, session_id, "second")
                assert await news == ["first", "second"]


async def test_nothing_is_missing_or_twice_over_random_cuts(
    store: RedisStore, shaky_hub: EventHub, proxy: RedisProxy
) -> None:
    """Connections to Redis end, listeners end and come again with the last id they saw; several at once."""
    dice = random.Random(5)
    total, session_id = 2000, new_session_id()

    async def write() -> None:
        for number in range(total):
            await say(store, session_id, number)
            if dice.random() < 1 / 25:
                proxy.cut()

    async def follow() -> list[str]:
        seen: list[StoredEvent] = []
        while len(seen) < total:
            leave_at = len(seen) + dice.randrange(1, 120)
            # The first page may fail: whoever follows is told so, and comes again.
            with contextlib.suppress(StoreError):
                async with shaky_hub.listen(session_id, seen[-1].event_id if seen else None) as listener:
                    while len(seen) < min(leave_at, total):
                        seen.append(await anext(listener))
        return [event.detail for event in seen]

    _, *found = await asyncio.gather(write(), *(follow() for _ in range(4)))

    assert found == [words(range(total))] * 4


async def test_listeners_at_every_point_of_one_stream(store: RedisStore, hub: EventHub) -> None:
    """They catch up while the reader is ahead of some, behind others, and events come."""
    session_id, total = new_session_id(), 400
    ids = await say(store, session_id, *range(100))

    async def follow(start: int) -> list[str]:
        async with hub.listen(session_id, ids[start]) as listener:
            return await take(listener, total - start - 1)

    following = [asyncio.create_task(follow(start)) for start in range(0, 100, 5)]
    for number in range(100, total):
        await say(store, session_id, number)
        if number < 200:
            following.append(asyncio.create_task(follow(number % 100)))

    expected = [words(range(start + 1, total)) for start in (*range(0, 100, 5), *range(100))]
    assert await asyncio.gather(*following) == expected


async def test_the_reader_may_be_further_than_a_page_on_its_way(held: HeldStore, held_hub: EventHub) -> None:
    """The page that says that there is no more is old by the time it arrives."""
    session_id = new_session_id()
    async with held_hub.listen(session_id) as late, held_hub.listen(session_id) as other:
        page = held.page = Held()
        news = asyncio.create_task(take(late, 1))
        await page.there.wait()
        await say(held, session_id, "meanwhile")
        assert await take(other, 1) == ["meanwhile"]
        waiting = asyncio.create_task(take(other, 1))
        await until(lambda: other.live, "the other waits for news")
        page.let_go()

        assert await news == ["meanwhile"]
        await say(held, session_id, "end")
        assert await waiting == ["end"]


async def test_a_listener_may_be_further_than_news_on_their_way(held: HeldStore, held_hub: EventHub) -> None:
    session_id = new_session_id()
    async with held_hub.listen(session_id) as first:
        waiting = asyncio.create_task(take(first, 2))
        news = held.news = Held()
        await until(lambda: first.live, "it waits for news")
        await say(held, session_id, "on its way")
        await news.there.wait()
        async with held_hub.listen(session_id) as second:
            assert await take(second, 1) == ["on its way"]
            following = asyncio.create_task(take(second, 1))
            await until(lambda: second.live, "it waits for news too")
            news.let_go()
            await until(lambda: first.fed == second.fed, "the news arrived")
            await say(held, session_id, "end")

            assert await waiting == ["on its way", "end"]
            assert await following == ["end"]


async def test_news_that_were_asked_for_by_somebody_who_left(held: HeldStore, held_hub: EventHub, table: Table) -> None:
    """They begin where he stood. Whoever came at that moment stands further back, and needs what is between."""
    session_id = new_session_id()
    async with held_hub.listen(session_id) as late:
        page = held.page = Held()
        following = asyncio.create_task(take(late, 2))
        await page.there.wait()
        await say(held, session_id, "between")
        async with held_hub.listen(session_id) as gone:
            assert await take(gone, 1) == ["between"]
            waiting = asyncio.create_task(take(gone, 1))
            await until(lambda: blocks(table), "the reader waits")
            waiting.cancel()
        news = held.news = Held(page.let_go)
        news.let_go()
        await say(held, session_id, "end")

        assert await following == ["between", "end"]


async def test_a_slow_listener_is_not_buffered_and_delays_nobody(store: RedisStore, hub: EventHub) -> None:
    session_id, total = new_session_id(), MOST_UNTAKEN * 3
    async with hub.listen(session_id) as slow, hub.listen(session_id) as quick:
        first = asyncio.gather(take(slow, 1), take(quick, 1))
        await until(lambda: slow.live and quick.live, "both wait for news")
        await say(store, session_id, 0)
        await first
        for number in range(1, total):
            await say(store, session_id, number)
            assert await take(quick, 1) == [str(number)]
            assert len(slow._untaken) <= MOST_UNTAKEN

        assert not slow.live
        assert await take(slow, total - 1) == words(range(1, total))


async def test_a_step_that_is_cut_off_loses_nothing(store: RedisStore, hub: EventHub) -> None:
    """As a stream does that sends a sign of life while nothing happens."""
    session_id = new_session_id()
    writing = asyncio.create_task(say(store, session_id, *range(300)))
    seen: list[str] = []
    async with hub.listen(session_id) as listener:
        for patience in itertools.cycle((0, 0.0005, 0.001, 0.005)):
            try:
                seen.append((await asyncio.wait_for(anext(listener), patience)).detail)
            except TimeoutError:
                continue
            if len(seen) == 300:
                break
    await writing

    assert seen == words(range(300))


async def test_redis_restarts_under_listeners(store: RedisStore, hub: EventHub, redis: RedisServer) -> None:
    session_id = new_session_id()
    async with hub.listen(session_id) as listener:
        news = asyncio.create_task(take(listener, 4))
        await say(store, session_id, 0, 1)
        redis.restart()
        await say(store, session_id, 2, 3)

        assert await news == words(range(4))


async def test_redis_away_is_waited_for_in_the_midst_of_history(
    store: RedisStore, hub: EventHub, redis: RedisServer
) -> None:
    session_id = new_session_id()
    await say(store, session_id, *range(200))
    async with hub.listen(session_id) as listener:
        assert await take(listener, 3) == words(range(3))
        redis.kill()
        rest = asyncio.create_task(take(listener, 197))
        await until(lambda: listener.failures, "a page could not be read")
        redis.start()

        assert await rest == words(range(3, 200))


async def test_a_stream_that_was_lost_begins_anew(store: RedisStore, hub: EventHub, table: Table) -> None:
    """Also for one whose last id lies ahead of all that comes now: the clock of the new Redis is behind."""
    session_id = new_session_id()
    ahead = f"{table.now() + 3_600_000}-0"
    async with hub.listen(session_id, ahead) as lost, hub.listen(session_id) as other:
        both = asyncio.gather(take(lost, 2), take(other, 2))
        await until(lambda: lost.live and other.live, "both wait for news")
        await say(store, session_id, 0)
        table.admin.flushall()
        await say(store, session_id, 1)

        assert list(await both) == [words(range(2))] * 2


async def test_who_joins_a_stream_that_was_lost_brings_the_others_back(
    store: RedisStore, hub: EventHub, table: Table
) -> None:
    """What the reader knows of the old stream lies ahead of all that comes: the clock of the new Redis is behind."""
    session_id = new_session_id()
    async with hub.listen(session_id) as old:
        await say(store, session_id, "before")
        assert await take(old, 1) == ["before"]
        news = asyncio.create_task(take(old, 2))
        await until(lambda: old.live, "it waits for news")
        table.admin.flushall()
        for number in range(2):
            table.admin.xadd(f"events:{session_id}", {"kind": "woken", "detail": str(number)}, id=f"{number + 1}-0")
        async with hub.listen(session_id) as new:
            assert await take(new, 2) == words(range(2))
            waiting = asyncio.create_task(take(new, 1))

            assert await news == words(range(2))
            await until(lambda: new.live, "the new one waits for news")
            waiting.cancel()


async def test_an_id_ahead_of_the_stream_gets_all_there_is(store: RedisStore, hub: EventHub, table: Table) -> None:
    session_id = new_session_id()
    await say(store, session_id, 0, 1)
    async with hub.listen(session_id, f"{table.now() + 3_600_000}-0") as listener:
        assert await take(listener, 2) == words(range(2))


async def test_the_reader_ends_with_the_last_listener(store: RedisStore, hub: EventHub, table: Table) -> None:
    session_id, after = new_session_id(), None
    for word in ("a", "b"):
        async with hub.listen(session_id, after) as first, hub.listen(session_id, after) as last:
            news = asyncio.gather(anext(first), anext(last))
            await until(lambda: blocks(table), "the reader waits")
            await say(store, session_id, word)
            after = {(event.detail, event.event_id) for event in await news}.pop()[1]
            assert hub._reader is not None

        assert hub._reader is None
        await until(lambda: not blocks(table), "nobody reads any more")


async def test_the_end_of_the_hub_is_the_end_of_all(store: RedisStore, hub: EventHub) -> None:
    async with hub.listen(new_session_id()) as first, hub.listen(new_session_id()) as second:
        waiting = [asyncio.create_task(anext(listener, None)) for listener in (first, second)]
        await until(lambda: first.live and second.live, "both wait for news")

        await hub.close()

        assert await asyncio.gather(*waiting) == [None, None]
    async with hub.listen(new_session_id()) as late:
        assert [event async for event in late] == []


async def test_two_thousand_listeners_share_one_read(store: RedisStore, hub: EventHub, table: Table) -> None:
    sessions = [new_session_id() for _ in range(500)]
    async with AsyncExitStack() as stack:
        listeners = [await stack.enter_async_context(hub.listen(session_id)) for session_id in sessions * 4]
        following = asyncio.gather(*(take(listener, 2) for listener in listeners))
        await until(lambda: all(listener.live for listener in listeners), "all wait for news")
        for _ in range(2):
            for session_id in sessions:
                await say(store, session_id, session_id)

        assert await following == [[session_id] * 2 for session_id in sessions * 4]
        assert table.admin.info("clients")["connected_clients"] < 70


async def test_nobody_asks_for_less_because_the_reader_failed(
    store: RedisStore, shaky_hub: EventHub, proxy: RedisProxy
) -> None:
    session_id = new_session_id()
    async with shaky_hub.listen(session_id) as listener:
        news = asyncio.create_task(take(listener, 1))
        tried = [proxy.trap(command("XREAD"), before=proxy.cut, nth=nth) for nth in (1, 2)]
        await until(lambda: all(trap.sprung.is_set() for trap in tried), "the reader tried twice")
        await say(store, session_id, "news")

        assert await news == ["news"]
