"""Waiting for the next change of one session."""

from __future__ import annotations

import asyncio
from contextlib import contextmanager
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessionctl.models import SessionId


class Bells:
    """An event for each of those who wait, set at every change of their session."""

    def __init__(self) -> None:
        self._waiting: dict[SessionId, set[asyncio.Event]] = {}

    @contextmanager
    def listen(self, session_id: SessionId) -> Iterator[asyncio.Event]:
        """Hear of changes within the block; whoever waits clears the event before it looks."""
        heard = asyncio.Event()
        self._waiting.setdefault(session_id, set()).add(heard)
        try:
            yield heard
        finally:
            waiting = self._waiting[session_id]
            waiting.discard(heard)
            if not waiting:
                del self._waiting[session_id]

    def ring(self, session_id: SessionId) -> None:
        """Tell those who wait for one session."""
        for heard in self._waiting.get(session_id, ()):
            heard.set()

    def ring_all(self) -> None:
        """Tell everybody, as after a list."""
        for session_id in self._waiting:
            self.ring(session_id)
