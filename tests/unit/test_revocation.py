"""What a revocation does, in which order, and what becomes of it when somebody dies or does not answer."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from sessionctl.core.journal import Journal
from sessionctl.core.revocation import REMEMBERED_SECONDS, RevocationService
from sessionctl.errors import StoreError, UnavailableError
from sessionctl.models import EventKind, SessionId, Workspace
from sessionctl.ports import AccessStore, Agents, ClusterView
from sessionctl.testing.clock import FakeClock
from tests.support.sessions import make_workspace

AWAKE = make_workspace(replicas=1)
SESSION = AWAKE.session_id


class World:
    """Notes what is done, and when."""

    def __init__(self, workspace: Workspace | None = AWAKE) -> None:
        self.workspace = workspace
        self.done: list[tuple[str, float]] = []
        self.notes: list[tuple[EventKind, str]] = []
        self.unseen = self.store_away = self.silent = False
        self.clock = FakeClock()

    def service(self, *, editors: bool = True) -> RevocationService:
        return RevocationService(
            store=cast("AccessStore", self),
            view=cast("ClusterView", self),
            agents=cast("Agents", self),
            journal=cast("Journal", self),
            clock=self.clock,
            editors=editors,
        )

    async def revoke_tokens(self, session_id: SessionId) -> int:
        if self.store_away:
            raise StoreError("away")
        self.done.append(("revoked", self.clock.monotonic()))
        return 1

    async def find_workspace(self, session_id: SessionId) -> Workspace | None:
        if self.unseen:
            raise UnavailableError("not listed yet")
        return self.workspace

    async def close_editor(self, session_id: SessionId) -> None:
        self.done.append(("closed", self.clock.monotonic()))
        await asyncio.sleep(0)
        if self.silent:
            raise UnavailableError("silent")

    def note(self, session_id: SessionId, kind: EventKind, detail: str = "") -> None:
        self.notes.append((kind, detail))


async def test_what_comes_back_by_an_old_answer_is_closed_again() -> None:
    world = World()
    await world.service().revoke(SESSION)
    assert world.done == [("revoked", 0.0), ("closed", 0.0), ("closed", REMEMBERED_SECONDS)]
    assert world.notes == [(EventKind.TOKENS_REVOKED, "")]


async def test_a_session_that_sleeps_has_nothing_open() -> None:
    for world in (World(make_workspace()), World(None)):
        await world.service().revoke(SESSION)
        assert world.done == [("revoked", 0.0)]
    simulated = World()
    await simulated.service(editors=False).revoke(SESSION)
    assert simulated.done == [("revoked", 0.0)]


async def test_an_agent_that_does_not_answer_takes_nothing_from_the_revocation() -> None:
    world = World()
    world.silent = world.unseen = True
    await world.service().revoke(SESSION)
    assert [word for word, _ in world.done] == ["revoked", "closed", "closed"]
    ((kind, detail),) = world.notes
    assert kind is EventKind.TOKENS_REVOKED
    assert "does not close" in detail


async def test_nothing_is_closed_that_could_come_back() -> None:
    world = World()
    world.store_away = True
    with pytest.raises(StoreError):
        await world.service().revoke(SESSION)
    assert world.done == []
