"""The loops of ``sweep --loop`` and of the manager: one part that fails keeps no other from its work."""

from __future__ import annotations

import asyncio
from datetime import timedelta
from typing import TYPE_CHECKING, Any, cast

import pytest

from sessionctl.adapters.clock import SystemClock
from sessionctl.adapters.metrics import NoMetrics
from sessionctl.core import loop as loops
from sessionctl.core.loop import SweepLoop
from sessionctl.core.mirror import Mirror
from sessionctl.core.rounds import Rounds
from sessionctl.core.starts import StartReport
from sessionctl.core.sweeper import SweepReport
from sessionctl.errors import StoreError
from sessionctl.models import WatchEvent
from sessionctl.settings import SweepSettings
from tests.support.sessions import make_workspace
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from sessionctl.models import SessionId, Workspace

OFTEN = timedelta(milliseconds=10)


class Parts:
    """Everything the loop runs: it notes what it is given, and fails as it is told to."""

    def __init__(self, *listed: Workspace) -> None:
        self.listed = listed
        self.changes: asyncio.Queue[Workspace] = asyncio.Queue()
        self.guarded: list[set[SessionId]] = []
        self.failures: list[Exception] = []
        self.gates = 0
        self.swept: list[set[SessionId]] = []
        self.closed = False

    async def watch_workspaces(self) -> AsyncGenerator[WatchEvent[Any], None]:
        yield WatchEvent(listed=self.listed)
        while True:
            yield WatchEvent(changed=await self.changes.get())

    async def watch_nothing(self) -> AsyncGenerator[WatchEvent[Any], None]:
        yield WatchEvent(listed=())
        await asyncio.Event().wait()

    watch_volumes = watch_pods = watch_troubles = watch_nothing

    async def check_guard(self, workspaces: Sequence[Workspace]) -> None:
        self.guarded.append({workspace.session_id for workspace in workspaces})
        if self.failures:
            raise self.failures.pop(0)

    async def check_gate(self) -> bool:
        self.gates += 1
        raise RuntimeError("can't start new thread")

    async def look_at_starts(self, _: Sequence[Workspace]) -> StartReport:
        return StartReport()

    async def sweep(self, workspaces: Sequence[Workspace], _: float | None) -> SweepReport:
        self.swept.append({workspace.session_id for workspace in workspaces})
        return SweepReport()

    async def close(self) -> None:
        self.closed = True

    def loop(self) -> SweepLoop:
        cluster, clock = cast("Any", self), SystemClock()
        return SweepLoop(
            cluster=cluster,
            mirror=Mirror(cluster, clock, NoMetrics()),
            gate=cast("Any", _Part(check=self.check_gate)),
            guard=cast("Any", _Part(check=self.check_guard)),
            starts=cast("Any", _Part(tick=self.look_at_starts)),
            sweeper=cast("Any", _Part(tick=self.sweep, close=self.close)),
            keeper=cast("Any", _Part()),
            rounds=Rounds(clock, NoMetrics()),
            settings=SweepSettings(interval=OFTEN, gate_interval=OFTEN),
        )


class _Part:
    def __init__(self, **methods: object) -> None:
        self.__dict__.update(methods)


async def test_what_the_guard_could_not_check_is_checked_again_and_nothing_else_waits(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(loops, "GUARD_RETRY_SECONDS", 0.01)
    one, two = make_workspace(replicas=1), make_workspace()
    both, parts = {one.session_id, two.session_id}, Parts(one, two)
    parts.failures = [StoreError("away"), ZeroDivisionError(), StoreError("away")]
    running = asyncio.create_task(parts.loop().forever())

    await until(lambda: len(parts.guarded) == 4, "the guard looks until it succeeds")
    assert parts.guarded == [both] * 4
    parts.changes.put_nowait(one)
    await until(lambda: len(parts.guarded) == 5, "a change is looked at")
    assert parts.guarded[4] == {one.session_id}
    await until(lambda: parts.gates > 2 and len(parts.swept) > 2, "the others go on, though the gate is broken")
    assert parts.swept[-1] == {one.session_id}, "whoever sleeps is not judged"

    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running
    assert parts.closed
