"""Every Redis key, spelled once (DESIGN 4)."""

from __future__ import annotations

from hashlib import sha256
from typing import Final

from sessionctl.labels import user_hash

EPOCH: Final = "epoch"
DISPATCH_PENDING: Final = "dispatch:pending"
WAITING_BYTES: Final = "waiting:bytes"
"""Hash: the bytes of the messages that wait, of each tenant, and when they were counted anew."""
RECORD_PREFIX: Final = "session:"
TOMBSTONE_PREFIX: Final = "deleted:"
RESERVATION_PREFIX: Final = "lock:reserved:"


def record(session_id: str) -> str:
    """Hash: the session's record."""
    return f"{RECORD_PREFIX}{session_id}"


def queue(session_id: str) -> str:
    """List: the reasons to be awake; the name is also in the session's ScaledObject."""
    return f"queue:{session_id}"


def events(session_id: str) -> str:
    """Stream: session and message events."""
    return f"events:{session_id}"


def marks(session_id: str) -> str:
    """Hash: what must be known of the session's stream to cap it and to write nothing twice; lives as long as it."""
    return f"marks:{session_id}"


def tombstone(session_id: str) -> str:
    """String: the session was deleted and may be restored while this lives."""
    return f"{TOMBSTONE_PREFIX}{session_id}"


def reservation(session_id: str) -> str:
    """String: the session is being made and counts already."""
    return f"{RESERVATION_PREFIX}{session_id}"


def dispatch_lock(session_id: str) -> str:
    """String: the token of whoever delivers the session's chats."""
    return f"lock:dispatch:{session_id}"


def ended(session_id: str, message_id: str = "") -> str:
    """String: how a chat ended, and the id of its ``message-queued`` event; without a message, what all begin with."""
    return f"ended:{session_id}:{message_id}"


def limit(key: str) -> str:
    """String: the state of a rate limit."""
    return f"limit:{key}"


def idempotency(key: str) -> str:
    """String: what an idempotency key is bound to; callers choose keys of any length."""
    return f"idem:{_digest(key)}"


def code(secret: str) -> str:
    """String: a one-time login code; whoever reads Redis cannot use it."""
    return f"code:{_digest(secret)}"


def user_index(tenant: str, user_id: str) -> str:
    """Set: the session ids of a user."""
    return f"user:{tenant}:{user_hash(user_id)}"


def _digest(text: str) -> str:
    return sha256(text.encode()).hexdigest()
