"""Each limit reached for real: its event, its metric, and its line in `why` (DESIGN 5)."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

import pytest

from sessionctl.core.diagnosis import Repair
from sessionctl.core.identity import new_session_id
from sessionctl.core.lifetime import LifetimeKeeper
from sessionctl.core.quotas import Quotas
from sessionctl.core.sessions import NewSession
from sessionctl.errors import ConflictError, HelmError, QuotaExceededError, SessionctlError
from sessionctl.models import Activity, EventKind, SessionStatus
from sessionctl.settings import EditorIdle, QuotaSettings
from sessionctl.testing.probe import ScriptedProbe
from tests.cluster.stage import AWAKE, HOUR_MS
from tests.support.between import Hooks
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence

    from sessionctl.core.mirror import Mirror
    from sessionctl.factory import Factory
    from sessionctl.models import SessionId
    from tests.cluster.stage import Stage

WITH_KEDA: Final = False
"""KEDA may not put a session to sleep, or wake it, in the place of whoever is under test."""
MOMENT: Final = timedelta(milliseconds=1)
HOUR: Final = timedelta(hours=1)
EIGHT_HOURS: Final = timedelta(hours=8)


async def explained(stage: Stage, session: SessionId) -> Sequence[str]:
    return (await (await stage.factory.create_why_service()).explain(session)).limits


class TestIdleness:
    @pytest.mark.parametrize(
        ("answer", "kind", "line"),
        [
            (Activity(hold=EIGHT_HOURS), EventKind.HOLD_LIMIT, "held for idle.holdLimit (8:00:00)"),
            (Activity(editor_connected=EIGHT_HOURS), EventKind.EDITOR_LIMIT, "open for idle.editorLimit (8:00:00)"),
            (None, EventKind.UNKNOWN_LIMIT, "has not answered for idle.unknownLimit (1:00:00)"),
        ],
    )
    async def test_what_is_limited_ends(
        self, stage: Stage, hooks: Hooks, answer: Activity | None, kind: EventKind, line: str
    ) -> None:
        session = stage.fleet[0]
        await stage.wake(session)
        stage.make_idle(session)
        stage.table.age(session, "last_active", HOUR_MS + 1000)
        settings = replace(stage.factory.settings.idle, editor=EditorIdle.CONNECTION)
        sweeper = stage.sweeper(hooks, probe=ScriptedProbe(answer), settings=settings)

        assert (await stage.tick(sweeper, session)).slept == (session,)

        told = [event for event in await stage.events(session) if event.kind in {kind, EventKind.SLEPT}]
        assert [event.kind for event in told] == [kind, EventKind.SLEPT]
        assert line in told[0].detail
        assert line in told[1].detail
        assert stage.metrics.counts[kind] == 1
        assert any(line in said for said in await explained(stage, session))

    async def test_silence_is_told_once_by_all_who_ask(self, stage: Stage, hooks: Hooks) -> None:
        session = stage.fleet[0]
        await stage.wake(session)
        stage.make_idle(session)
        stage.table.age(session, "last_active", HOUR_MS // 2)

        for _ in range(2):
            await stage.tick(stage.sweeper(hooks, probe=ScriptedProbe(None)), session)

        assert await stage.history(session) == [EventKind.WOKEN, EventKind.AGENT_SILENT]
        assert stage.metrics.counts == {EventKind.AGENT_SILENT: 1}
        assert await stage.is_awake(session)


class TestLifetime:
    @pytest.fixture
    async def session(self, stage: Stage) -> AsyncIterator[SessionId]:
        """A session of a test's own, asleep."""
        made = await stage.create("short-lived")
        yield made
        await stage.purge(made)

    def keeper(self, stage: Stage, hooks: Hooks, max_lifetime: timedelta, session: SessionId) -> LifetimeKeeper:
        """Return the real keeper; it sees this session alone, because all others are old too."""
        hooked = stage.hooked(hooks)

        class OneOfThem:
            async def list_workspaces(self) -> list[object]:
                return [w for w in await hooked.cluster.list_workspaces() if w.session_id == session]

        return LifetimeKeeper(
            view=OneOfThem(),  # type: ignore[arg-type]  # all it asks for
            cluster=hooked.cluster,
            store=hooked.store,
            open_sessions=hooked.create_session_service,
            clock=hooked.clock,
            max_lifetime=max_lifetime,
            retention=hooked.settings.sessions.retention,
        )

    async def test_one_that_sleeps_is_deleted_and_keeps_its_files(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        assert await self.keeper(stage, hooks, HOUR, session).tick() == []

        assert await self.keeper(stage, hooks, MOMENT, session).tick() == [session]

        view = await stage.factory.create_view_service().get_status(session)
        assert (view.status, view.restorable_until is not None) == (SessionStatus.DELETED, True)
        assert await stage.history(session) == [EventKind.CREATED, EventKind.EXPIRED]
        assert stage.metrics.counts == {EventKind.EXPIRED: 1}

    async def test_why_says_when(self, stage: Stage, session: SessionId) -> None:
        settings = stage.factory.settings
        short = replace(
            stage.factory, settings=replace(settings, sessions=replace(settings.sessions, max_lifetime=HOUR))
        )
        why = await (await short.create_why_service()).explain(session)
        workspace = await stage.find(session)
        assert (why.expires_at, why.limits) == (workspace.owner.created_at + HOUR, ())

        shorter = replace(settings, sessions=replace(settings.sessions, max_lifetime=MOMENT))
        over = await (await replace(stage.factory, settings=shorter).create_why_service()).explain(session)
        assert "older than sessions.maxLifetime" in over.limits[0]

    async def test_zero_is_for_ever(self, stage: Stage, session: SessionId, hooks: Hooks) -> None:
        assert await self.keeper(stage, hooks, timedelta(), session).tick() == []
        assert hooks.calls["list_workspaces"] == 0

    async def test_one_that_is_awake_or_wanted_lives_on(self, stage: Stage, session: SessionId, hooks: Hooks) -> None:
        keeper = self.keeper(stage, hooks, MOMENT, session)
        stage.push(session)
        assert await keeper.tick() == []

        await stage.wake(session)
        stage.table.admin.delete(f"queue:{session}")
        assert await keeper.tick() == []

        assert hooks.calls["bury_unwanted"] == 0
        assert await stage.is_awake(session)

    @pytest.mark.parametrize("step", ["find_workspace", "bury_unwanted"])
    async def test_a_wake_before_its_end_saves_it(
        self, stage: Stage, session: SessionId, hooks: Hooks, step: str
    ) -> None:
        hooks.before(step, lambda: stage.factory.demand.wake(session))

        assert await self.keeper(stage, hooks, MOMENT, session).tick() == []

        assert await stage.is_awake(session)
        assert stage.table.elements(session) == AWAKE
        assert (await stage.find(session)).deleted_at is None

    async def test_a_wake_after_its_end_is_refused(self, stage: Stage, session: SessionId, hooks: Hooks) -> None:
        async def too_late() -> None:
            with pytest.raises(ConflictError, match="is deleted"):
                await stage.factory.demand.wake(session)

        hooks.after("bury_unwanted", too_late)

        assert await self.keeper(stage, hooks, MOMENT, session).tick() == [session]

    async def test_whoever_scales_it_up_by_hand_meanwhile_keeps_it(
        self, stage: Stage, session: SessionId, hooks: Hooks
    ) -> None:
        async def scale() -> None:
            stage.arena.kubectl("-n", "sessions", "scale", "deployment", f"user-{session}", "--replicas=1")

        hooks.after("bury_unwanted", scale)

        assert await self.keeper(stage, hooks, MOMENT, session).tick() == []

        assert (await stage.find(session)).deleted_at is None
        assert await stage.factory.demand.wake(session) is None

    @pytest.mark.parametrize("step", ["bury_unwanted", "mark_workspace_deleted", "bury"])
    async def test_two_keepers_at_once_delete_it_once(
        self, stage: Stage, session: SessionId, hooks: Hooks, step: str
    ) -> None:
        async def other_ticks() -> None:
            await self.keeper(stage, Hooks(), MOMENT, session).tick()

        hooks.before(step, other_ticks)

        await self.keeper(stage, hooks, MOMENT, session).tick()

        assert (await stage.history(session)).count(EventKind.EXPIRED) == 1
        assert (await stage.factory.create_view_service().get_status(session)).status is SessionStatus.DELETED

    @pytest.mark.parametrize(("step", "lives"), [("mark_workspace_deleted", True), ("mark_volume_deleted", False)])
    async def test_one_that_died_in_the_middle_leaves_it_whole_or_deleted(
        self, stage: Stage, session: SessionId, hooks: Hooks, step: str, lives: bool
    ) -> None:
        async def die() -> None:
            raise HelmError("as if it had been killed here")

        hooks.before(step, die)
        assert await self.keeper(stage, hooks, MOMENT, session).tick() == []
        reconciler = await stage.factory.create_reconciler()
        early = [done for done in await reconciler.run(HOUR, dry_run=False) if done.session_id == session]

        # A tombstone that is young may belong to somebody who is about to go on.
        assert [done.error for done in early] == [None]
        if lives:
            assert await stage.factory.store.get_record(session) is None
        await reconciler.run(timedelta(), dry_run=False)

        view = await stage.factory.create_view_service().get_status(session)
        assert view.status is (SessionStatus.CREATED if lives else SessionStatus.DELETED)
        if lives:
            assert await stage.factory.demand.wake(session) is None


class TestSessionsOfAUser:
    LIMIT: Final = 3

    def manager(self, stage: Stage) -> Factory:
        """Return what another manager's requests are answered with."""
        settings = replace(stage.factory.settings, quotas=QuotaSettings(sessions_per_user=self.LIMIT))
        return replace(stage.hooked(Hooks()), settings=settings, managing=True)

    async def test_of_twenty_at_once_no_more_are_made_than_allowed(self, stage: Stage) -> None:
        services = [await self.manager(stage).create_session_service() for _ in range(2)]
        request = NewSession(user_id="greedy", tenant="default", profile="default")

        answers = await asyncio.gather(*(services[n % 2].create(request) for n in range(20)), return_exceptions=True)

        made = [answer for answer in answers if not isinstance(answer, BaseException)]
        refused = [answer for answer in answers if isinstance(answer, QuotaExceededError)]
        try:
            assert (len(made), len(refused)) == (self.LIMIT, 20 - self.LIMIT)
            assert stage.metrics.counts[EventKind.QUOTA_REFUSED] == len(refused)
            assert "3 sessions already" in refused[0].message
            again = NewSession("greedy", "default", "default", made[0].session_id)
            assert (await services[0].create(again)).session_id == made[0].session_id
            direct = await stage.create("greedy")
            await stage.purge(direct)
        finally:
            await stage.purge(*(session.session_id for session in made))
        freed = await services[1].create(request)
        await stage.purge(freed.session_id)

    async def test_one_that_could_not_be_made_gives_its_place_back(self, stage: Stage) -> None:
        quotas = self.manager(stage).quotas
        assert quotas is not None
        owner = (await stage.find(stage.fleet[0])).owner
        unlucky = replace(owner, user_id="unlucky")
        sessions = [new_session_id() for _ in range(self.LIMIT + 1)]

        for session in sessions:
            with pytest.raises(HelmError):
                async with quotas.making(session, unlucky):
                    raise HelmError("no room")

        async with quotas.making(sessions[0], unlucky):
            pass
        # It was made, so its place is kept, although Redis could not be told yet.
        assert stage.table.admin.exists(f"lock:reserved:{sessions[0]}")


class TestAwakeOfATenant:
    LIMIT: Final = 2

    @pytest.fixture
    async def mirror(self, stage: Stage) -> AsyncIterator[Mirror]:
        mirror = stage.factory.mirror
        following = asyncio.create_task(mirror.run())
        await mirror.wait_synced()
        yield mirror
        following.cancel()
        await asyncio.wait([following])

    @pytest.fixture
    def demand(self, stage: Stage, mirror: Mirror) -> Factory:
        factory = stage.hooked(Hooks())
        settings = QuotaSettings(awake_per_tenant=self.LIMIT)
        quotas = Quotas(mirror, factory.store, factory.journal, factory.clock, settings)
        factory.__dict__["quotas"] = quotas
        return factory

    async def test_as_many_as_allowed_wake_at_once(self, stage: Stage, demand: Factory) -> None:
        """Not one of them is seen awake when the next is asked about."""
        wanted = stage.fleet[:5]

        answers = await asyncio.gather(*(demand.demand.wake(session) for session in wanted), return_exceptions=True)

        refused = [session for session, answer in zip(wanted, answers, strict=True) if answer is not None]
        assert all(isinstance(answer, QuotaExceededError) for answer in answers if answer is not None)
        assert len(refused) == len(wanted) - self.LIMIT
        for session in refused:
            assert stage.table.elements(session) == []
            assert await stage.history(session) == [EventKind.QUOTA_REFUSED]
        assert stage.metrics.counts[EventKind.QUOTA_REFUSED] == len(refused)
        assert any("2 sessions awake already" in line for line in await explained(stage, refused[0]))

    async def test_only_what_sleeps_is_refused(self, stage: Stage, demand: Factory, mirror: Mirror) -> None:
        awake, other, third = stage.fleet[:3]
        await stage.wake(awake, other)
        await until(lambda: mirror.count_awake("default") == self.LIMIT, "both seen awake")

        await demand.demand.wake(awake)
        await demand.demand.enqueue(awake, str(uuid4()), "hello", 100)
        for _ in range(2):
            with pytest.raises(QuotaExceededError):
                await demand.demand.enqueue(third, str(uuid4()), "hello", 100)
        assert stage.table.elements(third) == []
        assert await stage.history(third) == [EventKind.QUOTA_REFUSED]
        # What is wanted already is met: KEDA would wake it too.
        stage.push(third)
        assert await demand.demand.meet_demand(await stage.find(third))

    async def test_a_place_that_is_free_again_is_given(self, stage: Stage, demand: Factory, mirror: Mirror) -> None:
        first, second, third = stage.fleet[:3]
        await stage.wake(first, second)
        await until(lambda: mirror.count_awake("default") == self.LIMIT, "both seen awake")
        await stage.factory.demand.sleep(first)

        async def admitted() -> bool:
            try:
                await demand.demand.wake(third)
            except SessionctlError:
                return False
            return True

        await until(admitted, "woken in the place of the first")


class TestRetention:
    async def test_a_restore_that_has_begun_keeps_the_volume(self, stage: Stage, hooks: Hooks) -> None:
        """Its retention is over; between the judgement and the removal somebody asks for it back."""
        session = await stage.create("late")
        service = await stage.factory.create_session_service()
        await service.delete(session, purge=False)
        await until(lambda: stage.is_deleted(session), "deleted")
        hooked = stage.hooked(hooks)
        settings = replace(hooked.settings, sessions=replace(hooked.settings.sessions, retention=MOMENT))
        reconciler = await replace(hooked, settings=settings).create_reconciler()
        hooks.before("remove_volume", lambda: service.restore(session))

        done = [done for done in await reconciler.run(HOUR, dry_run=False) if done.session_id == session]

        assert [(repaired.repair, repaired.error) for repaired in done] == [(Repair.REMOVE_VOLUME, None)]
        assert await stage.factory.demand.wake(session) is None
        kept = await stage.history(session)
        assert kept[-2:] == [EventKind.RESTORED, EventKind.WOKEN]

        await service.delete(session, purge=False)
        await until(lambda: stage.is_deleted(session), "deleted again")
        await reconciler.run(HOUR, dry_run=False)

        async def is_gone() -> bool:
            return await stage.factory.cluster.find_volume(session) is None

        await until(is_gone, "its volume is removed")
        assert EventKind.VOLUME_REMOVED in await stage.history(session)
        assert stage.metrics.counts[EventKind.VOLUME_REMOVED] == 1
