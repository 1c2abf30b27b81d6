"""Background work that goes on whatever happens: one bad pass is told and counted, and the next one comes."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sessionctl.models import Loop
    from sessionctl.ports import Clock, Metrics

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Rounds:
    """Runs passes of background work, each of which may fail in any way."""

    clock: Clock
    metrics: Metrics

    async def repeat(
        self, loop: Loop, work: Callable[[], Awaitable[object]], pause: float, *, retry: float | None = None
    ) -> None:
        """Run ``work`` until this task is cancelled, ``pause`` seconds apart; ``retry`` seconds after a failure."""
        told = ""
        while True:
            failure = await self._once(loop, work, told)
            if is_ending():
                # asyncio.wait_for, which the client of Redis uses, may swallow a cancellation (before Python 3.12).
                raise asyncio.CancelledError
            if told and not failure:
                _log.info("the %s loop works again", loop)
            told = failure
            await self.clock.sleep(retry if failure and retry is not None else pause)

    async def _once(self, loop: Loop, work: Callable[[], Awaitable[object]], told: str) -> str:
        """Run one pass; return how it failed, or nothing. What was told of the pass before is not told again."""
        started, failure = self.clock.monotonic(), ""
        try:
            await work()
        except SessionctlError as error:
            failure = repr(error)
            if failure != told:
                _log.warning("a pass of the %s loop came to nothing: %s", loop, error)
        except asyncio.CancelledError:
            if is_ending():
                raise
            # Of something that the work waited for, not of this loop.
            failure = "cut off"
            if failure != told:
                _log.exception("a pass of the %s loop was cut off", loop)
        except Exception as error:  # noqa: BLE001 - told below, once
            # A bug must not end what keeps every session.
            failure = repr(error)
            if failure != told:
                _log.exception("a pass of the %s loop broke", loop)
        self.metrics.loop_ended(loop, self.clock.monotonic() - started, failed=bool(failure))
        return failure


def is_ending() -> bool:
    """Whether this task has been cancelled, though somebody may have swallowed it."""
    task = asyncio.current_task()
    return task is None or task.cancelling() > 0
