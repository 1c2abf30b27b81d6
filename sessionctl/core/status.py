"""The life cycle status of a session, derived from what the cluster and Redis show; nothing else decides it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.core.startup import volume_damage
from sessionctl.models import SessionStatus

if TYPE_CHECKING:
    from sessionctl.models import Queue, Record, Volume, Workspace


def derive(workspace: Workspace, volume: Volume | None, record: Record | None) -> tuple[SessionStatus, str | None]:
    """Return the status and, where it is not self-explanatory, its reason."""
    if workspace.deleted_at is not None:
        return SessionStatus.DELETING, "it is being deleted"
    damage = volume_damage(workspace, volume)
    if workspace.replicas and workspace.ready_replicas and volume is not None:
        # Its files are there for as long as its pod lives, and somebody may be at work on them.
        return SessionStatus.ACTIVE, damage
    if damage is not None:
        return SessionStatus.FAILED, damage
    if workspace.replicas and workspace.ready_replicas:
        return SessionStatus.ACTIVE, None
    if workspace.replicas:
        return SessionStatus.WAKING, "its pod is not ready yet"
    if workspace.failed is not None:
        return SessionStatus.FAILED, workspace.failed
    slept = workspace.slept_at is not None or (record is not None and record.released_at is not None)
    if workspace.woken_at is None and not slept:
        return SessionStatus.CREATED, None
    return SessionStatus.SLEEPING, None


def waiting(queue: Queue, workspace: Workspace) -> int:
    """Count waiting messages, outside demand, and a wake not met yet; never the keep-awake entry of a running pod."""
    running = workspace.replicas > 0 and workspace.ready_replicas > 0
    return queue.chats + queue.outside + (0 if running else queue.awake)
