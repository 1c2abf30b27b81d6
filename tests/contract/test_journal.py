"""History costs nobody anything: neither a wait nor a failure (decision 14)."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest

from sessionctl.core import journal as journals
from sessionctl.core.identity import new_session_id
from sessionctl.core.journal import Journal
from sessionctl.errors import StoreError
from sessionctl.models import EventKind
from sessionctl.testing.metrics import CountingMetrics
from tests.support.between import Hooks

if TYPE_CHECKING:
    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.models import SessionId

SESSION: Final = new_session_id()


@pytest.fixture
def hooks() -> Hooks:
    return Hooks()


@pytest.fixture
def metrics() -> CountingMetrics:
    return CountingMetrics()


@pytest.fixture
def journal(store: RedisStore, hooks: Hooks, metrics: CountingMetrics) -> Journal:
    return Journal(hooks.around(store), metrics)


async def kinds(store: RedisStore, session_id: SessionId = SESSION) -> list[EventKind]:
    return [event.kind for event in await store.list_events(session_id, None, 1000)]


async def hang() -> None:
    await asyncio.Event().wait()


async def test_events_of_a_session_keep_their_order(store: RedisStore, journal: Journal) -> None:
    told = [EventKind.CREATED, EventKind.WOKEN, EventKind.READY, EventKind.SLEPT, EventKind.DELETED]
    for kind in told:
        journal.note(SESSION, kind)

    await journal.close()

    assert await kinds(store) == told


async def test_what_all_see_is_written_counted_and_measured_once(
    store: RedisStore, journal: Journal, metrics: CountingMetrics
) -> None:
    measured: list[str] = []
    for each in (journal, Journal(store, metrics)):
        each.note(SESSION, EventKind.READY, once="1", then=measured.append)
        await each.close()

    assert await kinds(store) == [EventKind.READY]
    assert metrics.counts == {EventKind.READY: 1}
    assert measured == [event.event_id for event in await store.list_events(SESSION, None, 10)]


@pytest.mark.parametrize("error", [StoreError("away"), RuntimeError("a mistake of ours")])
async def test_one_that_cannot_be_written_keeps_no_other(
    store: RedisStore, journal: Journal, hooks: Hooks, error: Exception
) -> None:
    async def fail() -> None:
        raise error

    hooks.before("append_event", fail)
    journal.note(SESSION, EventKind.WOKEN)
    journal.note(SESSION, EventKind.SLEPT)

    await journal.close()

    assert await kinds(store) == [EventKind.SLEPT]


async def test_what_redis_does_not_take_is_counted(journal: Journal, hooks: Hooks, metrics: CountingMetrics) -> None:
    async def fail() -> None:
        raise StoreError("away")

    hooks.before("append_event", fail)

    assert await journal.record(SESSION, EventKind.WOKEN) is None

    assert metrics.counts == {EventKind.WOKEN: 1}


async def test_nobody_waits_for_a_redis_that_hangs(
    journal: Journal, hooks: Hooks, metrics: CountingMetrics, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(journals, "LAST_PATIENCE_SECONDS", 0.05)
    hooks.before("append_event", hang)

    for _ in range(journals.LONGEST_LANE + 10):
        journal.note(SESSION, EventKind.WOKEN)
        await asyncio.sleep(0)

    # One is being written, and the lane is full; the others are counted without being written.
    assert metrics.counts[EventKind.WOKEN] == 9
    await journal.close()
    assert hooks.calls["append_event"] == 1
