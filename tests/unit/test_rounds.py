from __future__ import annotations

import asyncio
import logging
from collections import deque
from contextlib import suppress
from typing import TYPE_CHECKING

import pytest

from sessionctl.adapters.clock import SystemClock
from sessionctl.adapters.metrics import NoMetrics
from sessionctl.core.rounds import Rounds
from sessionctl.errors import StoreError
from sessionctl.models import Loop
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable


class Counted(NoMetrics):
    def __init__(self) -> None:
        self.passes: list[bool] = []

    def loop_ended(self, loop: Loop, seconds: float, *, failed: bool) -> None:
        self.passes.append(failed)


class Work:
    """Does what it is told at each pass, and after that waits for ever."""

    def __init__(self, *acts: Callable[[], Awaitable[object]]) -> None:
        self.acts = deque(acts)

    async def __call__(self) -> None:
        if not self.acts:
            await asyncio.Event().wait()
        await self.acts.popleft()()


async def store_away() -> None:
    raise StoreError("Redis does not answer")


async def bug() -> None:
    raise ZeroDivisionError


async def somebody_elses_end() -> None:
    """Wait for a task that is cancelled, which has nothing to do with whoever waits."""
    task = asyncio.create_task(asyncio.Event().wait())
    task.cancel()
    await task


async def well() -> None:
    pass


async def test_it_goes_on_whatever_a_pass_raises(caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.INFO, logger="sessionctl")
    metrics, work = Counted(), Work(store_away, store_away, bug, bug, somebody_elses_end, well)
    running = asyncio.create_task(Rounds(SystemClock(), metrics).repeat(Loop.SWEEP, work, 0.0))
    await until(lambda: len(metrics.passes) == 6, "six passes")
    assert metrics.passes == [True, True, True, True, True, False]
    # What goes on for hours must not fill the log.
    assert [record.levelname for record in caplog.records] == ["WARNING", "ERROR", "ERROR", "INFO"]
    assert "ZeroDivisionError" in caplog.text
    running.cancel()
    with pytest.raises(asyncio.CancelledError):
        await running


async def test_it_ends_even_when_its_work_swallows_the_end() -> None:
    async def deaf() -> None:
        with suppress(asyncio.CancelledError):
            await asyncio.Event().wait()

    # Once only, or nothing could end a loop that goes on.
    work = Work(deaf, asyncio.Event().wait)
    running = asyncio.create_task(Rounds(SystemClock(), Counted()).repeat(Loop.SWEEP, work, 0.0))
    await asyncio.sleep(0)
    running.cancel()
    await asyncio.wait([running], timeout=5)
    ended = running.done()
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    assert ended
