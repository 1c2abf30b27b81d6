"""One message on its way to its agent and back, until it has an end: sent again as often as it takes."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Final, TypeVar

from sessionctl.core.inbox import Inbox
from sessionctl.core.rounds import is_ending
from sessionctl.errors import AgentError, MessageEndedError, StoreError, UnavailableError
from sessionctl.models import AgentMessage, MessageOutcome, Progress, ReplyDelta, ReplyEnd

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sessionctl.core.inbox import Piece
    from sessionctl.core.lease import Lease
    from sessionctl.core.pods import PodWaiter
    from sessionctl.models import NextMessage, Pod, SessionId, Workspace
    from sessionctl.ports import Agents, Clock, DispatchStore
    from sessionctl.settings import ChatSettings

Answer = TypeVar("Answer")

PAUSES: Final = (0.1, 0.2, 0.5, 1.0, 2.0)
CALM_SECONDS: Final = 10.0
"""After a try that went well for so long the pauses are short again."""
MOST_CUTS: Final = 30
"""An answer that was begun, and cut off so often without getting any further, is given up."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Ended:
    """The outcome that a message gets."""

    outcome: MessageOutcome
    reason: str = ""


@dataclass(frozen=True)
class Means:
    """What messages are delivered with, the same for all sessions."""

    store: DispatchStore
    agents: Agents
    pods: PodWaiter
    clock: Clock
    settings: ChatSettings

    async def steadily(self, lease: Lease, write: Callable[[], Awaitable[Answer]]) -> Answer:
        """Write, again and again while Redis is away; raises FenceLostError."""
        failures = 0
        while True:
            lease.require()
            try:
                answer = await write()
                if is_ending():
                    # It was swallowed: see ``core.rounds``.
                    raise asyncio.CancelledError
                return answer  # noqa: TRY300 - an else would hide what belongs together
            except StoreError:
                await self.clock.sleep(_pause(failures))
                failures += 1


