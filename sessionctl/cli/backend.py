"""What commands about sessions are done with: the cluster itself, or the Session API. The answers are the same."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import timedelta

    from sessionctl.models import SessionId, SessionStatus
    from sessionctl.wire import (
        Access,
        Action,
        CancelledChat,
        Conversation,
        CreatedSession,
        Event,
        QueuedChat,
        SessionList,
        SessionReport,
        VersionInfo,
        Why,
    )


@dataclass(frozen=True)
class Wanted:
    """What create was asked for; None where the default applies."""

    user_id: str
    tenant: str | None
    profile: str
    session_id: SessionId | None


class Backend(Protocol):
    """Does what a command says; all raise SessionctlError."""

    async def create(self, wanted: Wanted) -> CreatedSession:
        """Create a session."""
        ...

    async def wake(self, session_id: SessionId, patience: timedelta | None) -> Action:
        """Wake a session; with ``patience`` return when its pod is ready."""
        ...

    async def sleep(self, session_id: SessionId, *, force: bool) -> Action:
        """Put a session to sleep; ``force`` cancels its messages."""
        ...

    async def delete(self, session_id: SessionId, *, purge: bool, wait: bool) -> Action:
        """Delete a session; with ``wait`` return when it is gone."""
        ...

    async def restore(self, session_id: SessionId) -> Action:
        """Undo a delete."""
        ...

    async def status(self, session_id: SessionId) -> SessionReport:
        """Show one session."""
        ...

    async def list(self, *, user_id: str | None, tenant: str | None, status: SessionStatus | None) -> SessionList:
        """Show all sessions, oldest first, in one page."""
        ...

    async def list_ids(self) -> Sequence[SessionId]:
        """Return the ids of all sessions."""
        ...

    async def why(self, session_id: SessionId) -> Why:
        """Show what holds a session awake."""
        ...

    def events(self, session_id: SessionId, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield what happened to a session, and with ``follow`` what happens."""
        ...

    async def send(self, session_id: SessionId, message: str, key: str | None) -> QueuedChat:
        """Store a message and wake its session; the same ``key`` again is the same message."""
        ...

    def chat(self, session_id: SessionId, message: str, key: str | None) -> AsyncGenerator[Event, None]:
        """As ``send``, and yield what happens to the message, up to its outcome."""
        ...

    async def cancel(self, session_id: SessionId, message_id: str) -> CancelledChat:
        """Cancel a message that waits or runs."""
        ...

    async def messages(self, session_id: SessionId, before: str | None, limit: int) -> Conversation:
        """Show the newest messages before one (None: the newest of all), oldest first."""
        ...

    async def access(self, session_id: SessionId) -> Access:
        """Make a one-time address of the editor."""
        ...

    async def version(self) -> VersionInfo:
        """Show versions."""
        ...
