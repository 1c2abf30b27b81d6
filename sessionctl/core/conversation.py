"""A session's conversation: what its agent has kept, and what waits; without the agent, as much as Redis holds."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.core.history import read_history
from sessionctl.core.replies import ReplyDraft
from sessionctl.errors import AgentError, ClusterError, ForbiddenError, UnavailableError
from sessionctl.models import ChatEntry, ChatPage

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import SessionId
    from sessionctl.ports import Agents, ClusterView, Store


class ConversationReader:
    """Reads conversations; never wakes a session."""

    def __init__(self, store: Store, view: ClusterView, agents: Agents) -> None:
        self._store = store
        self._view = view
        self._agents = agents

    async def read(self, session_id: SessionId, before: str | None, limit: int) -> ChatPage:
        """Return the newest messages before one of them (None: the newest of all); raises StoreError."""
        # First: what is not in this list has reached the agent by the time that it is asked.
        waiting = await self._list_waiting(session_id)
        place = next((at for at, entry in enumerate(waiting) if entry.message_id == before), None)
        # What waits is newer than all that the agent knows, and unknown to it.
        asked = before if place is None or waiting[place].running else None
        kept = await self._ask(session_id, asked, limit)
        if kept is not None:
            newer = [] if asked is not None else _without(waiting[:place], kept.entries)
            return _page([*kept.entries, *newer], limit, partial=False, more=kept.cursor is not None)
        told = await self._from_events(session_id)
        known = [*told, *_without(waiting, told)]
        end = next((at for at, entry in enumerate(known) if entry.message_id == before), 0 if before else len(known))
        return _page(known[:end], limit, partial=True)

    async def find(self, session_id: SessionId, message_id: str, among: int) -> ChatEntry | None:
        """Ask the agent for a message that is one of the newest; None where it cannot be asked, or does not know."""
        page = await self._ask(session_id, None, among)
        if page is None:
            return None
        return next((entry for entry in page.entries if entry.message_id == message_id), None)

    async def _list_waiting(self, session_id: SessionId) -> Sequence[ChatEntry]:
        waiting = await self._store.list_waiting(session_id)
        return [ChatEntry(each.message_id, each.message, running=each.running) for each in waiting]

    async def _ask(self, session_id: SessionId, before: str | None, limit: int) -> ChatPage | None:
        try:
            workspace = await self._view.find_workspace(session_id)
            if workspace is None or not workspace.replicas or not workspace.ready_replicas:
                return None
            return await self._agents.read_conversation(session_id, before, limit)
        except (AgentError, UnavailableError, ClusterError, ForbiddenError):
            return None

    async def _from_events(self, session_id: SessionId) -> Sequence[ChatEntry]:
        drafts: dict[str, ReplyDraft] = {}
        async for event in read_history(self._store, session_id):
            if event.message_id:
                drafts.setdefault(event.message_id, ReplyDraft(event.message_id)).add(event)
        # Of one whose beginning is not kept any more nobody knows what was said.
        return [draft.entry() for draft in drafts.values() if draft.at is not None]


def _without(entries: Sequence[ChatEntry], others: Sequence[ChatEntry]) -> list[ChatEntry]:
    known = {entry.message_id for entry in others}
    return [entry for entry in entries if entry.message_id not in known]


def _page(entries: Sequence[ChatEntry], limit: int, *, partial: bool, more: bool = False) -> ChatPage:
    chosen = entries[-limit:]
    more = more or len(entries) > len(chosen)
    return ChatPage(tuple(chosen), partial=partial, cursor=chosen[0].message_id if chosen and more else None)