class Sending:
    """The way of one message under a lease."""

    def __init__(self, means: Means, lease: Lease, message: NextMessage) -> None:
        self._means = means
        self._lease = lease
        self._settings = means.settings
        self._limit = means.settings.retry_limit.total_seconds()
        self._patience = means.settings.silence_limit.total_seconds()
        self.message = message
        self._seen = message.progress
        self._farthest = message.progress.seq
        self._reply_bytes = message.reply_bytes
        self._cut_short = self._reply_bytes > self._settings.max_reply_bytes
        self._begun = message.progress.attempt > 0
        self._sent_before = message.started_in is not None
        """By somebody else, who may have died before a word of the answer was recorded."""
        self._in_this_try = False
        self._failures = self._cuts = 0
        self._stuck = 0.0
        self._wished = message.cancelling
        self._unheeded = False
        self._inbox: Inbox | None = None
        self._asking: asyncio.Task[None] | None = None
        self.is_loose = False
        """Whether its agent may still be at it, though it is given up."""

    @property
    def _session_id(self) -> SessionId:
        return self._lease.fence.session_id

    def look_again(self, message: NextMessage) -> None:
        """Go on with what Redis says of the same message now."""
        self.message = message
        if message.cancelling:
            self.cancel()

    def cancel(self) -> None:
        """Have its agent end it: the agent's own last line is the outcome."""
        self._wished = True
        if self._inbox is not None and self._asking is None:
            self._asking = asyncio.create_task(self._ask_to_end(self._inbox))

    async def run(self) -> Ended | None:
        """Return how it ended; None when that has to be looked up first.

        Raises FenceLostError, and MessageEndedError when somebody else has ended it.
        """
        while True:
            self._in_this_try, begun_at = False, self._means.clock.monotonic()
            try:
                found = await self._means.pods.wait(self._session_id, self.message)
                if found is None:
                    return None
                begun_at = self._means.clock.monotonic()
                return await self._send(*found)
            except UnavailableError as error:
                ended = self._count(error, self._means.clock.monotonic() - begun_at)
                if ended is not None:
                    return ended
            except AgentError as error:
                self.is_loose = True
                _log.info("a message is given up: %s", error.message, extra={"session": self._session_id})
                return Ended(self._outcome_of(error), error.message)
            except MessageEndedError:
                self.is_loose = self._begun
                raise
            pause = _pause(self._failures - 1)
            self._stuck += pause
            await self._means.clock.sleep(pause)
            if not await self._means.pods.is_wanted(self._session_id):
                return None

    async def _send(self, workspace: Workspace, pod: Pod) -> Ended:
        message, store = self.message, self._means.store
        # Files that die with their pod forget what was begun there.
        moved = message.started_in not in {None, pod.name} and not workspace.keeps_volume
        # It has waited as long as it had to.
        self.message = replace(message, hold_until=None, started_in=message.started_in or pod.name)
        await self._means.steadily(
            self._lease, lambda: store.start_message(self._lease.fence, message.message_id, pod.name)
        )
        if self._wished and not await self._means.agents.cancel(self._session_id, message.message_id):
            return Ended(MessageOutcome.CANCELLED)
        asked = AgentMessage(
            self._session_id,
            message.message_id,
            message.message,
            message.user_id,
            resume=self._seen,
            begun=self._begun or moved,
        )
        async with self._means.agents.send(asked) as lines:
            self._begun = self._in_this_try = True
            return await self._copy(lines)

    async def _copy(self, lines: AsyncIterator[ReplyDelta | ReplyEnd]) -> Ended:
        inbox = self._inbox = Inbox(lines)
        filling = asyncio.create_task(inbox.fill())
        try:
            if self._wished:
                self.cancel()
            while not isinstance(found := await inbox.take(), ReplyEnd):
                await self._record(found)
            return Ended(found.outcome, self._with_note(found.reason))
        finally:
            tasks = [task for task in (filling, self._asking) if task is not None]
            self._inbox = self._asking = None
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _record(self, piece: Piece) -> None:
        delta = piece.delta
        if delta.attempt != self._seen.attempt:
            self._reply_bytes, self._cut_short = 0, False
        if not self._cut_short:
            delta = self._fitting(delta)
            store, fence, message_id = self._means.store, self._lease.fence, self.message.message_id
            await self._means.steadily(
                self._lease,
                lambda: store.append_reply(fence, message_id, delta, piece.first_seq, self._reply_bytes),
            )
        self._seen = Progress(delta.attempt, delta.seq)
        if delta.seq > self._farthest:
            self._farthest = delta.seq
            self._cuts, self._stuck = 0, 0.0

    def _fitting(self, delta: ReplyDelta) -> ReplyDelta:
        """Return as much of it as is kept of one answer."""
        room = self._settings.max_reply_bytes - self._reply_bytes
        encoded = delta.text.encode()
        self._reply_bytes += len(encoded)
        if len(encoded) <= room:
            return delta
        self._cut_short = True
        return replace(delta, text=encoded[:room].decode(errors="ignore"))

    def _with_note(self, reason: str) -> str:
        if not self._cut_short:
            return reason
        note = f"the reply is longer than {self._settings.max_reply_bytes} bytes, and its rest is not kept"
        return f"{reason}; {note}" if reason else note

    def _count(self, error: UnavailableError, seconds: float) -> Ended | None:
        """Count a try that came to nothing; return the end of a message for which it was the last."""
        if seconds > CALM_SECONDS:
            self._failures = self._cuts = 0
        self._failures += 1
        if self._in_this_try:
            self._cuts += 1
        else:
            self._stuck += seconds
        _log.debug("a message has to be sent again: %s", error.message, extra={"session": self._session_id})
        limit = self._patience if self._wished else self._limit
        if self._stuck < limit and self._cuts < MOST_CUTS:
            return None
        self.is_loose = True
        _log.warning("a message is given up: %s", error.message, extra={"session": self._session_id})
        return Ended(self._outcome_of(error), f"it was given up: {error.message}")

    def _outcome_of(self, error: AgentError | UnavailableError) -> MessageOutcome:
        if self._wished and (self._unheeded or isinstance(error, UnavailableError)):
            return MessageOutcome.CANCELLED
        return MessageOutcome.INTERRUPTED if self._begun or self._sent_before else MessageOutcome.FAILED

    async def _ask_to_end(self, inbox: Inbox) -> None:
        """Tell the agent; one that does not heed it is not waited for for ever."""
        failures = 0
        while True:
            try:
                with suppress(AgentError):
                    await self._means.agents.cancel(self._session_id, self.message.message_id)
                break
            except UnavailableError:
                await self._means.clock.sleep(_pause(failures))
                failures += 1
        await self._means.clock.sleep(self._patience)
        self._unheeded = True
        inbox.fail(AgentError("its agent was told to end it and did not"))

    async def abandon(self) -> None:
        """Have its agent end it, if that is possible now: the next message must not wait for it."""
        with suppress(UnavailableError, AgentError):
            await self._means.agents.cancel(self._session_id, self.message.message_id)


def _pause(failures: int) -> float:
    return PAUSES[min(max(failures, 0), len(PAUSES) - 1)]
