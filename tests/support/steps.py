"""Steps that the recovery tests share."""

from __future__ import annotations

import json
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING

import pytest

from sessionctl.core.sessions import NewSession
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from sessionctl.factory import Factory
    from sessionctl.models import SessionId
    from tests.support.census import Census, Remains
    from tests.support.sessionctl_cli import Cli


@dataclass(frozen=True)
class Steps:
    """What tests do to sessions besides what they test.

    Attributes:
        made: Every session of the test, to be removed after it.
    """

    factory: Factory
    census: Census
    cli: Cli
    made: list[SessionId] = field(default_factory=list)

    async def create(self, user_id: str = "alice") -> SessionId:
        """Make a session."""
        service = await self.factory.create_session_service()
        workspace = await service.create(NewSession(user_id=user_id, tenant="default", profile="default"))
        self.made.append(workspace.session_id)
        return workspace.session_id

    async def delete(self, session_id: SessionId) -> None:
        """Delete a session and keep its volume."""
        await (await self.factory.create_session_service()).delete(session_id, purge=False)

    async def restore(self, session_id: SessionId) -> None:
        """Bring a session back."""
        await (await self.factory.create_session_service()).restore(session_id)

    async def wake(self, session_id: SessionId) -> None:
        """Wake a session; returns when its pod is ready."""
        await self.factory.demand.wake(session_id)
        await self.factory.create_waiter().wait_awake(session_id, timedelta(minutes=1))

    async def check_wakes(self, session_id: SessionId) -> None:
        """See a session wake, and put it to sleep again."""
        await self.wake(session_id)
        await self.factory.demand.sleep(session_id)

    def reconcile(self, uuids: Iterable[SessionId]) -> list[tuple[str, str]]:
        """Reconcile once and return what it did to these sessions; nothing may fail."""
        known = set(uuids)
        repairs = [row for row in self.cli.json("reconcile", "--grace", "0s")["repairs"] if row["uuid"] in known]
        assert not [row for row in repairs if row["error"]], json.dumps(repairs, indent=2)
        return [(row["uuid"], row["repair"]) for row in repairs]

    def settle(self, uuids: Iterable[SessionId], settled: Callable[[Remains], bool]) -> list[Remains]:
        """Wait until what is being removed is gone and every session is as it should be; return them."""
        uuids = list(uuids)

        def odd() -> list[str]:
            return [str(remains) for remains in self.census.take(uuids).values() if not settled(remains)]

        try:
            wait_for(lambda: not odd(), "sessions as they should be", patience=30)
        except pytest.fail.Exception:
            pytest.fail("neither whole nor gone:\n" + "\n".join(odd()))
        return list(self.census.take(uuids).values())
