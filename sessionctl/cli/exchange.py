"""One message and its reply, before somebody who may interrupt it."""

from __future__ import annotations

import asyncio
import signal
import sys
import time
from contextlib import aclosing, suppress
from typing import TYPE_CHECKING

from sessionctl.cli.run import end_progress
from sessionctl.errors import ApiError, ConflictError, DeadlineExceededError, NotFoundError, SessionctlError
from sessionctl.models import EventKind, MessageOutcome
from sessionctl.wire import ChatReply

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import timedelta

    from sessionctl.cli.backend import Backend
    from sessionctl.models import SessionId
    from sessionctl.wire import Event

CANCEL_HINT = "cancelling; again to leave it to itself"


class Exchange:
    """Sends messages one after the other; Ctrl-C cancels the one under way, and again leaves it to itself.

    ``show`` gets each piece of a reply as it comes, ``note`` a sentence about the reply that is no part of it.
    """

    def __init__(
        self,
        backend: Backend,
        session_id: SessionId,
        *,
        show: Callable[[str], None],
        note: Callable[[str], None],
        progress: Callable[[str], None],
    ) -> None:
        self._backend = backend
        self._session_id = session_id
        self._show = show
        self._note = note
        self._progress = progress
        self.interrupted = False
        """Whether the last message was interrupted."""

    async def run(self, message: str, key: str | None, patience: timedelta | None) -> ChatReply:
        """Send one and return how it ended; raises SessionctlError, DeadlineExceededError and KeyboardInterrupt."""
        reply = _Collected(self._show, self._note, self._progress)
        pressed = asyncio.Event()
        self.interrupted = False
        loop = asyncio.get_running_loop()
        loop.add_signal_handler(signal.SIGINT, pressed.set)
        reading = asyncio.create_task(self._read(message, key, reply))
        cancelling: asyncio.Task[None] | None = None
        ends = time.monotonic() + patience.total_seconds() if patience is not None else None
        try:
            while not reading.done():
                waiting = asyncio.create_task(pressed.wait())
                left = max(0.0, ends - time.monotonic()) if ends is not None else None
                await asyncio.wait((reading, waiting), timeout=left, return_when=asyncio.FIRST_COMPLETED)
                waiting.cancel()
                if pressed.is_set():
                    pressed.clear()
                    if cancelling is not None or not reply.message_id:
                        raise KeyboardInterrupt
                    self.interrupted = True
                    cancelling = asyncio.create_task(self._cancel(reply.message_id))
                elif ends is not None and time.monotonic() >= ends and not reading.done():
                    raise _too_late(self._session_id, reply.message_id)
            await reading
        finally:
            loop.remove_signal_handler(signal.SIGINT)
            for task in (reading, cancelling):
                if task is not None:
                    task.cancel()
                    with suppress(asyncio.CancelledError, SessionctlError):
                        await task
            end_progress()
        return reply.complete(self._session_id)

    async def _read(self, message: str, key: str | None, reply: _Collected) -> None:
        self._progress("sending")
        async with aclosing(self._backend.chat(self._session_id, message, key)) as events:
            async for event in events:
                reply.take(event)

    async def _cancel(self, message_id: str) -> None:
        self._note(CANCEL_HINT)
        try:
            await self._backend.cancel(self._session_id, message_id)
        except (ConflictError, NotFoundError):
            pass  # it has just ended
        except SessionctlError as error:
            self._note(f"not cancelled: {error.message}")


class _Collected:
    """What has come of one message."""

    def __init__(
        self, show: Callable[[str], None], note: Callable[[str], None], progress: Callable[[str], None]
    ) -> None:
        self._show = show
        self._note = note
        self._progress = progress
        self._pieces: list[str] = []
        self._attempt = 0
        self._seq = 0
        self._whole = True
        self._end: Event | None = None
        self.message_id = ""

    def take(self, event: Event) -> None:
        self.message_id = event.message_id or self.message_id
        match event.event:
            case EventKind.MESSAGE_QUEUED:
                self._progress("waiting for the workspace")
            case EventKind.MESSAGE_STARTED:
                end_progress()
            case EventKind.MESSAGE_DELTA:
                self._append(event)
            case EventKind.MESSAGE_ENDED:
                self._end = event
                if self._whole and event.lacks(self._attempt, self._seq):
                    self._miss()
            case _:
                pass

    def _append(self, event: Event) -> None:
        attempt = event.attempt or 1
        if attempt > self._attempt:
            if self._pieces:
                self._note("it was begun anew: what came before is void")
            self._attempt, self._seq, self._whole = attempt, 0, True
            self._pieces.clear()
        if event.first_seq is not None and event.first_seq != self._seq + 1:
            self._miss()
        self._seq = event.seq or 0
        self._pieces.append(event.text or "")
        self._show(event.text or "")

    def _miss(self) -> None:
        self._whole = False
        self._note("a part of the reply is missing here: it is kept no longer")

    def complete(self, session_id: SessionId) -> ChatReply:
        if self._end is None or self._end.outcome is None:
            msg = f"the end of message {self.message_id} was not told"
            raise ApiError(msg, hint=f"See: sessionctl messages {session_id}")
        return ChatReply(
            uuid=session_id,
            status=self._end.outcome,
            message_id=self.message_id,
            reply="".join(self._pieces),
            reason=self._end.detail or None,
            partial=not self._whole,
        )


def sentence(reply: ChatReply) -> str | None:
    """Return what is to be said of a reply that did not end well."""
    if reply.status is MessageOutcome.DONE:
        return None
    said = {
        MessageOutcome.FAILED: "failed",
        MessageOutcome.INTERRUPTED: "was cut off midway",
        MessageOutcome.CANCELLED: "was cancelled",
    }[reply.status]
    return f"message {reply.message_id} {said}" + (f": {reply.reason}" if reply.reason else "")


def on_terminal(text: str) -> str:
    """Return an agent's text without what a terminal would obey."""
    return "".join(character if character.isprintable() or character in "\n\t" else "?" for character in text)


def writer() -> Callable[[str], None]:
    """Return what prints a reply as it comes: as it is, or made safe for a terminal."""
    safe = on_terminal if sys.stdout.isatty() else str

    def write(text: str) -> None:
        end_progress()
        sys.stdout.write(safe(text))
        sys.stdout.flush()

    return write


def _too_late(session_id: SessionId, message_id: str) -> DeadlineExceededError:
    if not message_id:
        return DeadlineExceededError("the message was not stored in time", hint="Send it again with the same --key.")
    msg = f"message {message_id} has not ended yet"
    return DeadlineExceededError(msg, hint=f"It goes on: sessionctl messages {session_id}")
