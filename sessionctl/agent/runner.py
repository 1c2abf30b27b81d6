"""Runs messages one at a time and gives each exactly one outcome, whatever dies (DESIGN 7)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final

from sessionctl.agent.kinds import FailedReplyError
from sessionctl.agent.lines import split
from sessionctl.agent.policy import AfterCut, after_a_cut
from sessionctl.agent.records import Start, hash_of
from sessionctl.agent.running import Cut, Progress, Running, join, replay
from sessionctl.errors import ConflictError, NotFoundError, UnavailableError
from sessionctl.models import MessageOutcome

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator

    from sessionctl.agent.conversation import Conversation
    from sessionctl.agent.journal import Journal, OpenMessage
    from sessionctl.agent.kinds import Kind
    from sessionctl.agent.pages import Page
    from sessionctl.agent.records import Recorded
    from sessionctl.wire import MessageRequest, MessageResume

CUT_OFF: Final = "the workspace stopped while the message ran"
BROKEN: Final = "the agent failed; its log says why"
LOST: Final = "the workspace lost what it knew of the message"
CANCELLED: Final = "somebody cancelled it"
MAX_REPLY_CHARACTERS: Final = 6 << 20
"""Below ``chat.maxReplyBytes`` for most texts, and what the agent can hold in its memory while it puts one away."""
TOO_LONG: Final = "\n[the rest of the reply is left out: it is too long]\n"
EARLY_CANCELS: Final = 1000
"""Ids that are remembered, because their message may still be on its way here."""
_logger = logging.getLogger(__name__)


class Runner:
    """Owns the one message that runs, the journal and the conversation."""

    def __init__(self, journal: Journal, conversation: Conversation, kind: Kind, boot_id: str) -> None:
        self._journal = journal
        self._conversation = conversation
        self.kind = kind
        self._boot_id = boot_id
        self._running: Running | None = None
        self._stopped = False
        self._cancelled_early: dict[str, None] = {}
        # Held from the look at what is known of a message until that was acted on: nothing is begun twice.
        self._turn = asyncio.Lock()

    @property
    def is_running(self) -> bool:
        """Whether a message runs."""
        return self._running is not None

    async def recover(self) -> None:
        """Complete what an earlier process left; raises UnavailableError for a workspace that cannot be used at all."""
        self._journal.prepare()
        self._conversation.prepare()
        try:
            await asyncio.to_thread(self._settle_all)
        except UnavailableError as error:
            # Each message is refused until there is room again; a workspace that never starts could not be given any.
            _logger.error("what was left unfinished stays so: %s", error.message)  # noqa: TRY400 - no bug of ours

    async def prune(self) -> None:
        """Forget messages that nobody can ask for any more."""
        try:
            await asyncio.to_thread(self._journal.prune)
        except UnavailableError as error:
            _logger.warning("old messages stay: %s", error.message)

    async def answer(self, request: MessageRequest, seen: MessageResume) -> AsyncGenerator[bytes, None]:
        """Run a message, join it or repeat its answer; raises ConflictError or UnavailableError."""
        async with self._turn:
            if self._stopped:
                raise UnavailableError("the workspace is going to sleep")
            if running := await self._running_as(request.id):
                _refuse_another(running.message.start, request)
                return join(running, seen)
            recorded = await asyncio.to_thread(self._known, request.id)
            if recorded is None:
                return await self._answer_unknown(request, seen)
            _refuse_another(recorded.start, request)
            if recorded.outcome is not None:
                return replay(recorded, seen)
            return join(await self._begin(request, attempt=recorded.start.attempt + 1), seen)

    async def cancel(self, message_id: str) -> Recorded:
        """End a message, and return how it has ended; raises NotFoundError and UnavailableError."""
        async with self._turn:
            running = self._running
            if running is not None and running.message.start.id == message_id:
                running.cut_off(cancelled=True)
            else:
                return await self._cancel_idle(message_id)
        await asyncio.wait({running.task})
        recorded = await asyncio.to_thread(self._journal.find, message_id)
        if recorded is None or recorded.outcome is None:
            raise UnavailableError("what became of the message could not be recorded")
        return recorded

    async def converse(self, before: str | None, limit: int) -> Page:
        """Return some of the conversation, with the message that runs; raises NotFoundError and UnavailableError."""
        running = self._running
        return await asyncio.to_thread(self._read_page, running.message if running else None, before, limit)

    async def stop(self, patience: float) -> None:
        """Begin no more messages; let the running one end by itself for so many seconds, then cut it off."""
        self._stopped = True
        async with self._turn:
            running = self._running
        if running is None:
            return
        ended, _ = await asyncio.wait({running.task}, timeout=patience)
        if not ended:
            running.cut_off(cancelled=False)
            await asyncio.wait({running.task})

    async def _answer_unknown(self, request: MessageRequest, seen: MessageResume) -> AsyncGenerator[bytes, None]:
        """Run a message that nothing is known of, unless it may have run before."""
        # Who has seen lines of it knows that it was begun.
        begun = seen.begun or seen.attempt > 1 or seen.from_seq > 1
        if request.id in self._cancelled_early:
            outcome, reason = MessageOutcome.CANCELLED, CANCELLED
        elif begun and after_a_cut(repeatable=self.kind.repeatable) is AfterCut.INTERRUPT:
            outcome, reason = MessageOutcome.INTERRUPTED, LOST
        else:
            return join(await self._begin(request, attempt=seen.attempt + 1 if begun else 1), seen)
        # Should this process die in the middle of the next step, it is not run either.
        start = Start.of(request, attempt=seen.attempt if begun else 1, boot_id=self._boot_id, repeatable=False)
        lines = seen.from_seq - 1 if begun else 0
        return replay(await asyncio.to_thread(self._refuse, start, lines, outcome, reason), seen)

    async def _cancel_idle(self, message_id: str) -> Recorded:
        recorded = await asyncio.to_thread(self._journal.find, message_id)
        if recorded is None:
            self._cancelled_early[message_id] = None
            if len(self._cancelled_early) > EARLY_CANCELS:
                del self._cancelled_early[next(iter(self._cancelled_early))]
            raise NotFoundError(f"there is no message {message_id}")
        if recorded.outcome is not None:
            return recorded
        await self._running_as(message_id)
        return await asyncio.to_thread(self._cancel_cut_off, message_id)

    async def _running_as(self, message_id: str) -> Running | None:
        """Return the message with this id if it runs; one that has ended is waited for until it is put away."""
        running = self._running
        if running is None:
            return None
        if not running.progress.closed:
            if running.message.start.id == message_id:
                return running
            raise UnavailableError("another message runs", hint="Send this one again when that one has ended.")
        await asyncio.wait({running.task})
        return None

    async def _begin(self, request: MessageRequest, *, attempt: int) -> Running:
        start = Start.of(request, attempt=attempt, boot_id=self._boot_id, repeatable=self.kind.repeatable)
        await asyncio.to_thread(self._settle_all, request.id)
        message = await asyncio.to_thread(self._journal.begin, start)
        progress, cut = Progress(message.size), Cut()
        reply = asyncio.create_task(self._reply(message, progress))
        task = asyncio.create_task(self._see_through(message, progress, reply, cut))
        self._running = Running(message, progress, reply, cut, task)
        return self._running

    async def _reply(self, message: OpenMessage, progress: Progress) -> str | None:
        """Write the reply as it comes and return why it failed, if it did; raises UnavailableError."""
        left, note = MAX_REPLY_CHARACTERS, TOO_LONG
        try:
            async with aclosing(self.kind.reply(message.start)) as pieces:
                async for piece in pieces:
                    # What has no room is still read: whatever writes it is to end by itself.
                    kept = piece[:left]
                    left -= len(kept)
                    if len(kept) < len(piece):
                        kept, note = kept + note, ""
                    for delta in split(kept):
                        message.add_delta(delta)
                        progress.publish(message.size)
        except UnavailableError:
            raise
        except FailedReplyError as error:
            return str(error)
        except Exception:
            _logger.exception("message %s failed", message.start.id)
            return BROKEN
        return None

    async def _see_through(
        self, message: OpenMessage, progress: Progress, reply: asyncio.Task[str | None], cut: Cut
    ) -> None:
        """Record how a message ended, tell its readers, put it away."""
        try:
            await asyncio.wait({reply})
            retried = after_a_cut(repeatable=message.start.repeatable) is AfterCut.RETRY
            if reply.cancelled() and retried and not cut.cancelled:
                await asyncio.to_thread(message.sync)
                return
            await asyncio.to_thread(message.add_end, *_outcome(reply, cut))
            recorded = message.recorded()
            try:
                await asyncio.to_thread(self._conversation.add, recorded)
            finally:
                progress.publish(message.size)
                progress.close()
            await asyncio.to_thread(self._settle, recorded)
        except UnavailableError as error:
            # Whoever asks for it again gets it repeated or ended, as after a restart.
            _logger.error("message %s was given up: %s", message.start.id, error.message)  # noqa: TRY400 - no bug of ours
        finally:
            progress.close()
            message.close()
            self._running = None

    def _known(self, message_id: str) -> Recorded | None:
        recorded = self._journal.find(message_id)
        if recorded is None or recorded.outcome or after_a_cut(repeatable=recorded.start.repeatable) is AfterCut.RETRY:
            return recorded
        self._settle_all()
        return self._journal.find(message_id)

    def _refuse(self, start: Start, lines: int, outcome: MessageOutcome, reason: str) -> Recorded:
        self._settle_all()
        refused = self._journal.refuse(start, lines, outcome, reason)
        self._settle_all()
        return self._journal.find(start.id) or refused

    def _cancel_cut_off(self, message_id: str) -> Recorded:
        self._settle_all()
        recorded = self._journal.find(message_id)
        if recorded is None:
            raise UnavailableError("the workspace does not keep what is written")
        if recorded.outcome is None:
            recorded = self._journal.end(recorded, MessageOutcome.CANCELLED, CANCELLED)
            self._settle_all()
        return recorded

    def _read_page(self, running: OpenMessage | None, before: str | None, limit: int) -> Page:
        return self._conversation.read_page(self._journal.peek(running) if running else None, before, limit)

    def _settle(self, recorded: Recorded) -> None:
        self._conversation.sync()
        self._journal.settle(recorded)

    def _settle_all(self, begins: str | None = None) -> None:
        """Put away every message that ended or must not be run again, also all but the one that ``begins``.

        Chats come in order: nobody asks for an earlier one any more. At most one of them has an end already, the last
        that ran, and its pair is the last of the conversation.
        """
        for recorded in self._journal.list_unsettled():
            if recorded.outcome is None:
                retried = after_a_cut(repeatable=recorded.start.repeatable) is AfterCut.RETRY
                if retried and begins in {None, recorded.start.id}:
                    continue
                ended = self._journal.end(recorded, MessageOutcome.INTERRUPTED, CUT_OFF)
            else:
                ended = recorded
            self._conversation.add(ended)
            self._settle(ended)


def _refuse_another(start: Start, request: MessageRequest) -> None:
    if start.body_hash != hash_of(request):
        raise ConflictError(f"the id {request.id} was used for another message", hint="Use each id once.")


def _outcome(reply: asyncio.Task[str | None], cut: Cut) -> tuple[MessageOutcome, str | None]:
    if reply.cancelled():
        return (MessageOutcome.CANCELLED, CANCELLED) if cut.cancelled else (MessageOutcome.INTERRUPTED, CUT_OFF)
    reason = reply.result()
    return (MessageOutcome.DONE if reason is None else MessageOutcome.FAILED), reason
