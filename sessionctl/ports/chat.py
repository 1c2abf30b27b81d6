"""Chats: the right to deliver them, how far they have come, and the agents they are delivered to (DESIGN 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Sequence
    from contextlib import AbstractAsyncContextManager
    from datetime import timedelta

    from sessionctl.models import (
        AgentMessage,
        Cancellation,
        ChatPage,
        Fence,
        MessageOutcome,
        NextMessage,
        ReplyDelta,
        ReplyEnd,
        SessionId,
    )


class DispatchStore(Protocol):
    """Who delivers a session's chats, and what has been recorded of them.

    Each method is one atomic script that may be repeated after a lost reply; all raise StoreError. With a fence that is
    no longer current they raise FenceLostError, and have changed nothing. It is current until somebody else takes the
    lock, or Redis restarts, or the record is gone. A message that somebody has ended (sleep by force, delete, a start
    given up) raises MessageEndedError where it would be started or appended to.
    """

    async def list_pending(self) -> Sequence[SessionId]:
        """Return the sessions that may have chats waiting (``dispatch:pending``)."""
        ...

    async def take_dispatch(self, session_id: SessionId, owner: str, lifetime: timedelta) -> Fence | None:
        """Take the lock of a session; None while somebody else has it. Its owner gets the same fence again.

        Raises NotFoundError without a record; rebuild it first.
        """
        ...

    async def renew_dispatch(self, fence: Fence, lifetime: timedelta) -> Sequence[str]:
        """Keep the lock; returns the ids of messages that somebody wishes to cancel."""
        ...

    async def drop_dispatch(self, fence: Fence) -> None:
        """Give the lock back; what waits is still pending, and free for anybody. Does nothing with a lost fence."""
        ...

    async def get_next(self, fence: Fence) -> NextMessage | None:
        """Return the first chat in the list.

        None when there is none: then the session is no longer pending and the lock is given back, in the same step, so
        that a chat that comes just after finds both free.
        """
        ...

    async def start_message(self, fence: Fence, message_id: str, pod: str) -> None:
        """Record that the message is about to be sent to this pod; the first time with its event.

        That first pod is kept: what began there must not begin in another one that does not know of it.
        Before each time it is sent: what raises MessageEndedError must not be sent (again).
        """
        ...

    async def append_reply(self, fence: Fence, message_id: str, piece: ReplyDelta, first_seq: int) -> None:
        """Append a piece of the reply, the agent's lines ``first_seq`` to ``piece.seq``, as one event.

        Lines that are recorded already are not appended again; a gap raises FenceLostError: somebody else wrote.
        """
        ...

    async def finish_message(self, fence: Fence, message_id: str, outcome: MessageOutcome, reason: str) -> None:
        """Give the message its one outcome: its event, its end in the list, and ``last_active``, in one step.

        Does nothing for a message that has an outcome.
        """
        ...

    async def cancel_message(self, session_id: SessionId, message_id: str) -> Cancellation:
        """End a message that was not sent yet, or tell whoever delivers it that it is to be cancelled."""
        ...

    async def get_outcome(self, session_id: SessionId, message_id: str) -> MessageOutcome | None:
        """Return the outcome of a message; None while it waits or runs, or when it is not known (any more)."""
        ...


class Agents(Protocol):
    """The agents of sessions: tenant code, which nothing outside its session trusts.

    UnavailableError says that one could not be reached or was cut off: the same may be sent again. AgentError says that
    it refuses, or breaks its protocol: the same would not help.
    """

    def send(self, message: AgentMessage) -> AbstractAsyncContextManager[AsyncIterator[ReplyDelta | ReplyEnd]]:
        """Run a message, or go on with its answer; entered when the agent has begun it durably.

        Yields the lines after ``message.resume``, each ``seq`` one more than the one before, or a greater ``attempt``
        from 1, and ends with one ReplyEnd. Raises UnavailableError and AgentError, also between the lines.
        """
        ...

    async def cancel(self, session_id: SessionId, message_id: str) -> bool:
        """End a message that runs; False when the agent does not know it. Raises UnavailableError and AgentError."""
        ...

    async def close_editor(self, session_id: SessionId) -> None:
        """Close the editor's open connections; who may do so comes back. Raises UnavailableError and AgentError."""
        ...

    async def read_conversation(self, session_id: SessionId, before: str | None, limit: int) -> ChatPage:
        """Return the newest messages before one (None: the newest of all). Raises UnavailableError and AgentError."""
        ...
