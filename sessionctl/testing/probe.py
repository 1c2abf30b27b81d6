"""``ActivityProbe`` that answers what a test tells it to."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessionctl.models import Activity, SessionId, Workspace


class ScriptedProbe:
    """Answers per session; ``None`` stands for an agent that does not answer."""

    def __init__(self, default: Activity | None = None) -> None:
        self.default = default
        self.answers: dict[SessionId, Activity | None] = {}
        self.asked: list[SessionId] = []

    async def ask(self, workspace: Workspace) -> Activity | None:
        """See ``ports.ActivityProbe``."""
        self.asked.append(workspace.session_id)
        return self.answers.get(workspace.session_id, self.default)
