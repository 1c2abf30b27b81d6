"""What answers a message."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from sessionctl.agent.records import Start


class Kind(Protocol):
    """Turns a message into a reply, piece by piece."""

    @property
    def repeatable(self) -> bool:
        """Whether a message that was cut off midway may be run again."""
        ...

    def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        """Yield the reply; it is closed, and awaited, when the agent has to stop or the message is cancelled.

        Raises FailedReplyError.
        """
        ...


class FailedReplyError(Exception):
    """The message has failed, for a reason that its user may read."""


class Echo:
    """Answers every message with itself, for demonstrations and tests."""

    repeatable = True

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        """Yield the message."""
        yield asked.message


KINDS: Final[dict[str, Callable[[], Kind]]] = {"echo": Echo}
