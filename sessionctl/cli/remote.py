"""The Session API, with a key: what there is through it is what there is through a kubeconfig."""

from __future__ import annotations

import asyncio
import time
from contextlib import aclosing
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl import __version__
from sessionctl.client import Patience
from sessionctl.core.demand import unknown_session
from sessionctl.core.identity import parse_session_id, parse_user_id
from sessionctl.core.waiting import REMOVAL_TIMEOUT_SECONDS, did_not_start, is_not_ready
from sessionctl.errors import DeadlineExceededError, InvalidRequestError, NotFoundError
from sessionctl.models import SessionStatus
from sessionctl.wire import SessionList, VersionInfo

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable, Sequence

    from sessionctl.cli.backend import Wanted
    from sessionctl.client import SessionClient
    from sessionctl.models import SessionId
    from sessionctl.wire import (
        Access,
        Action,
        CancelledChat,
        Conversation,
        CreatedSession,
        Event,
        QueuedChat,
        SessionReport,
        Why,
    )

PATIENCE: Final = Patience(retry=timedelta(seconds=10))
"""Somebody sits before it, and hears on standard error that it is tried again."""
FIRST_PAUSE_SECONDS: Final = 0.1
LONGEST_PAUSE_SECONDS: Final = 1.0
GROWTH: Final = 1.5
STALE_SECONDS: Final = 5.0
"""So old a status may at most be: until then a start that failed may be the one before."""


class RemoteBackend:
    """Calls the API; implements ``Backend``."""

    def __init__(self, client: SessionClient, progress: Callable[[str], None]) -> None:
        self._client = client
        self._progress = progress

    async def create(self, wanted: Wanted) -> CreatedSession:
        """Create a session."""
        if wanted.session_id is not None:
            msg = "the Session API makes the ids itself"
            raise InvalidRequestError(msg, hint="Leave --uuid out; a lost answer is asked for again without it.")
        made = await self._client.create(wanted.user_id, profile=wanted.profile, tenant=wanted.tenant)
        text = made.model_dump(mode="json")
        return {
            "uuid": made.uuid,
            "user_id": made.user_id,
            "status": made.status,
            "created_at": text["created_at"],
            "url": made.url,
        }

    async def wake(self, session_id: SessionId, patience: timedelta | None) -> Action:
        """Wake a session; with ``patience`` return when its pod is ready."""
        answer = await self._client.wake(session_id)
        if patience is None:
            return answer
        self._progress("waiting for the pod")
        await self._wait_awake(session_id, patience)
        return answer.model_copy(update={"status": "active"})

    async def _wait_awake(self, session_id: SessionId, patience: timedelta) -> None:
        begun, started = time.monotonic(), False
        async for report in self._watch(session_id, patience):
            match report.session.status:
                case SessionStatus.ACTIVE:
                    return
                case SessionStatus.DELETING | SessionStatus.DELETED:
                    raise unknown_session(session_id)
                case SessionStatus.FAILED:
                    if started or time.monotonic() - begun > STALE_SECONDS:
                        raise did_not_start(session_id, report.session.reason or "see its status")
                case SessionStatus.WAKING:
                    started = True
                case SessionStatus.CREATED | SessionStatus.SLEEPING:
                    pass
        raise is_not_ready(session_id, patience)

    async def sleep(self, session_id: SessionId, *, force: bool) -> Action:
        """Put a session to sleep; ``force`` cancels its messages."""
        return await self._client.sleep(session_id, force=force)

    async def delete(self, session_id: SessionId, *, purge: bool, wait: bool) -> Action:
        """Delete a session; with ``wait`` return when it is gone."""
        answer = await self._client.delete(session_id, purge=purge)
        if wait:
            self._progress("waiting until it is gone")
            await self._wait_removed(session_id, with_volume=purge)
        return answer

    async def _wait_removed(self, session_id: SessionId, *, with_volume: bool) -> None:
        try:
            async for report in self._watch(session_id, timedelta(seconds=REMOVAL_TIMEOUT_SECONDS)):
                if report.session.status is SessionStatus.DELETED and not with_volume:
                    return
        except NotFoundError:
            return
        msg = f"session {session_id} is still there after {REMOVAL_TIMEOUT_SECONDS:.0f} s"
        raise DeadlineExceededError(msg, hint="Its pod, or a finalizer of KEDA, may take long to end.")

    async def _watch(self, session_id: SessionId, patience: timedelta) -> AsyncIterator[SessionReport]:
        """Yield the status again and again, less and less often, until patience ends."""
        ends, pause = time.monotonic() + patience.total_seconds(), FIRST_PAUSE_SECONDS
        while True:
            yield await self._client.status(session_id)
            left = ends - time.monotonic()
            if left <= 0:
                return
            await asyncio.sleep(min(pause, left))
            pause = min(pause * GROWTH, LONGEST_PAUSE_SECONDS)

    async def restore(self, session_id: SessionId) -> Action:
        """Undo a delete."""
        return await self._client.restore(session_id)

    async def status(self, session_id: SessionId) -> SessionReport:
        """Show one session."""
        return await self._client.status(session_id)

    async def list(self, *, user_id: str | None, tenant: str | None, status: SessionStatus | None) -> SessionList:
        """Show all sessions, oldest first, in one page."""
        user_id = parse_user_id(user_id) if user_id is not None else None
        async with aclosing(self._client.list(user_id=user_id, status=status, tenant=tenant)) as rows:
            return SessionList(sessions=tuple([row async for row in rows]))

    async def list_ids(self) -> Sequence[SessionId]:
        """Return the ids of all sessions."""
        async with aclosing(self._client.list()) as rows:
            return [parse_session_id(row.uuid) async for row in rows]

    async def why(self, session_id: SessionId) -> Why:
        """Show what holds a session awake."""
        return await self._client.why(session_id)

    def events(self, session_id: SessionId, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield what happened to a session, and with ``follow`` what happens."""
        return self._client.events(session_id, follow=follow)

    async def send(self, session_id: SessionId, message: str, key: str | None) -> QueuedChat:
        """Store a message and wake its session."""
        return await self._client.chat(session_id, message, idempotency_key=key)

    def chat(self, session_id: SessionId, message: str, key: str | None) -> AsyncGenerator[Event, None]:
        """As ``send``, and yield what happens to the message, up to its outcome."""
        return self._client.chat_events(session_id, message, idempotency_key=key)

    async def cancel(self, session_id: SessionId, message_id: str) -> CancelledChat:
        """Cancel a message that waits or runs."""
        return await self._client.cancel(session_id, message_id)

    async def messages(self, session_id: SessionId, before: str | None, limit: int) -> Conversation:
        """Show the newest messages before one."""
        return await self._client.messages(session_id, cursor=before, limit=limit)

    async def access(self, session_id: SessionId) -> Access:
        """Make a one-time address of the editor."""
        return await self._client.access(session_id)

    async def version(self) -> VersionInfo:
        """Show versions: the manager's is that of its platform release; Helm is the manager's business."""
        return VersionInfo(sessionctl=__version__, helm=None, platform=await self._client.server_version())
