"""When sessions become ready: one event for each start, and its time, whoever of the managers sees it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.models import EventKind

if TYPE_CHECKING:
    from sessionctl.core.changes import Change
    from sessionctl.core.journal import Journal
    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import Metrics


class ReadyWatch:
    """Listens to the mirror. Times are Redis's own: of the wake's script, and of the event."""

    def __init__(self, journal: Journal, metrics: Metrics) -> None:
        self._journal = journal
        self._metrics = metrics
        self._begun: dict[SessionId, int | None] = {}

    def see(self, change: Change) -> None:
        """Take notice of a change of a session."""
        after = change.after
        if after is None:
            if change.before is not None:
                self._begun.pop(change.before.session_id, None)
            return
        if after.is_starting:
            # A start begins with its first wake: an impatient user's next one moves the time on the Deployment.
            self._begun.setdefault(after.session_id, _woken_at(after))
            return
        begun = self._begun.pop(after.session_id, None) or _woken_at(after)
        if change.became_ready:
            self._tell(after, begun)

    def _tell(self, workspace: Workspace, begun: int | None) -> None:
        def measure(event_id: str) -> None:
            if begun is not None:
                self._metrics.observe_start(max(0, int(event_id.partition("-")[0]) - begun) / 1000)

        # Every manager sees it; the one whose event is written measures.
        once = f"{workspace.woken_at}/{workspace.slept_at}"
        self._journal.note(workspace.session_id, EventKind.READY, once=once, then=measure)


def _woken_at(workspace: Workspace) -> int | None:
    """Return the wake that this start comes from; None for one that KEDA made, which says nothing about when."""
    if workspace.woken_at is None or (workspace.slept_at or 0) > workspace.woken_at:
        return None
    return workspace.woken_at
