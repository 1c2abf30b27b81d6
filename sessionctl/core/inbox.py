"""What an agent has said and nobody has recorded yet."""

from __future__ import annotations

import asyncio
from collections import deque
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.errors import UnavailableError
from sessionctl.models import ReplyDelta, ReplyEnd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

MOST_UNTAKEN: Final = 65536
"""Characters; with so many, the agent is not read any further."""
LINE_COST: Final = 64
"""A line takes so many characters' room more than it has."""


@dataclass(frozen=True)
class Piece:
    """Lines of one attempt that are recorded together."""

    delta: ReplyDelta
    """All their text, under the number of the last line."""
    first_seq: int


class Inbox:
    """Lines in order; what has arrived while nobody took anything comes in one piece."""

    def __init__(self, lines: AsyncIterator[ReplyDelta | ReplyEnd]) -> None:
        self._source = lines
        self._lines: deque[ReplyDelta | ReplyEnd] = deque()
        self._size = 0
        self._news = asyncio.Event()
        self._room = asyncio.Event()
        self._failure: Exception | None = None

    async def fill(self) -> None:
        """Read to the end; what goes wrong is told to whoever takes, after all that came before it."""
        try:
            async for line in self._source:
                while self._size >= MOST_UNTAKEN:
                    self._room.clear()
                    await self._room.wait()
                if self._failure is not None:
                    return
                self._size += _cost(line)
                self._lines.append(line)
                self._news.set()
        except Exception as error:  # noqa: BLE001 - raised by take
            self._failure = self._failure or error
        else:
            self._failure = self._failure or UnavailableError("the agent's answer was cut off")
        self._news.set()

    def fail(self, error: Exception) -> None:
        """Have ``take`` raise this from now on."""
        self._failure = error
        self._lines.clear()
        self._size = 0
        self._news.set()
        self._room.set()

    async def take(self) -> Piece | ReplyEnd:
        """Wait for a line, and return it with those that can be recorded together with it, or the end."""
        while not self._lines:
            if self._failure is not None:
                raise self._failure
            self._news.clear()
            await self._news.wait()
        last = self._lines.popleft()
        self._size -= _cost(last)
        self._room.set()
        if isinstance(last, ReplyEnd):
            return last
        first, texts = last, [last.text]
        while self._lines and (line := self._lines[0]).attempt == first.attempt and isinstance(line, ReplyDelta):
            self._lines.popleft()
            self._size -= _cost(line)
            texts.append(line.text)
            last = line
        return Piece(ReplyDelta(last.attempt, last.seq, "".join(texts)), first.seq)


def _cost(line: ReplyDelta | ReplyEnd) -> int:
    return LINE_COST + (len(line.text) if isinstance(line, ReplyDelta) else 0)
