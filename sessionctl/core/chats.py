"""Chats as whoever sends them sees them: accepted, followed, waited for, cancelled."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from sessionctl.core.messages import ComingEvents, KeptEvents, just_before
from sessionctl.core.replies import Reply, ReplyDraft
from sessionctl.errors import AgentError, ConflictError, InvalidRequestError, NotFoundError, UnavailableError
from sessionctl.models import OLDEST_EVENT, Cancellation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator

    from sessionctl.core.conversation import ConversationReader
    from sessionctl.core.demand import DemandService
    from sessionctl.core.events import EventHub
    from sessionctl.core.holdings import Share
    from sessionctl.core.idempotency import Idempotency
    from sessionctl.models import MessageOutcome, SessionId, StoredEvent
    from sessionctl.ports import Agents, Store

CANCEL_PATIENCE: Final = timedelta(seconds=5)
"""How long a session that is put to sleep by force waits for its agent to end what it runs."""
AGENT_PATIENCE: Final = timedelta(seconds=2)
"""An agent that is told of a cancellation at once; whoever delivers the message tells it in any case."""
CUT: Final = "the reply is longer than what is held for whoever waits; stream it, or read the conversation"
NEWEST: Final = 100
"""So many messages of its conversation an agent is asked for to find one of them."""


@dataclass(frozen=True)
class Accepted:
    """A message that is stored."""

    session_id: SessionId
    message_id: str
    after: str = OLDEST_EVENT
    """The event just before its first one."""
    outcome: MessageOutcome | None = None
    """It was accepted before, and has ended."""
    notice: str | None = None
    """A sentence, when the cluster could not be asked to wake its session."""


class ChatService:
    """The chats of sessions, up to their delivery, and their replies."""

    def __init__(
        self,
        *,
        store: Store,
        demand: DemandService,
        hub: EventHub,
        agents: Agents,
        conversations: ConversationReader,
        idempotency: Idempotency,
        max_waiting: int,
        max_bytes: int,
    ) -> None:
        self._store = store
        self._demand = demand
        self._hub = hub
        self._agents = agents
        self.conversations = conversations
        self._idempotency = idempotency
        self._max_waiting = max_waiting
        self._max_bytes = max_bytes

    def check(self, message: str) -> None:
        """Raise InvalidRequestError for what is no message, or too long for one."""
        try:
            size = len(message.encode())
        except UnicodeEncodeError:
            raise InvalidRequestError("holds half of a surrogate pair", field="message") from None
        if not size:
            raise InvalidRequestError("is empty", field="message")
        if size > self._max_bytes:
            raise InvalidRequestError(f"has more than {self._max_bytes} bytes", field="message")

    async def accept(self, session_id: SessionId, message: str, tenant: str, key: str | None = None) -> Accepted:
        """Store a message that was checked, once per ``key`` of a tenant, and wake its session.

        A repeated one that has ended wakes nothing. Raises as ``DemandService.enqueue`` does, and KeyReusedError.
        """
        fresh = str(uuid4())
        named = {"call": "chat", "uuid": session_id, "message": message}
        message_id = await self._idempotency.bind(tenant, key, named, fresh)
        if message_id != fresh:
            ended = await self._store.get_outcome(session_id, message_id)
            if ended is not None:
                return Accepted(session_id, message_id, outcome=ended)
        done, notice = await self._demand.enqueue(session_id, message_id, message, self._max_waiting)
        after = just_before(done.event_id) if done.event_id else OLDEST_EVENT
        return Accepted(session_id, message_id, after, done.ended, notice)

    async def find(self, session_id: SessionId, message_id: str) -> Accepted:
        """Return a message that was accepted; raises NotFoundError for one that is not known (any more)."""
        # It is given its outcome in the step that ends its waiting: whoever looks in this order misses neither.
        waits = await self._store.has_message(session_id, message_id)
        outcome = None if waits else await self._store.get_outcome(session_id, message_id)
        if not waits and outcome is None:
            raise unknown_message(message_id)
        return Accepted(session_id, message_id, outcome=outcome)

    @asynccontextmanager
    async def follow(
        self, accepted: Accepted, after: str | None = None
    ) -> AsyncGenerator[AsyncIterator[StoredEvent], None]:
        """Follow one message from just after an event (None: from its first one) to its outcome."""
        start = after or accepted.after
        if accepted.outcome is not None:
            yield KeptEvents(self._store, accepted.session_id, accepted.message_id, start, accepted.outcome)
            return
        async with self._hub.listen(accepted.session_id, start) as listener:
            yield ComingEvents(listener, accepted.message_id)

    async def wait(self, accepted: Accepted, share: Share) -> Reply | None:
        """Return how a message ended, as soon as it has; None when this process ends before.

        Of its reply as much is held as there is room for in the share.
        """
        draft = ReplyDraft(accepted.message_id, share=share)
        async with self.follow(accepted) as events:
            async for event in events:
                draft.add(event)
        if draft.outcome is None:
            return None
        if draft.cut:
            reason = f"{draft.reason}; {CUT}" if draft.reason else CUT
            return Reply(accepted.message_id, draft.outcome, draft.text, reason, partial=True)
        if not draft.whole:
            entry = await self.conversations.find(accepted.session_id, accepted.message_id, NEWEST)
            if entry is not None and entry.reply is not None and not entry.cut and share.take(entry.reply):
                return Reply(accepted.message_id, draft.outcome, entry.reply, draft.reason)
        return Reply(accepted.message_id, draft.outcome, draft.text, draft.reason, partial=not draft.whole)

    async def cancel(self, session_id: SessionId, message_id: str) -> Cancellation:
        """Cancel a message: it is cancelled, or will be as soon as its agent has ended it. May be repeated.

        Raises NotFoundError for one that is not known, and ConflictError for one that ended otherwise.
        """
        match await self._store.cancel_message(session_id, message_id):
            case Cancellation.CANCELLED:
                return Cancellation.CANCELLED
            case Cancellation.CANCELLING:
                await self._tell_agent(session_id, message_id)
                return Cancellation.CANCELLING
            case Cancellation.ENDED:
                outcome = await self._store.get_outcome(session_id, message_id)
                msg = f"message {message_id} has ended already" + (f": {outcome}" if outcome is not None else "")
                raise ConflictError(msg)
            case Cancellation.UNKNOWN:
                raise unknown_message(message_id)

    async def sleep(self, session_id: SessionId, *, force: bool) -> None:
        """Put a session to sleep as ``DemandService.sleep`` does; ``force`` cancels its messages first."""
        if force:
            await self._cancel_all(session_id)
        await self._demand.sleep(session_id, force=force)

    async def _cancel_all(self, session_id: SessionId) -> None:
        waiting = await self._store.list_waiting(session_id)
        if not waiting:
            return
        before = (await self._store.read_events(session_id, OLDEST_EVENT, 1)).newest
        running = []
        # From the last one on: none must begin because the one before it has ended.
        for each in reversed(waiting):
            with suppress(NotFoundError, ConflictError):
                if await self.cancel(session_id, each.message_id) is Cancellation.CANCELLING:
                    running.append(each.message_id)
        # What an agent does not end in time is cut off with its pod.
        with suppress(TimeoutError, NotFoundError):
            async with asyncio.timeout(CANCEL_PATIENCE.total_seconds()):
                for message_id in running:
                    async with self.follow(await self.find(session_id, message_id), before) as events:
                        async for _ in events:
                            pass

    async def _tell_agent(self, session_id: SessionId, message_id: str) -> None:
        with suppress(TimeoutError, AgentError, UnavailableError):
            async with asyncio.timeout(AGENT_PATIENCE.total_seconds()):
                await self._agents.cancel(session_id, message_id)


def unknown_message(message_id: str) -> NotFoundError:
    """Return the error for a message that nobody has accepted, or that is forgotten."""
    return NotFoundError(f"there is no message {message_id}", hint="It may have ended long ago: see the conversation.")
