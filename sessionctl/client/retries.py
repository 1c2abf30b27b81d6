"""When a call is made again: after a pause that grows, with jitter, and not for ever."""

from __future__ import annotations

import asyncio
import random
import time
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from sessionctl.errors import SessionctlError

LONGEST_PAUSE_SECONDS: Final = 5.0
GROWTH: Final = 2.0
JITTER: Final = 0.5
"""A pause is lengthened by up to this share of itself, so that clients refused together do not come back together."""


@dataclass(frozen=True)
class Patience:
    """How long a client waits for what."""

    connect: timedelta = timedelta(seconds=5)
    """For a connection."""
    read: timedelta = timedelta(seconds=75)
    """For the next byte of an answer: a create answers when Helm is done, which may take a minute."""
    total: timedelta = timedelta(seconds=90)
    """For a call, everything included."""
    retry: timedelta = timedelta(seconds=30)
    """A call that failed is not made again later than this; a stream is given up when it fails for so long."""
    pause: timedelta = timedelta(milliseconds=200)
    """Before a call is made again for the first time; it doubles from then on, up to five seconds."""
    silence: timedelta = timedelta(seconds=60)
    """For the next byte of an event stream, in which the server says every few seconds that it is there."""


class RepeatableError(Exception):
    """An attempt failed, and the same call may be made again, not before ``retry_after`` seconds if that is given."""

    def __init__(self, error: SessionctlError, retry_after: float | None = None) -> None:
        super().__init__(str(error))
        self.error = error
        self.retry_after = retry_after


def pauses(first: timedelta) -> Iterator[float]:
    """Yield the seconds to wait before each further attempt."""
    pause = first.total_seconds()
    while True:
        yield _jittered(pause)
        pause = min(pause * GROWTH, LONGEST_PAUSE_SECONDS)


class Retries:
    """The pauses of one call."""

    def __init__(self, patience: Patience, report: Callable[[str], None]) -> None:
        self._patience = patience
        self._report = report
        self.reset()

    def reset(self) -> None:
        """Begin anew: there was progress."""
        self._ends: float | None = None
        self._pauses = pauses(self._patience.pause)

    async def wait(self, failure: RepeatableError) -> None:
        """Wait before the next attempt; raises the failure's own error when there is no time for one."""
        if self._ends is None:
            self._ends = time.monotonic() + self._patience.retry.total_seconds()
        # A server that says 0 must not be asked without any pause.
        pause = max(next(self._pauses), _jittered(failure.retry_after or 0.0))
        if time.monotonic() + pause > self._ends:
            raise failure.error from failure
        self._report(f"{failure.error.message}; trying again")
        await asyncio.sleep(pause)

    async def breathe(self, asked: float | None) -> None:
        """Wait before a connection is made anew that ended in good order; ``asked`` is the server's wish."""
        await asyncio.sleep(max(next(self._pauses), asked or 0.0))


def _jittered(seconds: float) -> float:
    return seconds * (1 + JITTER * random.random())  # noqa: S311 - nothing is kept secret by it
