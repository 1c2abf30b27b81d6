"""``DispatchStore`` on Redis."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.adapters.store.base import StorePart

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sessionctl.models import Cancellation, Fence, MessageOutcome, NextMessage, ReplyDelta, SessionId


class RedisDispatch(StorePart):
    """Who delivers the chats of a session, and what is recorded of them."""

    async def list_pending(self) -> Sequence[SessionId]:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def take_dispatch(self, session_id: SessionId, owner: str, lifetime: timedelta) -> Fence | None:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def renew_dispatch(self, fence: Fence, lifetime: timedelta) -> Sequence[str]:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def drop_dispatch(self, fence: Fence) -> None:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def get_next(self, fence: Fence) -> NextMessage | None:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def start_message(self, fence: Fence, message_id: str, pod: str) -> None:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def append_reply(self, fence: Fence, message_id: str, piece: ReplyDelta, first_seq: int) -> None:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def finish_message(self, fence: Fence, message_id: str, outcome: MessageOutcome, reason: str) -> None:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def cancel_message(self, session_id: SessionId, message_id: str) -> Cancellation:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError

    async def get_outcome(self, session_id: SessionId, message_id: str) -> MessageOutcome | None:
        """See ``ports.DispatchStore``."""
        raise NotImplementedError
