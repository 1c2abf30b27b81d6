"""What the mirror makes of events; ``cluster/test_mirror.py`` shows where they come from."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, cast

import pytest

from sessionctl.adapters.metrics import NoMetrics
from sessionctl.core import tables
from sessionctl.core.changes import Change
from sessionctl.core.mirror import Mirror
from sessionctl.core.tables import SessionTable, TroubleTable
from sessionctl.errors import ClusterError
from sessionctl.models import Dependency, Pod, Trouble, WatchEvent
from sessionctl.testing.clock import FakeClock
from tests.support.sessions import make_workspace
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.models import Workspace
    from sessionctl.ports import Cluster

START = datetime(2026, 1, 1, tzinfo=UTC)


class Watches:
    """A cluster that says what it is told to, and ends its watches with what it is told to."""

    def __init__(self, *said: WatchEvent[Any] | Exception) -> None:
        self.said = deque(said)
        self.more = asyncio.Event()
        self.watch_pods = self.watch_nothing

    def say(self, *said: WatchEvent[Any] | Exception) -> None:
        self.said.extend(said)
        self.more.set()

    async def watch_workspaces(self) -> AsyncGenerator[WatchEvent[Any], None]:
        while True:
            while self.said:
                if isinstance(found := self.said.popleft(), Exception):
                    raise found
                yield found
            self.more.clear()
            await self.more.wait()

    async def watch_nothing(self) -> AsyncGenerator[WatchEvent[Any], None]:
        yield WatchEvent(listed=())
        await asyncio.Event().wait()

    async def watch_troubles(self) -> AsyncGenerator[WatchEvent[Trouble], None]:
        # As where there are so many that they are still being read.
        await asyncio.Event().wait()
        yield WatchEvent()

    watch_volumes = watch_nothing


class Health(NoMetrics):
    def __init__(self) -> None:
        self.said: list[bool] = []

    def set_health(self, dependency: Dependency, *, healthy: bool) -> None:
        assert dependency is Dependency.WATCH
        self.said.append(healthy)


class Running:
    """A mirror of scripted watches, for the time of its ``async with`` block."""

    def __init__(self, *said: WatchEvent[Any] | Exception) -> None:
        self.watches, self.pods = Watches(*said), Watches(WatchEvent(listed=()))
        self.watches.watch_pods = self.pods.watch_workspaces
        self.health = Health()
        self.clock = FakeClock()
        self.mirror = Mirror(cast("Cluster", self.watches), self.clock, self.health)

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self.mirror.run())
        return self

    async def __aexit__(self, *_: object) -> None:
        assert not self._task.done()
        self._task.cancel()
        await asyncio.gather(self._task, return_exceptions=True)

    async def shows(self, *workspaces: Workspace) -> None:
        async def so() -> bool:
            return self.mirror.is_synced and {*await self.mirror.list_workspaces()} == {*workspaces}

        await until(so, "the mirror shows these sessions")


async def test_nobody_waits_for_events() -> None:
    one = make_workspace()
    async with Running(WatchEvent(listed=(one,))) as running:
        await running.shows(one)
        assert running.mirror.stale_for() is None
        assert await running.mirror.find_trouble("Pod", "some") is None
    assert running.health.said[-1]


async def test_an_interruption_empties_nothing_and_is_told_once() -> None:
    one, two = make_workspace(), make_workspace()
    async with Running(WatchEvent(listed=(one, two))) as running:
        await running.shows(one, two)
        running.watches.say(*(ClusterError("away") for _ in range(20)))
        await until(lambda: not running.watches.said, "it tries again and again")
        await running.shows(one, two)
        stale = running.mirror.stale_for()
        # Waits that double, up to one second: 0.2 + 0.4 + 0.8 + 16 or 17 times 1.
        assert stale is not None
        assert timedelta(seconds=17) < stale < timedelta(seconds=19)
        running.watches.say(WatchEvent(listed=(two,)))
        await running.shows(two)
        assert running.mirror.stale_for() is None
    assert running.health.said[-3:] == [True, False, True]
    assert running.health.said.count(False) <= 2  # once before the first lists are complete


async def test_a_bug_of_one_event_is_survived() -> None:
    one, two = make_workspace(), make_workspace()
    async with Running(WatchEvent(listed=(one,)), ZeroDivisionError(), WatchEvent(listed=(two,))) as running:
        await running.shows(two)


async def test_whoever_listens_is_told_of_changes_alone() -> None:
    one, two = make_workspace(), make_workspace(replicas=1)
    starting = replace(two, ready_replicas=0)
    told: list[Change] = []
    async with Running(WatchEvent(listed=(one, starting))) as running:
        running.mirror.listen(lambda _: 1 // 0)  # type: ignore[arg-type]  # a listener with a bug
        running.mirror.listen(told.append)
        await running.shows(one, starting)
        running.watches.say(WatchEvent(), WatchEvent(changed=one), WatchEvent(changed=two), WatchEvent(deleted=one))
        await running.shows(two)
    assert told == [Change(None, one), Change(None, starting), Change(starting, two), Change(one, None)]
    assert [change.became_ready for change in told] == [False, False, True, False]


async def test_changes_are_collected_for_whoever_is_slow() -> None:
    one, two = make_workspace(), make_workspace()
    awake = replace(one, replicas=1)
    async with Running() as running:
        changes = running.mirror.follow_changes()
        running.watches.say(WatchEvent(listed=(one, two)))
        await running.shows(one, two)
        assert {*await changes.take(5)} == {one, two}
        assert [*await changes.take(0.01)] == []
        running.watches.say(*(WatchEvent(changed=seen) for seen in (one, awake, one, awake)), WatchEvent(deleted=two))
        await running.shows(awake)
        # As they are now, each once; what is gone is gone.
        assert [*await changes.take(5)] == [awake]
        changes.note(one.session_id)
        assert [*await changes.take(5)] == [awake]
        assert [*await running.mirror.follow_changes().take(5)] == [awake]


async def test_whoever_waits_for_a_session_hears_of_its_deployment_and_of_its_pods() -> None:
    one, two = make_workspace(), make_workspace()
    pod = Pod("pod", START, one.session_id)
    async with Running(WatchEvent(listed=(one, two))) as running:
        await running.shows(one, two)
        mirror = running.mirror
        with mirror.bells.listen(one.session_id) as heard, mirror.bells.listen(two.session_id) as other:
            for watch, event in (
                (running.watches, WatchEvent(changed=replace(one, replicas=1))),
                (running.pods, WatchEvent(changed=pod)),
                (running.pods, WatchEvent(changed=replace(pod, ready=True))),
                (running.pods, WatchEvent(deleted=pod)),
                (running.watches, WatchEvent(deleted=one)),
            ):
                watch.say(event)
                await until(heard.is_set, f"it hears of {event}")
                assert not other.is_set()
                heard.clear()
            for watch in (running.watches, running.pods):
                watch.say(WatchEvent(listed=()))
                await until(lambda: heard.is_set() and other.is_set(), "both hear of a list")
                heard.clear()
                other.clear()
        running.watches.say(WatchEvent(changed=two))
        await running.shows(two)
    assert not heard.is_set()


def test_sessions_are_counted_by_their_owners() -> None:
    table = SessionTable()
    one, two = make_workspace(user_id="alice"), make_workspace(user_id="alice", replicas=1)
    deleted = make_workspace(user_id="alice", deleted_at=START)
    table.replace((one, two, deleted))
    assert (table.count("default", "alice"), table.count("default", "bob"), table.count_awake("default")) == (2, 0, 1)
    table.put(one.session_id, replace(one, replicas=1))
    assert table.count_awake("default") == 2
    assert {each.session_id for each in table.list_awake()} == {one.session_id, two.session_id}
    table.put(two.session_id, None)
    assert (table.count("default", "alice"), table.count_awake("default")) == (1, 1)
    changes = table.replace(())
    assert len(changes) == 2
    assert (table.count("default", "alice"), table.count_awake("default"), table.by_id) == (0, 0, {})


def trouble(name: str, about: str, second: int) -> Trouble:
    return Trouble(name, "Pod", about, f"{name} of {about}", START + timedelta(seconds=second))


def test_of_troubles_the_newest_counts_whatever_the_order() -> None:
    table = TroubleTable()
    for each in (trouble("b", "pod", 5), trouble("c", "pod", 3), trouble("a", "pod", 5)):
        table.put(each)
    assert table.find("Pod", "pod") == trouble("b", "pod", 5)
    # The same event again, as when it is repeated: its clock may have been set back.
    table.put(trouble("b", "pod", 4))
    table.drop(trouble("c", "pod", 3))
    assert table.find("Pod", "pod") == trouble("b", "pod", 4)
    table.drop(trouble("b", "pod", 4))
    assert table.find("Pod", "pod") is None


def test_troubles_are_bounded_and_the_oldest_go_first(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tables, "MAX_TROUBLES", 20)
    table = TroubleTable()
    for number in range(100):
        table.put(trouble("x", f"pod-{number}", number))
    known = [number for number in range(100) if table.find("Pod", f"pod-{number}")]
    assert len(known) <= 20
    assert known == list(range(100 - len(known), 100))
    table.drop_object("Pod", "pod-99")
    assert table.find("Pod", "pod-99") is None
