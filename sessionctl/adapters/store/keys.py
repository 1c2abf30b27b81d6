"""Every Redis key, spelled once (DESIGN 4)."""

from __future__ import annotations

from typing import Final

from sessionctl.labels import user_hash

EPOCH: Final = "epoch"
DISPATCH_PENDING: Final = "dispatch:pending"
RECORD_PREFIX: Final = "session:"


def record(session_id: str) -> str:
    """Hash: the session's record."""
    return f"{RECORD_PREFIX}{session_id}"


def queue(session_id: str) -> str:
    """List: the reasons to be awake; the name is also in the session's ScaledObject."""
    return f"queue:{session_id}"


def events(session_id: str) -> str:
    """Stream: session and message events."""
    return f"events:{session_id}"


def tombstone(session_id: str) -> str:
    """String: the session was deleted and may be restored while this lives."""
    return f"deleted:{session_id}"


def user_index(tenant: str, user_id: str) -> str:
    """Set: the session ids of a user."""
    return f"user:{tenant}:{user_hash(user_id)}"
