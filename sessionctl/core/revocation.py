"""Revoking what opens a session: tokens, cookies, codes that are not used yet, and connections that are open."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING, Final

from sessionctl.errors import ClusterError, SessionctlError, UnavailableError
from sessionctl.models import EventKind

if TYPE_CHECKING:
    from sessionctl.core.journal import Journal
    from sessionctl.models import SessionId
    from sessionctl.ports import AccessStore, Agents, Clock, ClusterView

REMEMBERED_SECONDS: Final = 3.0
"""A router goes on with an answer it was given just before: nginx's "1s" is up to two, and that answer may have been
under way. A browser that is cut off comes back at once, and may get in by it."""

_log = logging.getLogger(__name__)


class RevocationService:
    """Revokes; ``editors`` is False where pods serve nothing."""

    def __init__(
        self,
        *,
        store: AccessStore,
        view: ClusterView,
        agents: Agents,
        journal: Journal,
        clock: Clock,
        editors: bool,
    ) -> None:
        self._store = store
        self._view = view
        self._agents = agents
        self._journal = journal
        self._clock = clock
        self._editors = editors

    async def revoke(self, session_id: SessionId) -> None:
        """Make everything invalid, then close the editor's open connections; raises StoreError.

        What is closed comes back at once, so it is closed again when no router remembers the old answer. Whoever dies
        in between has not answered: the call is made again.
        """
        await self._store.revoke_tokens(session_id)
        closed = True
        if self._editors and await self._is_awake(session_id):
            await self._close(session_id)
            await self._clock.sleep(REMEMBERED_SECONDS)
            closed = await self._close(session_id)
        detail = "" if closed else "its agent does not close the editor's open connections"
        self._journal.note(session_id, EventKind.TOKENS_REVOKED, detail)

    async def _is_awake(self, session_id: SessionId) -> bool:
        try:
            workspace = await self._view.find_workspace(session_id)
        except (ClusterError, UnavailableError):
            return True
        return workspace is not None and workspace.replicas > 0

    async def _close(self, session_id: SessionId) -> bool:
        try:
            await self._agents.close_editor(session_id)
        except SessionctlError as error:
            _log.warning("the editor's connections are not closed: %s", error.message, extra={"session": session_id})
            return False
        return True
