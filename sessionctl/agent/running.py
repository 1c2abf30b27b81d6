"""The message that runs now, and readers that follow its answer at their own pace."""

from __future__ import annotations

import asyncio
import os
from dataclasses import dataclass, field
from io import FileIO
from typing import TYPE_CHECKING, Final

from sessionctl.agent.files import BLOCK
from sessionctl.agent.lines import end_line

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.agent.journal import OpenMessage
    from sessionctl.agent.records import Recorded, Start
    from sessionctl.wire import MessageResume

QUIET_SECONDS: Final = 5.0
"""A silent answer shows a sign of life after so long; ten seconds are promised."""


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

    async def changed(self, within: float) -> bool:
        """Return at the next change; False when there was none for so many seconds."""
        try:
            async with asyncio.timeout(within):
                await self._changed.wait()
        except TimeoutError:
            return False
        return True

    def _wake(self) -> None:
        # Each event is set once: who waits for the next change holds the next event.
        self._changed.set()
        self._changed = asyncio.Event()


@dataclass
class Cut:
    """Why a reply was cut off: somebody cancelled the message, or else the agent stops."""

    cancelled: bool = False
    made: bool = False


@dataclass(frozen=True)
class Running:
    """A message from the moment its start is durable until it is put away or given up."""

    message: OpenMessage
    progress: Progress
    reply: asyncio.Task[str | None]
    cut: Cut
    task: asyncio.Task[None]

    def cut_off(self, *, cancelled: bool) -> None:
        """End the reply; once, because a second cut would interrupt the ending of what it runs."""
        if self.cut.made or self.reply.done():
            return
        self.cut.made, self.cut.cancelled = True, cancelled
        self.reply.cancel()


def join(running: Running, seen: MessageResume) -> AsyncGenerator[bytes, None]:
    """Follow a message that runs."""
    message = running.message
    # A descriptor of its own: the file may be moved and the writer may close its own meanwhile.
    reader = FileIO(os.dup(message.descriptor))
    return _follow(reader, message.offset, _skip(message.start, seen), running.progress)


def replay(recorded: Recorded, seen: MessageResume) -> AsyncGenerator[bytes, None]:
    """Repeat the answer of a message that ended.

    Who has seen more of it than is here, because a node died before it was on the disk, is told its end all the same.
    """
    if recorded.outcome is not None and seen.attempt == recorded.start.attempt and seen.from_seq > recorded.lines:
        return _just(end_line(seen.attempt, seen.from_seq, recorded.outcome, recorded.reason))
    reader = FileIO(recorded.file)
    skip = max(0, _skip(recorded.start, seen) - (recorded.first_line - 1))
    return _follow(reader, recorded.offset, skip, Progress(recorded.size, closed=True))


async def _just(line: bytes) -> AsyncGenerator[bytes, None]:
    yield line


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
            elif not await progress.changed(QUIET_SECONDS):
                # All that is published was yielded, and it ends with a whole line.
                yield b"\n"
