"""Work on many sessions at once, one piece for each, that may take longer than whoever started it waits."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from collections.abc import Coroutine, Mapping

    from sessionctl.models import SessionId

Outcome = TypeVar("Outcome")


class Errands(Generic[Outcome]):
    """Owns the tasks; ``close`` ends those that are still under way."""

    def __init__(self) -> None:
        self._tasks: dict[SessionId, asyncio.Task[Outcome]] = {}

    def __contains__(self, session_id: SessionId) -> bool:
        return session_id in self._tasks

    def start(self, session_id: SessionId, work: Coroutine[None, None, Outcome]) -> None:
        """Begin; there must be none of that session under way."""
        self._tasks[session_id] = asyncio.create_task(work)

    async def finished(self, patience: float | None) -> Mapping[SessionId, Outcome]:
        """Wait for all, or so many seconds, and return what those gave that have ended; raises what one raised."""
        if self._tasks:
            try:
                await asyncio.wait(self._tasks.values(), timeout=patience)
            except asyncio.CancelledError:
                await self.close()
                raise
        done = {session_id: task for session_id, task in self._tasks.items() if task.done()}
        self._tasks = {session_id: task for session_id, task in self._tasks.items() if session_id not in done}
        failures = [error for task in done.values() if (error := task.exception()) is not None]
        if failures:
            raise failures[0]
        return {session_id: task.result() for session_id, task in done.items()}

    async def close(self) -> None:
        """End what is under way, and wait for its end."""
        tasks = list(self._tasks.values())
        self._tasks.clear()
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
