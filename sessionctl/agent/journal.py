"""What is remembered of each message: one file each, written to its end only.

    messages/open/<id>.jsonl    runs, was cut off, or its pair may not be in the conversation yet
    messages/done/<id>.jsonl    settled

A file holds, for each attempt, a start record and then the very lines of the answer. When the agent starts it reads
``open`` only, which holds what one process left unfinished: a long history does not make a wake slower.
"""

from __future__ import annotations

import os
from contextlib import suppress
from io import StringIO
from typing import TYPE_CHECKING, Final

from sessionctl.agent.files import ensure_folder, open_to_append, storage_errors, sync_folder, write_all
from sessionctl.agent.lines import MAX_REASON_CHARACTERS, delta_line, end_line
from sessionctl.agent.records import Recorded, Start, read
from sessionctl.errors import UnavailableError

if TYPE_CHECKING:
    from pathlib import Path

    from sessionctl.models import MessageOutcome

SUFFIX: Final = ".jsonl"
KEPT: Final = 1000
"""Settled messages that can still be replayed; nobody has more than 100 waiting (DESIGN 5)."""


class OpenMessage:
    """The file of the one message that may be written."""

    def __init__(self, file: Path, start: Start, descriptor: int, lines: int = 0) -> None:
        self.file = file
        self.start = start
        self.descriptor = descriptor
        self.size = os.fstat(descriptor).st_size
        self.offset = self.size
        self._lines = lines
        self._reply = StringIO()
        self._end: tuple[MessageOutcome, str | None] | None = None

    @storage_errors()
    def add_delta(self, delta: str) -> None:
        """Write the next piece of the reply; it survives this process, not yet the node."""
        self._add(delta_line(self.start.attempt, self._lines + 1, delta))
        self._reply.write(delta)

    @storage_errors()
    def add_end(self, outcome: MessageOutcome, reason: str | None) -> None:
        """Write how it ended and make the whole answer durable: from here on this is the outcome."""
        self._add(end_line(self.start.attempt, self._lines + 1, outcome, reason))
        os.fsync(self.descriptor)
        self._end = outcome, reason

    def recorded(self) -> Recorded:
        """Return what the file says of an attempt that was begun here; to read it may take longer than there is."""
        outcome, reason = self._end or (None, None)
        return Recorded(
            file=self.file,
            start=self.start,
            offset=self.offset,
            size=self.size,
            lines=self._lines,
            reply=self._reply.getvalue(),
            outcome=outcome,
            reason=reason[:MAX_REASON_CHARACTERS] if reason else None,
        )

    @storage_errors()
    def sync(self) -> None:
        """Make durable what was written, for a message that is left unfinished."""
        os.fsync(self.descriptor)

    def close(self) -> None:
        """Give the file back."""
        os.close(self.descriptor)

    def _add(self, line: bytes) -> None:
        write_all(self.descriptor, line)
        self._lines += 1
        self.size += len(line)


class Journal:
    """The files of all messages of a workspace."""

    def __init__(self, folder: Path) -> None:
        self._open = folder / "open"
        self._done = folder / "done"

    @storage_errors()
    def prepare(self) -> None:
        """Make the folders where they are missing."""
        ensure_folder(self._open)
        ensure_folder(self._done)

    @storage_errors()
    def find(self, message_id: str) -> Recorded | None:
        """Return what is known of a message that does not run; None when it never began."""
        name = message_id + SUFFIX
        if (self._open / name).exists():
            return _read_repaired(self._open / name)
        return read(self._done / name) if (self._done / name).exists() else None

    @storage_errors()
    def list_unsettled(self) -> list[Recorded]:
        """Return the messages that were begun and not settled; one that ended comes first, then the oldest."""
        found = [recorded for file in self._open.glob(f"*{SUFFIX}") if (recorded := _read_repaired(file))]
        return sorted(found, key=lambda recorded: (recorded.outcome is None, recorded.start.at))

    @storage_errors()
    def begin(self, start: Start) -> OpenMessage:
        """Make the start of an attempt durable; only after this may the message be run."""
        file = self._open / f"{start.id}{SUFFIX}"
        descriptor = open_to_append(file, create=True)
        try:
            write_all(descriptor, start.line())
            os.fsync(descriptor)
            sync_folder(self._open)
            return OpenMessage(file, start, descriptor)
        except BaseException:
            os.close(descriptor)
            raise

    @storage_errors()
    def end(self, recorded: Recorded, outcome: MessageOutcome, reason: str) -> Recorded:
        """End an attempt that was cut off, and return what is known of it then."""
        message = OpenMessage(recorded.file, recorded.start, open_to_append(recorded.file), recorded.lines)
        try:
            message.add_end(outcome, reason)
        finally:
            message.close()
        return read(recorded.file) or recorded

    @storage_errors()
    def refuse(self, start: Start, lines: int, outcome: MessageOutcome, reason: str) -> Recorded:
        """Record the end of a message that is not run, after so many lines of it that somebody else saw."""
        file = self._open / f"{start.id}{SUFFIX}"
        descriptor = open_to_append(file, create=True)
        try:
            write_all(descriptor, start.line() + end_line(start.attempt, lines + 1, outcome, reason))
            os.fsync(descriptor)
            sync_folder(self._open)
        finally:
            os.close(descriptor)
        recorded = read(file)
        if recorded is None:
            raise UnavailableError("the workspace does not keep what is written")
        return recorded

    @storage_errors()
    def peek(self, message: OpenMessage) -> Recorded | None:
        """Return how far the message has come that runs; its file is not touched."""
        return read(message.file) if message.file.exists() else None

    @storage_errors()
    def settle(self, recorded: Recorded) -> None:
        """Put a message away whose outcome and pair are durable."""
        with suppress(FileNotFoundError):  # the user can remove it
            recorded.file.rename(self._done / recorded.file.name)
        sync_folder(self._done)
        sync_folder(self._open)

    @storage_errors()
    def prune(self, kept: int = KEPT) -> None:
        """Forget all settled messages but the newest."""
        files = sorted(self._done.glob(f"*{SUFFIX}"), key=lambda file: file.stat().st_mtime, reverse=True)
        for file in files[kept:]:
            file.unlink(missing_ok=True)


def _read_repaired(file: Path) -> Recorded | None:
    os.close(open_to_append(file))
    return read(file)
