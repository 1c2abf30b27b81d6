"""The message that runs now, and readers that follow its answer at their own pace."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from io import FileIO
from typing import TYPE_CHECKING

from sessionctl.agent.files import BLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.agent.journal import OpenMessage
    from sessionctl.agent.records import Recorded, Start
    from sessionctl.wire import MessageResume


@dataclass
class Progress:
    """How far an answer may be read; the terminal line only when it is durable."""

    published: int
    closed: bool = False
    _changed: asyncio.Event = field(default_factory=asyncio.Event)

    def publish(self, size: int) -> None:
        """Let readers go on to ``size``."""
        self.published = size
        self._wake()

    def close(self) -> None:
        """Tell readers that nothing more will come."""
        self.closed = True
        self._wake()

    async def changed(self) -> None:
        """Return at the next change."""
        await self._changed.wait()

    def _wake(self) -> None:
        # Each event is set once: who waits for the next change holds the next event.
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass(frozen=True)
class Running:
    """A message from the moment its start is durable until it is put away or given up."""

    message: OpenMessage
    progress: Progress
    reply: asyncio.Task[str | None]
    task: asyncio.Task[None]


def join(running: Running, seen: MessageResume) -> AsyncGenerator[bytes, None]:
    """Follow a message that runs."""
    message = running.message
    # A descriptor of its own: the file may be moved and the writer may close its own meanwhile.
    reader = FileIO(os.dup(message.descriptor))
    return _follow(reader, message.offset, _skip(message.start, seen), running.progress)


def replay(recorded: Recorded, seen: MessageResume) -> AsyncGenerator[bytes, None]:
    """Repeat the answer of a message that ended."""
    reader = FileIO(recorded.file)
    return _follow(reader, recorded.offset, _skip(recorded.start, seen), Progress(recorded.size, closed=True))


def _skip(start: Start, seen: MessageResume) -> int:
    # Lines of an earlier attempt say nothing about this one's.
    return seen.from_seq - 1 if seen.attempt == start.attempt else 0


async def _follow(reader: FileIO, offset: int, skip: int, progress: Progress) -> AsyncGenerator[bytes, None]:
    """Yield an answer from its file as it grows, without its first ``skip`` lines.

    Nothing is held in memory for a slow reader, and nothing that it does reaches the one who writes.
    """
    with reader:
        while True:
            if offset < progress.published:
                block = os.pread(reader.fileno(), min(BLOCK, progress.published - offset), offset)
                offset += len(block)
                while skip and block:
                    _, newline, block = block.partition(b"\n")
                    skip -= len(newline)
                if block:
                    yield block
            elif progress.closed:
                return
            else:
                await progress.changed()
