"""What is shown to somebody who waits for an editor."""

from __future__ import annotations

import asyncio
from dataclasses import replace
from datetime import timedelta
from typing import cast

import pytest

from sessionctl.core.bells import Bells
from sessionctl.core.opening import LONGEST_SECONDS, Opening, OpeningService, Phase, Step, phase_of
from sessionctl.core.views import ViewService
from sessionctl.errors import ClusterError, NotFoundError
from sessionctl.models import SessionId, SessionStatus, SessionView
from sessionctl.testing.clock import FakeClock
from sessionctl.testing.editors import ScriptedEditors
from tests.support.sessions import make_workspace
from tests.support.waiting import until

SESSION = make_workspace().session_id
ASLEEP = SessionView(
    session_id=SESSION,
    owner=make_workspace().owner,
    status=SessionStatus.SLEEPING,
    reason=None,
    url="",
    replicas=0,
    ready_replicas=0,
    queue_length=0,
)
WAKING = replace(ASLEEP, status=SessionStatus.WAKING, replicas=1, reason="its pod waits for a node")
ACTIVE = replace(ASLEEP, status=SessionStatus.ACTIVE, replicas=1, ready_replicas=1)


@pytest.mark.parametrize(
    ("view", "phase"),
    [
        (ASLEEP, Phase.ASLEEP),
        (replace(ASLEEP, status=SessionStatus.CREATED), Phase.ASLEEP),
        (replace(ASLEEP, queue_length=1), Phase.STARTING),
        (replace(ASLEEP, status=SessionStatus.CREATED, queue_length=2), Phase.STARTING),
        (replace(ASLEEP, status=SessionStatus.FAILED, queue_length=1), Phase.STARTING),
        (replace(ASLEEP, queue_length=None), Phase.ASLEEP),
        (WAKING, Phase.STARTING),
        (ACTIVE, Phase.EDITOR),
        (replace(ASLEEP, status=SessionStatus.FAILED), Phase.FAILED),
        (replace(WAKING, status=SessionStatus.FAILED, queue_length=1), Phase.FAILED),
        (replace(ASLEEP, status=SessionStatus.DELETING), Phase.GONE),
        (replace(ASLEEP, status=SessionStatus.DELETED), Phase.GONE),
    ],
)
def test_the_phase_is_what_the_cluster_shows_or_is_about_to_show(view: SessionView, phase: Phase) -> None:
    assert phase_of(view) is phase


class World:
    """One session that is shown as a test says; time stands still unless somebody moves it."""

    def __init__(self) -> None:
        self.view: SessionView | Exception = ASLEEP
        self.bells, self.editors, self.clock = Bells(), ScriptedEditors(), FakeClock()
        views = cast("ViewService", self)
        self.service = OpeningService(views=views, bells=self.bells, probe=self.editors, clock=self.clock)

    async def get_status(self, session_id: SessionId) -> SessionView:
        if isinstance(self.view, Exception):
            raise self.view
        return self.view

    def show(self, view: SessionView | Exception) -> None:
        self.view = view
        self.bells.ring(SESSION)


async def next_of(opening: Opening) -> Step:
    return await asyncio.wait_for(anext(opening), 30)


async def test_each_step_comes_once_and_it_ends_with_the_editor() -> None:
    world = World()
    async with world.service.follow(SESSION) as opening:
        assert await next_of(opening) == Step(Phase.ASLEEP)
        world.show(WAKING)
        assert await next_of(opening) == Step(Phase.STARTING, "its pod waits for a node")
        world.bells.ring(SESSION)
        world.show(ACTIVE)
        assert await next_of(opening) == Step(Phase.EDITOR)
        coming = asyncio.create_task(next_of(opening))
        world.editors.open.add(SESSION)
        await world.clock.sleep(1)
        world.bells.ring(SESSION)
        assert await coming == Step(Phase.READY)
        with pytest.raises(StopAsyncIteration):
            await anext(opening)


async def test_a_step_that_was_not_taken_is_not_lost() -> None:
    world = World()
    async with world.service.follow(SESSION) as opening:
        assert await next_of(opening) == Step(Phase.ASLEEP)
        with pytest.raises(TimeoutError):
            await asyncio.wait_for(anext(opening), 0.01)
        world.show(WAKING)
        assert (await next_of(opening)).phase is Phase.STARTING


async def test_an_editor_is_asked_only_while_its_pod_is_ready_and_once_for_all_who_wait() -> None:
    world = World()
    for view in (ASLEEP, WAKING):
        world.show(view)
        await world.service.look(SESSION)
    assert world.editors.asked == []
    world.show(ACTIVE)
    async with world.service.follow(SESSION) as one, world.service.follow(SESSION) as two:
        await asyncio.gather(next_of(one), next_of(two), world.service.look(SESSION))
        assert len(world.editors.asked) == 1
        await world.clock.sleep(1)
        await asyncio.gather(world.service.look(SESSION), world.service.look(SESSION))
        assert len(world.editors.asked) == 2
    del one, two
    # Nobody waits any more, and nothing is remembered.
    assert not world.service._doors


async def test_it_ends_after_a_while_and_with_what_cannot_be_read() -> None:
    world = World()
    async with world.service.follow(SESSION) as opening:
        await next_of(opening)
        await world.clock.sleep(LONGEST_SECONDS + 1)
        with pytest.raises(StopAsyncIteration):
            await anext(opening)
    async with world.service.follow(SESSION) as opening:
        for error in (NotFoundError("gone"), ClusterError("away")):
            world.show(error)
            with pytest.raises(type(error)):
                await anext(opening)


async def test_it_looks_again_though_nobody_tells_of_a_change() -> None:
    world = World()
    async with world.service.follow(SESSION) as opening:
        await next_of(opening)
        coming = asyncio.create_task(next_of(opening))
        await asyncio.sleep(0)
        world.view = WAKING
        await until(coming.done, "the change is seen", timedelta(seconds=10).total_seconds())
        assert coming.result().phase is Phase.STARTING
