"""Kind ``command``: a program gets the message on standard input, and what it prints is the reply."""

from __future__ import annotations

import codecs
import signal
from typing import TYPE_CHECKING, Final

from sessionctl.agent.children import Child
from sessionctl.agent.kinds import FailedReplyError
from sessionctl.agent.policy import AfterCut
from sessionctl.agent.settings import public

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping
    from pathlib import Path

    from sessionctl.agent.children import Ending
    from sessionctl.agent.lock import WorkspaceLock
    from sessionctl.agent.records import Start
    from sessionctl.agent.settings import CommandSettings

TAIL_CHARACTERS: Final = 800


class Command:
    """Runs the configured program, once for each message."""

    def __init__(
        self, settings: CommandSettings, folder: Path, environment: Mapping[str, str], lock: WorkspaceLock
    ) -> None:
        self._command = settings.command
        self._folder = folder
        self._environment = public(environment)
        self._lock = lock
        self.repeatable = settings.on_interrupt is AfterCut.RETRY

    def warm_up(self) -> None:
        """Nothing is slow the first time."""

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        """Yield what it prints; raises FailedReplyError unless its exit code is 0."""
        child = await self._start(asked)
        try:
            child.feed(asked.message.encode())
            decoder = codecs.getincrementaldecoder("utf-8")("replace")
            async for data in child.read():
                if text := decoder.decode(data):
                    yield text
            if text := decoder.decode(b"", final=True):
                yield text
            ending = await child.wait()
        finally:
            await child.close()
        if ending.exit != 0:
            raise FailedReplyError(_why(ending, child.complaints))

    async def _start(self, asked: Start) -> Child:
        environment = self._environment | {
            "SESSIONCTL_MESSAGE_ID": asked.id,
            "SESSIONCTL_MESSAGE_ATTEMPT": str(asked.attempt),
            "SESSIONCTL_MESSAGE_USER_ID": asked.user_id,
        }
        try:
            return await Child.start(
                self._command, folder=self._folder, environment=environment, lock=self._lock.descriptor
            )
        except (OSError, ValueError) as error:
            why = error.strerror if isinstance(error, OSError) else "a NUL character is in its way"
            raise FailedReplyError(f"the command could not be run: {why}") from error


def _why(ending: Ending, complaints: bytes) -> str:
    if ending.error is not None:
        return f"the command could not be run: {ending.error}"
    if ending.exit is None:
        return "the command was killed"
    how = f"exit code {ending.exit}" if ending.exit > 0 else _signal(-ending.exit)
    said = complaints.decode(errors="replace").strip()[-TAIL_CHARACTERS:]
    return f"the command ended with {how}: {said}" if said else f"the command ended with {how}"


def _signal(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
