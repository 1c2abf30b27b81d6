"""Waiting for a condition: polled until a deadline, never a fixed time."""

from __future__ import annotations

import asyncio
import inspect
import time
from typing import TYPE_CHECKING, Any, Final, TypeVar, overload

import pytest

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

T = TypeVar("T")

PATIENCE_SECONDS: Final = 60.0
"""Only a broken product makes a test wait this long; a slow machine does not fail it."""
POLL_SECONDS: Final = 0.05
CALM_POLL_SECONDS: Final = 0.25
"""For what is expected to stay as it is, or is looked at by starting a process: two cores are shared with a cluster."""


def wait_for(look: Callable[[], T], what: str, patience: float = PATIENCE_SECONDS, pause: float = POLL_SECONDS) -> T:
    """Return the first answer that is true; fail the test with ``what`` when none comes."""
    deadline = time.monotonic() + patience
    while not (found := look()):
        if time.monotonic() > deadline:
            pytest.fail(f"never seen in {patience:.0f} s: {what}")
        time.sleep(pause)
    return found


@overload
async def until(look: Callable[[], Awaitable[T]], what: str, patience: float = ...) -> T: ...


@overload
async def until(look: Callable[[], T], what: str, patience: float = ...) -> T: ...


async def until(look: Callable[[], Any], what: str, patience: float = PATIENCE_SECONDS) -> Any:
    """As ``wait_for``, on the event loop; ``look`` may be a coroutine function."""
    deadline = time.monotonic() + patience
    while True:
        answer = look()
        found = await answer if inspect.isawaitable(answer) else answer
        if found:
            return found
        if time.monotonic() > deadline:
            pytest.fail(f"never seen in {patience:.0f} s: {what}")
        await asyncio.sleep(POLL_SECONDS)


async def throughout(look: Callable[[], bool | Awaitable[bool]], what: str, seconds: float) -> None:
    """Fail the test with ``what`` when the condition ends within the time; for where passing time is the behaviour."""
    deadline = time.monotonic() + seconds
    while time.monotonic() < deadline:
        answer = look()
        if not (await answer if inspect.isawaitable(answer) else answer):
            left = deadline - time.monotonic()
            pytest.fail(f"{what}: no longer so {seconds - left:.1f} s later")
        await asyncio.sleep(CALM_POLL_SECONDS)
