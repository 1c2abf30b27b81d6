"""Who asks, and what it may do."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from datetime import datetime

    from sessionctl.models.basics import SessionId


class Scope(StrEnum):
    """What a key or token may do."""

    READ = "read"
    """status, list, why, events, messages."""
    WRITE = "write"
    """create, wake, chat, sleep, delete, restore."""
    ACCESS = "access"
    """Hand out session tokens and editor logins, and revoke them."""


@dataclass(frozen=True)
class ApiKey:
    """A key as it is stored: the secret itself is nowhere."""

    key_id: str
    digest: str
    """SHA-256 of the whole key, in hex. Keys are random and long, so nothing slower is needed."""
    tenant: str
    scopes: frozenset[Scope]
    expires_at: datetime | None = None


@dataclass(frozen=True)
class Caller:
    """Who asks: a tenant's key, or whoever holds a token of one session."""

    name: str
    """For logs and rate limits: the key's id, or the session."""
    tenant: str
    scopes: frozenset[Scope]
    session_id: SessionId | None = None
    """The only session a token opens; None for a key, which sees all of its tenant's."""


@dataclass(frozen=True)
class Login:
    """Who may open a session's editor, in a one-time code and then in a cookie."""

    session_id: SessionId
    tenant: str
    user_id: str
    epoch: int
    """Of the session's tokens when it was granted: whatever revokes them ends it, used or not."""


class CodeOutcome(StrEnum):
    """What became of a one-time login code that somebody showed."""

    OPENED = "opened"
    CONFIRM = "confirm"
    """It was made for no browser; it is this one's from now on, and its user has to be asked."""
    OTHER = "other"
    """It is another browser's."""
    USED = "used"
    UNKNOWN = "unknown"
    """It has expired, never was, or is of another session."""


@dataclass(frozen=True)
class CodeAnswer:
    """Answer to a one-time login code; ``login`` is there where it was opened or has to be confirmed."""

    outcome: CodeOutcome
    login: Login | None = None
