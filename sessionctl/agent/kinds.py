"""What answers a message."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.agent.records import Start


class KindName(StrEnum):
    """What can answer."""

    ECHO = "echo"
    COMMAND = "command"
    OPENAI = "openai"


class Kind(Protocol):
    """Turns a message into a reply, piece by piece."""

    @property
    def repeatable(self) -> bool:
        """Whether a message that was cut off midway may be run again."""
        ...

    def warm_up(self) -> None:
        """Do once what is slow the first time; called in a thread once the agent is ready."""
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

    def warm_up(self) -> None:
        """Nothing is slow the first time."""

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        """Yield the message."""
        yield asked.message
