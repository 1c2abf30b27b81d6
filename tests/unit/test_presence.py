"""How often requests through the router are written down as activity."""

from __future__ import annotations

import asyncio
from datetime import UTC, datetime, timedelta
from typing import cast

from sessionctl.core.demand import DemandService
from sessionctl.core.presence import MOST_NOTED, Presence
from sessionctl.errors import StoreError, UnavailableError
from sessionctl.models import SessionId, Workspace
from sessionctl.ports import ClusterView
from sessionctl.testing.clock import FakeClock
from tests.support.sessions import make_workspace

INTERVAL = timedelta(seconds=2)
WORKSPACE = make_workspace(replicas=1)


class World:
    """A view, and a demand service that notes what it is told; both may be away."""

    def __init__(self, workspace: Workspace | None = WORKSPACE, interval: timedelta = INTERVAL) -> None:
        self.workspace = workspace
        self.away: Exception | None = None
        self.touched: list[float] = []
        self.clock = FakeClock()
        view, demand = cast("ClusterView", self), cast("DemandService", self)
        self.presence = Presence(view, demand, self.clock, interval)

    async def find_workspace(self, session_id: SessionId) -> Workspace | None:
        if isinstance(self.away, UnavailableError):
            raise self.away
        return self.workspace

    async def touch(self, workspace: Workspace, age: timedelta) -> None:
        await asyncio.sleep(0)
        if self.away is not None:
            raise self.away
        assert (workspace, age) == (self.workspace, timedelta())
        self.touched.append(self.clock.monotonic())

    async def note(self) -> None:
        await self.presence.note(WORKSPACE.session_id)


async def test_what_is_not_written_down_is_never_older_than_the_touch_interval() -> None:
    """A router answers by itself for up to two seconds: with them no request may lag more than the interval."""
    for interval, most in ((INTERVAL, 11), (timedelta(seconds=5), 6)):
        world = World(interval=interval)
        kept_until = 0.0
        for _ in range(400):
            now = world.clock.monotonic()
            if now >= kept_until:
                await world.note()
                # As nginx does: it counts from the second in which it was told, whole ones.
                kept_until = float(int(now) + 2)
            assert now - world.touched[-1] <= interval.total_seconds()
            await world.clock.sleep(0.05)
        assert len(world.touched) <= 2 * most


async def test_requests_at_the_same_moment_are_one_and_one_more() -> None:
    """The first may have taken effect before the others came."""
    world = World()
    await asyncio.gather(*(world.note() for _ in range(50)))
    assert len(world.touched) == 2
    await world.note()
    assert len(world.touched) == 3


async def test_what_could_not_be_written_down_is_tried_again_by_the_next() -> None:
    world = World()
    for away in (StoreError("away"), UnavailableError("not listed yet")):
        world.away = away
        await world.note()
    world.away = None
    await world.note()
    assert len(world.touched) == 1


async def test_what_is_gone_or_being_deleted_is_not_touched() -> None:
    for workspace in (None, make_workspace(replicas=1, deleted_at=datetime(2026, 1, 1, tzinfo=UTC))):
        world = World(workspace)
        await world.note()
        assert world.touched == []


async def test_sessions_of_long_ago_are_forgotten() -> None:
    world = World()
    for number in range(3 * MOST_NOTED):
        await world.presence.note(SessionId(str(number)))
        await world.clock.sleep(0.01)
    assert len(world.presence._noted) <= MOST_NOTED
