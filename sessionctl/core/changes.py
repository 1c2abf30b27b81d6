"""What changed of the sessions' Deployments: as it happens, and collected for whoever looks later."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessionctl.models import SessionId, Workspace


@dataclass(frozen=True, slots=True)
class Change:
    """One Deployment before and after; a session that came or went has only one of the two."""

    before: Workspace | None
    after: Workspace | None

    @property
    def became_ready(self) -> bool:
        """Whether its pod has just become ready; not so for one first seen with a ready pod."""
        before, after = self.before, self.after
        if before is None or after is None:
            return False
        return bool(after.replicas and after.ready_replicas) and not (before.replicas and before.ready_replicas)


class Changes:
    """The sessions that changed since the last look; never more than there are, however slow whoever looks is."""

    def __init__(self, view: Mapping[SessionId, Workspace]) -> None:
        self._view = view
        self._pending: dict[SessionId, None] = {}
        self._some = asyncio.Event()

    def note(self, session_id: SessionId) -> None:
        """Have one session looked at, perhaps again."""
        self._pending[session_id] = None
        self._some.set()

    def note_all(self) -> None:
        """Have every session looked at, as after a list."""
        self._pending.update(dict.fromkeys(self._view))
        self._some.set()

    async def take(self, patience: float | None = None) -> Sequence[Workspace]:
        """Wait for changes, and return those sessions as they are now; empty when they are gone, or none comes."""
        try:
            async with asyncio.timeout(patience):
                await self._some.wait()
        except TimeoutError:
            return []
        self._some.clear()
        pending, self._pending = self._pending, {}
        return [self._view[session_id] for session_id in pending if session_id in self._view]
