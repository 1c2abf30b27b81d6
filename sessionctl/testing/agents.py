"""``Agents`` in memory: what the real ones promise, without a process (DESIGN 7)."""

from __future__ import annotations

import asyncio
from collections import Counter
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sessionctl.errors import AgentError, UnavailableError
from sessionctl.models import ChatEntry, ChatPage, MessageOutcome, ReplyDelta, ReplyEnd

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from sessionctl.models import AgentMessage, SessionId

LOST: Final = "it had begun, and the agent has lost its files"
CUT_OFF: Final = "the workspace stopped while the message ran"


async def echo(message: str) -> AsyncGenerator[str, None]:
    """Reply with the message."""
    yield message


@dataclass
class _Run:
    """One attempt at a message, or what is left of it."""

    message: AgentMessage
    attempt: int
    lines: list[ReplyDelta | ReplyEnd] = field(default_factory=list)
    first_seq: int = 1
    task: asyncio.Task[None] | None = None
    changed: asyncio.Event = field(default_factory=asyncio.Event)

    @property
    def end(self) -> ReplyEnd | None:
        last = self.lines[-1] if self.lines else None
        return last if isinstance(last, ReplyEnd) else None

    @property
    def reply(self) -> str:
        return "".join(line.text for line in self.lines if isinstance(line, ReplyDelta))

    def say(self, text: str) -> None:
        self.lines.append(ReplyDelta(self.attempt, self.first_seq + len(self.lines), text))
        self.tell()

    def finish(self, outcome: MessageOutcome, reason: str = "") -> None:
        self.lines.append(ReplyEnd(self.attempt, self.first_seq + len(self.lines), outcome, reason))
        self.tell()

    def tell(self) -> None:
        self.changed.set()
        self.changed = asyncio.Event()


class FakeAgents:
    """Agents of all sessions, which answer with ``reply``; ``repeatable`` is what the kind of a real one says.

    Attributes:
        away: Sessions whose agent cannot be reached.
        begun: How often each message was begun.
        closed: The sessions whose editor's connections were closed, each time.
    """

    def __init__(self, reply: Callable[[str], AsyncGenerator[str, None]] = echo, *, repeatable: bool = True) -> None:
        self.reply = reply
        self.repeatable = repeatable
        self.away: set[SessionId] = set()
        self.begun: Counter[str] = Counter()
        self.closed: list[SessionId] = []
        self._runs: dict[SessionId, dict[str, _Run]] = {}
        self._boots: Counter[SessionId] = Counter()

    @asynccontextmanager
    async def send(self, message: AgentMessage) -> AsyncGenerator[AsyncIterator[ReplyDelta | ReplyEnd], None]:
        """See ``ports.Agents``."""
        await self._reach(message.session_id)
        run = self._find_or_begin(message)
        yield self._follow(run, message, self._boots[message.session_id])

    async def cancel(self, session_id: SessionId, message_id: str) -> bool:
        """See ``ports.Agents``."""
        await self._reach(session_id)
        run = self._of(session_id).get(message_id)
        if run is None:
            return False
        if run.end is None:
            await _stop(run)
            run.finish(MessageOutcome.CANCELLED)
        return True

    async def close_editor(self, session_id: SessionId) -> None:
        """See ``ports.Agents``."""
        await self._reach(session_id)
        self.closed.append(session_id)

    async def read_conversation(self, session_id: SessionId, before: str | None, limit: int) -> ChatPage:
        """See ``ports.Agents``."""
        await self._reach(session_id)
        runs = list(self._of(session_id).values())
        ids = [run.message.message_id for run in runs]
        if before is not None and before not in ids:
            raise AgentError("the agent refused with status 404")
        last = len(runs) if before is None else ids.index(before)
        first = max(0, last - limit)
        entries = tuple(_entry(run) for run in runs[first:last])
        return ChatPage(entries, partial=False, cursor=ids[first] if first else None)

    async def kill(self, session_id: SessionId, *, with_files: bool = False) -> None:
        """End the agent's process at once, and start it again; ``with_files``: in an empty workspace."""
        self._boots[session_id] += 1
        for run in self._of(session_id).values():
            if run.end is None:
                await _stop(run)
                if not self.repeatable:
                    run.finish(MessageOutcome.INTERRUPTED, CUT_OFF)
            run.tell()
        if with_files:
            self._of(session_id).clear()

    async def close(self) -> None:
        """End whatever runs."""
        for session_id in self._runs:
            for run in self._of(session_id).values():
                await _stop(run)

    def _of(self, session_id: SessionId) -> dict[str, _Run]:
        return self._runs.setdefault(session_id, {})

    async def _reach(self, session_id: SessionId) -> None:
        await asyncio.sleep(0)
        if session_id in self.away:
            raise UnavailableError("the agent cannot be reached")

    def _find_or_begin(self, message: AgentMessage) -> _Run:
        runs = self._of(message.session_id)
        known = runs.get(message.message_id)
        if known is not None and known.message.message != message.message:
            raise AgentError("the agent refused with status 409")
        if known is not None and (known.end is not None or _runs(known)):
            return known
        if any(_runs(other) for other in runs.values()):
            raise UnavailableError("the agent does not take messages at this moment (503)")
        begun = message.begun or message.resume.seq > 0
        attempt = known.attempt + 1 if known else message.resume.attempt + 1 if begun else 1
        run = runs[message.message_id] = _Run(message, max(1, attempt))
        if known is None and begun and not self.repeatable:
            run.attempt, run.first_seq = max(1, message.resume.attempt), message.resume.seq + 1
            run.finish(MessageOutcome.INTERRUPTED, LOST)
            return run
        self.begun[message.message_id] += 1
        run.task = asyncio.create_task(self._work(run))
        return run

    async def _work(self, run: _Run) -> None:
        try:
            async for text in self.reply(run.message.message):
                run.say(text)
        except Exception as error:  # noqa: BLE001 - as a real agent survives its kind
            run.finish(MessageOutcome.FAILED, str(error))
        else:
            run.finish(MessageOutcome.DONE)

    async def _follow(self, run: _Run, message: AgentMessage, boot: int) -> AsyncGenerator[ReplyDelta | ReplyEnd, None]:
        session_id = message.session_id
        at = message.resume.seq + 1 - run.first_seq if message.resume.attempt == run.attempt else 0
        while True:
            if session_id in self.away or self._boots[session_id] != boot:
                raise UnavailableError("the agent's answer was cut off")
            changed = run.changed
            if at < len(run.lines):
                yield run.lines[at]
                at += 1
            elif run.end is not None:
                return
            else:
                await changed.wait()


def _runs(run: _Run) -> bool:
    return run.task is not None and not run.task.done()


async def _stop(run: _Run) -> None:
    if run.task is not None:
        run.task.cancel()
        with suppress(asyncio.CancelledError):
            await run.task


def _entry(run: _Run) -> ChatEntry:
    end = run.end
    return ChatEntry(
        message_id=run.message.message_id,
        message=run.message.message,
        running=end is None,
        outcome=end.outcome if end else None,
        reason=end.reason if end else "",
        reply=run.reply,
        at=datetime(2026, 1, 1, tzinfo=UTC),
    )
