"""When the sweeper asks an agent, and what it makes of the answers, on a real Redis; time is a test's own."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from sessionctl.adapters.clock import SystemClock
from sessionctl.adapters.metrics import NoMetrics
from sessionctl.core.asking import Answered
from sessionctl.core.demand import DemandService
from sessionctl.core.journal import Journal
from sessionctl.core.loop import SweepLoop
from sessionctl.core.mirror import Mirror
from sessionctl.core.rounds import Rounds
from sessionctl.core.starts import StartReport
from sessionctl.core.sweeper import Sweeper
from sessionctl.models import Activity, Owner, SessionId, WatchEvent, Workspace
from sessionctl.settings import EditorIdle, IdleSettings, SweepSettings
from sessionctl.testing.clock import FakeClock
from sessionctl.testing.metrics import CountingMetrics
from sessionctl.testing.probe import ScriptedProbe
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.ports import Cluster
    from tests.support.table import Table

SESSION = SessionId("5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11")
OTHER = SessionId("0b6f1f7a-4f57-4c43-9d3b-5f0c8b1e0c2d")
SETTINGS = IdleSettings()
HALF_MS = 60_000
RELEASE_MS = 122_000
HOUR_MS = 3_600_000


class Bed:
    """What a sweep makes of a cluster: who was put to sleep or woken."""

    def __init__(self) -> None:
        self.slept: list[SessionId] = []
        self.woken: list[SessionId] = []

    async def sleep_workspace(self, session_id: SessionId, resource_version: str, slept_at: int) -> None:
        self.slept.append(session_id)

    async def wake_workspace(self, session_id: SessionId, woken_at: int) -> None:
        self.woken.append(session_id)

    async def find_workspace(self, session_id: SessionId) -> Workspace:
        return workspace(session_id)

    async def watch_workspaces(self) -> AsyncGenerator[WatchEvent[Workspace], None]:
        yield WatchEvent(listed=(workspace(), workspace(OTHER)))
        await asyncio.Event().wait()

    async def watch_nothing(self) -> AsyncGenerator[WatchEvent[Any], None]:
        yield WatchEvent(listed=())
        await asyncio.Event().wait()

    watch_volumes = watch_pods = watch_troubles = watch_nothing


def workspace(session_id: SessionId = SESSION, replicas: int = 1) -> Workspace:
    created = datetime(2026, 1, 1, tzinfo=UTC)
    return Workspace(session_id, Owner("u", "default", "default", created), resource_version="7", replicas=replicas)


class Room:
    """A sweeper with all that is around it."""

    def __init__(self, store: RedisStore, table: Table, settings: IdleSettings = SETTINGS) -> None:
        self.bed = Bed()
        self.clock = FakeClock()
        self.probe = ScriptedProbe(Activity())
        self.table = table
        cluster = cast("Cluster", self.bed)
        self.journal = journal = Journal(store, CountingMetrics())
        self.sweeper = Sweeper(
            cluster=cluster,
            store=store,
            demand=DemandService(cluster, store, self.clock, journal, hold=timedelta()),
            journal=journal,
            probe=self.probe,
            clock=self.clock,
            settings=settings,
        )

    def last_active(self, milliseconds_ago: int, session_id: SessionId = SESSION) -> None:
        self.table.age(session_id, "last_active", milliseconds_ago)

    def idle_ms(self, session_id: SessionId = SESSION) -> int:
        return self.table.now() - self.table.stamp(session_id, "last_active")

    async def tick(self, *, patience: float | None = None) -> None:
        await self.sweeper.tick([workspace(), workspace(OTHER)], patience)


@pytest.fixture
async def room(store: RedisStore, table: Table) -> AsyncIterator[Room]:
    for session_id in (SESSION, OTHER):
        await store.ensure_record(workspace(session_id))
        await store.wake(session_id)
        # Wakes soon after a release are told apart; these are long after.
        table.age(session_id, "released_at", HOUR_MS)
    room = Room(store, table)
    yield room
    # What it noted last is written before its store is closed.
    await room.journal.close()


class TestBeforeItIsTime:
    async def test_nobody_is_asked_in_the_first_half(self, room: Room) -> None:
        room.last_active(HALF_MS - 5000)
        await room.tick()
        assert room.probe.asked == []

    async def test_input_seen_in_the_second_half_is_remembered(self, room: Room) -> None:
        room.probe.answers[SESSION] = Activity(editor_input=timedelta(seconds=10))
        room.last_active(HALF_MS + 5000)
        await room.tick()
        assert room.probe.asked == [SESSION]
        assert 9_000 <= room.idle_ms() <= 15_000
        # And the agent is away when it would be time to release.
        room.probe.answers[SESSION] = None
        await room.tick()
        assert (room.probe.asked, room.bed.slept) == ([SESSION], [])

    async def test_what_is_older_than_what_is_known_changes_nothing(self, room: Room) -> None:
        room.probe.answers[SESSION] = Activity(editor_input=timedelta(seconds=100))
        room.last_active(HALF_MS + 5000)
        before = room.table.stamp(SESSION, "last_active")
        await room.tick()
        assert room.probe.asked == [SESSION]
        assert room.table.stamp(SESSION, "last_active") == before

    async def test_an_idle_answer_releases_nothing_yet(self, room: Room) -> None:
        room.last_active(RELEASE_MS - 2000)
        await room.tick()
        assert (room.probe.asked, room.bed.slept) == ([SESSION], [])

    async def test_it_is_asked_now_and_then_only(self, room: Room) -> None:
        for second in range(62, 122):
            room.last_active(second * 1000)
            await room.tick()
            await room.clock.sleep(1)
        assert len(room.probe.asked) == 4

    async def test_an_open_editor_counts_if_the_operator_says_so(self, store: RedisStore, room: Room) -> None:
        other = Room(store, room.table, replace_editor(SETTINGS))
        other.probe.answers[SESSION] = Activity(editor_connected=timedelta(hours=1))
        other.last_active(HALF_MS + 5000)
        await other.tick()
        assert other.idle_ms() < 5_000


def replace_editor(settings: IdleSettings) -> IdleSettings:
    return replace(settings, editor=EditorIdle.CONNECTION)


class TestWhenItIsTime:
    async def test_the_answer_decides(self, room: Room) -> None:
        room.last_active(RELEASE_MS + 1000)
        await room.tick()
        assert (room.probe.asked, room.bed.slept) == ([SESSION], [SESSION])

    async def test_it_is_not_asked_more_often_than_activity_is_written(self, room: Room) -> None:
        # It waits for something else than the agent, such as a chat.
        room.table.push(SESSION, "a message from outside")
        room.probe.answers[SESSION] = None
        room.last_active(RELEASE_MS + 1000)
        for _ in range(10):
            await room.tick()
            await room.clock.sleep(1)
        assert room.probe.asked == [SESSION]
        await room.tick()
        assert room.probe.asked == [SESSION, SESSION]

    async def test_silence_counts_as_work_for_its_time_and_is_told_once(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, logger="sessionctl")
        room.probe.answers[SESSION] = None
        for milliseconds in range(RELEASE_MS, HOUR_MS, 120_000):
            room.last_active(milliseconds)
            await room.tick()
            await room.clock.sleep(60)
        assert room.bed.slept == []
        warnings = [line.getMessage() for line in caplog.records if line.levelno == logging.WARNING]
        assert warnings == ["the agent does not answer: the session stays awake for up to 1:00:00"]
        room.last_active(HOUR_MS + 1000)
        await room.tick()
        assert room.bed.slept == [SESSION]
        assert "put to sleep: its agent has not answered for idle.unknownLimit" in caplog.text

    async def test_silence_that_ends_is_told_and_the_next_one_again(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        caplog.set_level(logging.INFO, logger="sessionctl.core.asking")
        for answer in (None, Activity(message_running=True), None):
            room.probe.answers[SESSION] = answer
            room.last_active(RELEASE_MS + 1000)
            await room.tick()
            await room.clock.sleep(60)
        assert [line.levelname for line in caplog.records] == ["WARNING", "INFO", "WARNING"]

    async def test_silence_before_it_is_time_is_not_worth_a_warning(
        self, room: Room, caplog: pytest.LogCaptureFixture
    ) -> None:
        room.probe.answers[SESSION] = None
        room.last_active(HALF_MS + 5000)
        await room.tick()
        assert (room.probe.asked, caplog.records) == ([SESSION], [])


class TestWhatIsRemembered:
    async def test_the_last_answer_with_its_age_and_silence_too(self, room: Room) -> None:
        assert await room.sweeper.last_answer(workspace()) is None
        room.probe.answers[SESSION] = Activity(hold=timedelta(hours=1))
        room.last_active(RELEASE_MS + 1000)
        await room.tick()
        await room.clock.sleep(30)
        expected = Answered(Activity(hold=timedelta(hours=1)), timedelta(seconds=30))
        assert await room.sweeper.last_answer(workspace()) == expected
        room.probe.answers[SESSION] = None
        room.last_active(RELEASE_MS + 1000)
        await room.tick()
        assert await room.sweeper.last_answer(workspace()) == Answered(None, timedelta())
        assert room.probe.asked == [SESSION, SESSION]

    async def test_nothing_of_one_that_sleeps(self, room: Room) -> None:
        room.last_active(RELEASE_MS + 1000)
        await room.tick()
        await room.sweeper.tick([workspace(replicas=0)])
        assert await room.sweeper.last_answer(workspace()) is None


class Slow(ScriptedProbe):
    """Answers when it is let, as an agent that drips."""

    def __init__(self) -> None:
        super().__init__(Activity())
        self.let = asyncio.Event()

    async def ask(self, workspace: Workspace) -> Activity | None:
        answer = await super().ask(workspace)
        if workspace.session_id == SESSION:
            await self.let.wait()
        return answer


class TestSlowAgent:
    @pytest.fixture
    def slow(self, room: Room) -> Slow:
        slow = Slow()
        room.sweeper._inquiry._probe = slow
        room.last_active(RELEASE_MS + 1000)
        return slow

    async def test_nobody_waits_for_it_and_it_is_asked_once_at_a_time(self, room: Room, slow: Slow) -> None:
        await room.tick(patience=0.05)
        room.last_active(RELEASE_MS + 1000, OTHER)
        await room.clock.sleep(60)
        await room.tick(patience=0.05)
        await until(lambda: room.bed.slept == [OTHER], "the other one sleeps")
        assert slow.asked == [SESSION, OTHER]
        slow.let.set()
        await room.tick(patience=5)
        assert room.bed.slept == [OTHER, SESSION]

    async def test_a_wake_while_it_thinks_keeps_the_session(self, room: Room, slow: Slow, store: RedisStore) -> None:
        await room.tick(patience=0.05)
        await store.wake(SESSION)
        slow.let.set()
        await room.tick(patience=5)
        assert room.bed.slept == []

    async def test_its_late_word_wakes_nobody_who_sleeps_by_then(self, room: Room, slow: Slow) -> None:
        slow.answers[SESSION] = Activity(message_running=True)
        await room.tick(patience=0.05)
        room.table.admin.delete(f"queue:{SESSION}")
        await room.sweeper.tick([workspace(replicas=0)], patience=0.05)
        slow.let.set()
        await room.sweeper.tick([workspace(replicas=0)], patience=5)
        assert (room.table.elements(SESSION), room.bed.woken) == ([], [])

    async def test_closing_ends_what_is_under_way(self, room: Room, slow: Slow) -> None:
        await room.tick(patience=0.05)
        await room.sweeper.close()
        slow.let.set()
        await asyncio.sleep(0.05)
        assert room.bed.slept == []

    async def test_a_single_sweep_waits_and_leaves_nothing_when_it_is_cancelled(self, room: Room, slow: Slow) -> None:
        sweep = asyncio.create_task(room.tick())
        await asyncio.sleep(0.1)
        assert not sweep.done()
        sweep.cancel()
        await asyncio.gather(sweep, return_exceptions=True)
        slow.let.set()
        await asyncio.sleep(0.05)
        assert room.bed.slept == []

    async def test_the_loop_goes_on_beside_it(self, room: Room, slow: Slow) -> None:
        """Gate, guard and keeper have nothing to do here."""

        class Nothing:
            async def check(self, *_: object, **__: object) -> bool:
                return True

            async def tick(self, *_: object) -> StartReport:
                return StartReport()

        nothing = cast("Any", Nothing())
        cluster, clock = cast("Cluster", room.bed), SystemClock()
        loop = SweepLoop(
            cluster=cluster,
            mirror=Mirror(cluster, clock, NoMetrics()),
            gate=nothing,
            guard=nothing,
            starts=nothing,
            sweeper=room.sweeper,
            keeper=nothing,
            rounds=Rounds(clock, NoMetrics()),
            settings=SweepSettings(interval=timedelta(milliseconds=50)),
        )
        running = asyncio.create_task(loop.forever())
        await until(lambda: slow.asked == [SESSION], "the slow one is asked")
        room.last_active(RELEASE_MS + 1000, OTHER)
        await until(lambda: room.bed.slept == [OTHER], "the other one sleeps")
        running.cancel()
        await asyncio.gather(running, return_exceptions=True)
        slow.let.set()
        await asyncio.sleep(0.05)
        assert room.bed.slept == [OTHER]
