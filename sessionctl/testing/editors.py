"""``EditorProbe`` that answers what a test tells it to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessionctl.models import SessionId


class ScriptedEditors:
    """Editors of all sessions: those in ``open`` answer. ``asked`` are all questions."""

    def __init__(self) -> None:
        self.open: set[SessionId] = set()
        self.asked: list[SessionId] = []

    async def answers(self, session_id: SessionId) -> bool:
        """See ``ports.EditorProbe``."""
        self.asked.append(session_id)
        return session_id in self.open
