"""The conversation as the user sees it: each message and its reply, one JSON object a line."""

from __future__ import annotations

import os
from dataclasses import replace
from itertools import islice
from typing import TYPE_CHECKING, Final

from sessionctl.agent.clock import now
from sessionctl.agent.files import last_lines, open_to_append, parse_line, storage_errors, sync_folder, write_all
from sessionctl.agent.lines import encode
from sessionctl.agent.pages import Page, Turn, read_turns, take_page

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sessionctl.agent.records import Recorded
    from sessionctl.models import JsonObject

MAX_CONTEXT_TURNS: Final = 200


class Conversation:
    """``conversation.jsonl``, written to its end only."""

    def __init__(self, file: Path) -> None:
        self._file = file

    @storage_errors()
    def prepare(self) -> None:
        """Make the file, and repair its last line."""
        fresh = not self._file.exists()
        os.close(open_to_append(self._file, create=True))
        if fresh:
            sync_folder(self._file.parent)

    @storage_errors()
    def add(self, recorded: Recorded) -> None:
        """Append the pair of a message that ended, or what of it is missing.

        Pairs are written one after the other, so what is there of this one can only stand at the end.
        """
        descriptor = open_to_append(self._file, create=True)
        try:
            there = [parse_line(line) or {} for line in last_lines(descriptor, 2)]
            known = {(entry.get("id"), entry.get("role")) for entry in there if _is_key(entry)}
            missing = [entry for entry in _pair(recorded) if (entry["id"], entry["role"]) not in known]
            write_all(descriptor, b"".join(map(encode, missing)))
        finally:
            os.close(descriptor)

    @storage_errors()
    def sync(self) -> None:
        """Make durable what was added."""
        descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            os.fsync(descriptor)
        finally:
            os.close(descriptor)

    @storage_errors()
    def read_page(self, running: Recorded | None, before: str | None, limit: int) -> Page:
        """Return the newest messages before one, from the end of the file; raises NotFoundError for an unknown one."""
        descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            if before is not None and (running is None or before != running.start.id):
                return take_page(read_turns(descriptor, before), limit)
            turns = _with(running, read_turns(descriptor))
            return take_page(turns if before is None else islice(turns, 1, None), limit)
        finally:
            os.close(descriptor)

    @storage_errors()
    def read_context(self, characters: int) -> list[Turn]:
        """Return the last turns with a reply, as many as that many characters hold, oldest first.

        Of a last one that is longer, the end is better than nothing.
        """
        turns: list[Turn] = []
        descriptor = os.open(self._file, os.O_RDONLY | os.O_CLOEXEC)
        try:
            for turn in islice(read_turns(descriptor), MAX_CONTEXT_TURNS):
                if not turn.reply:
                    continue
                size, half = len(turn.message) + len(turn.reply), characters // 2
                if size <= characters:
                    turns.append(turn)
                elif not turns and half:
                    turns.append(replace(turn, message=turn.message[-half:], reply=turn.reply[-half:]))
                characters -= size
                if characters <= 0:
                    break
        finally:
            os.close(descriptor)
        return turns[::-1]


def _with(running: Recorded | None, turns: Iterator[Turn]) -> Iterator[Turn]:
    """Put the message that runs first, unless its pair has just been written."""
    newest = next(turns, None)
    if running is not None and (newest is None or newest.id != running.start.id):
        start = running.start
        yield Turn(start.id, start.message, running.reply, None, None, start.at)
    if newest is not None:
        yield newest
    yield from turns


def _is_key(entry: JsonObject) -> bool:
    return isinstance(entry.get("id"), str) and isinstance(entry.get("role"), str)


def _pair(recorded: Recorded) -> list[JsonObject]:
    start = recorded.start
    asked: JsonObject = {
        "id": start.id,
        "role": "user",
        "user_id": start.user_id,
        "text": start.message,
        "at": start.at,
    }
    reply: JsonObject = {
        "id": start.id,
        "role": "assistant",
        "text": recorded.reply,
        "outcome": recorded.outcome,
        "at": now(),
    }
    if recorded.reason is not None:
        reply["reason"] = recorded.reason
    return [asked, reply]
