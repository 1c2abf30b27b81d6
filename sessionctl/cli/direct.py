"""The cluster itself, through a kubeconfig. A command pays only for what it uses, so each method imports its own."""

from __future__ import annotations

from contextlib import asynccontextmanager
from typing import TYPE_CHECKING, Literal

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence
    from datetime import timedelta

    from sessionctl.cli.backend import Wanted
    from sessionctl.core.chats import Accepted, ChatService
    from sessionctl.factory import Factory
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

DEFAULT_TENANT = "default"


class DirectBackend:
    """Calls core; implements ``Backend``."""

    def __init__(self, factory: Factory) -> None:
        self._factory = factory

    async def create(self, wanted: Wanted) -> CreatedSession:
        """Create a session."""
        import asyncio
        from importlib import import_module

        from sessionctl.core.sessions import NewSession
        from sessionctl.labels import session_url
        from sessionctl.models import SessionStatus

        service = await self._factory.create_session_service()
        request = NewSession(
            user_id=wanted.user_id,
            tenant=wanted.tenant or DEFAULT_TENANT,
            profile=wanted.profile,
            session_id=wanted.session_id,
        )
        # What prints the answer is loaded while Helm works.
        made, _ = await asyncio.gather(
            service.create(request), asyncio.to_thread(import_module, "sessionctl.cli.render")
        )
        return {
            "uuid": made.session_id,
            "user_id": made.owner.user_id,
            "status": str(SessionStatus.CREATED),
            "created_at": made.owner.created_at.isoformat().replace("+00:00", "Z"),
            "url": session_url(made.session_id, self._factory.settings.sessions.domain),
        }

    async def wake(self, session_id: SessionId, patience: timedelta | None) -> Action:
        """Wake a session; with ``patience`` return when its pod is ready."""
        notice = await self._factory.demand.wake(session_id)
        if patience is None:
            return _action(session_id, "wake", "queued", notice)
        self._factory.progress("waiting for the pod")
        await self._factory.create_waiter().wait_awake(session_id, patience)
        return _action(session_id, "wake", "active", notice)

    async def sleep(self, session_id: SessionId, *, force: bool) -> Action:
        """Put a session to sleep; ``force`` cancels its messages."""
        async with self._chats() as chats:
            await chats.sleep(session_id, force=force)
        return _action(session_id, "sleep", "sleeping")

    async def delete(self, session_id: SessionId, *, purge: bool, wait: bool) -> Action:
        """Delete a session; with ``wait`` return when it is gone."""
        service = await self._factory.create_session_service()
        kept = await service.delete(session_id, purge=purge)
        if wait:
            self._factory.progress("waiting until it is gone")
            await self._factory.create_waiter().wait_removed(session_id, with_volume=purge)
        return _action(session_id, "delete", "deleted" if kept is not None else "purged")

    async def restore(self, session_id: SessionId) -> Action:
        """Undo a delete."""
        await (await self._factory.create_session_service()).restore(session_id)
        return _action(session_id, "restore", "restored")

    async def status(self, session_id: SessionId) -> SessionReport:
        """Show one session."""
        from sessionctl.core.reports import report

        return report(await self._factory.create_view_service().get_status(session_id), self._factory.clock.now())

    async def list(self, *, user_id: str | None, tenant: str | None, status: SessionStatus | None) -> SessionList:
        """Show all sessions, oldest first, in one page."""
        from sessionctl.core.reports import report
        from sessionctl.wire import SessionList

        page = await self._factory.create_view_service().list_sessions(user_id=user_id, tenant=tenant, status=status)
        return SessionList(sessions=tuple(report(view, self._factory.clock.now()) for view in page.sessions))

    async def list_ids(self) -> Sequence[SessionId]:
        """Return the ids of all sessions."""
        return [workspace.session_id for workspace in await self._factory.cluster.list_workspaces()]

    async def why(self, session_id: SessionId) -> Why:
        """Show what holds a session awake."""
        from sessionctl.core.reports import why_report

        service = await self._factory.create_why_service()
        return why_report(await service.explain(session_id), self._factory.clock.now())

    async def events(self, session_id: SessionId, *, follow: bool) -> AsyncGenerator[Event, None]:
        """Yield what happened to a session, and with ``follow`` what happens."""
        from sessionctl.core.reports import event

        await self._find(session_id)
        if not follow:
            from sessionctl.core.history import read_history

            async for stored in read_history(self._factory.store, session_id):
                yield event(stored)
            return
        hub = self._factory.create_event_hub()
        try:
            async with hub.listen(session_id) as listener:
                async for stored in listener:
                    yield event(stored)
        finally:
            await hub.close()

    async def send(self, session_id: SessionId, message: str, key: str | None) -> QueuedChat:
        """Store a message and wake its session."""
        from sessionctl.wire import QueuedChat

        async with self._chats() as chats:
            accepted = await self._accept(chats, session_id, message, key)
        return QueuedChat(uuid=session_id, message_id=accepted.message_id)

    async def chat(self, session_id: SessionId, message: str, key: str | None) -> AsyncGenerator[Event, None]:
        """Store a message, which a session manager delivers, and yield what happens to it, up to its outcome."""
        from sessionctl.core.reports import event

        async with self._chats() as chats:
            accepted = await self._accept(chats, session_id, message, key)
            async with chats.follow(accepted) as events:
                async for stored in events:
                    yield event(stored)

    async def cancel(self, session_id: SessionId, message_id: str) -> CancelledChat:
        """Cancel a message that waits or runs."""
        from sessionctl.models import Cancellation
        from sessionctl.wire import CancelledChat

        async with self._chats() as chats:
            done = await chats.cancel(session_id, message_id)
        status: Literal["cancelled", "cancelling"] = "cancelling" if done is Cancellation.CANCELLING else "cancelled"
        return CancelledChat(uuid=session_id, status=status, message_id=message_id)

    async def messages(self, session_id: SessionId, before: str | None, limit: int) -> Conversation:
        """Show the newest messages before one."""
        from sessionctl.core.reports import conversation

        await self._find(session_id)
        async with self._chats() as chats:
            return conversation(session_id, await chats.conversations.read(session_id, before, limit))

    @asynccontextmanager
    async def _chats(self) -> AsyncGenerator[ChatService, None]:
        hub = self._factory.create_event_hub()
        try:
            yield await self._factory.create_chat_service(hub)
        finally:
            await hub.close()

    async def _accept(self, chats: ChatService, session_id: SessionId, message: str, key: str | None) -> Accepted:
        chats.check(message)
        tenant = DEFAULT_TENANT
        if key is not None:
            # Keys are of tenants, so that the Session API finds what was sent under one here.
            tenant = (await self._factory.create_view_service().get_status(session_id)).owner.tenant
        accepted = await chats.accept(session_id, message, tenant, key)
        if accepted.notice is not None:
            self._factory.progress(accepted.notice)
        return accepted

    async def access(self, session_id: SessionId) -> Access:
        """Refuse: a token is given out in the name of an API key."""
        from sessionctl.errors import InvalidRequestError

        msg = f"the editor of {session_id} is opened through the Session API only, in the name of an API key"
        raise InvalidRequestError(msg, hint="Set SESSIONCTL_API_URL and SESSIONCTL_API_KEY_FILE.")

    async def version(self) -> VersionInfo:
        """Show versions."""
        from sessionctl import __version__
        from sessionctl.wire import VersionInfo

        helm = await self._factory.helm.check()
        return VersionInfo(sessionctl=__version__, helm=helm, platform=self._factory.platform.version)

    async def _find(self, session_id: SessionId) -> None:
        await self._factory.create_view_service().get_status(session_id)


def _action(
    session_id: SessionId,
    action: Literal["wake", "sleep", "delete", "restore"],
    status: str,
    notice: str | None = None,
) -> Action:
    from sessionctl.wire import Action

    return Action(uuid=session_id, action=action, status=status, notice=notice)
