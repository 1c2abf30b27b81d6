"""What answers a message. Only ``echo`` so far; ``command`` and ``openai`` take the same place."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable


class Kind(Protocol):
    """Turns a message into a reply, piece by piece."""

    @property
    def repeatable(self) -> bool:
        """Whether a message that was cut off midway may be run again."""
        ...

    def reply(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the reply; it is closed when the agent has to stop."""
        ...


class Echo:
    """Answers every message with itself, for demonstrations and tests."""

    repeatable = True

    async def reply(self, message: str) -> AsyncGenerator[str, None]:
        """Yield the message."""
        yield message


KINDS: Final[dict[str, Callable[[], Kind]]] = {"echo": Echo}
