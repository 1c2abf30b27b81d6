"""Pages of the conversation, read from its end: an old workspace's is large, and nobody asks for its beginning."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sessionctl.agent.files import parse_line, read_span, spans_from_the_end
from sessionctl.agent.lines import encode
from sessionctl.errors import NotFoundError
from sessionctl.models import MessageOutcome

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from sessionctl.models import JsonObject

MAX_PAGE_BYTES: Final = 1024 * 1024
"""Of JSON, if there is more than one message; one alone, all control characters, has up to three times as many."""
MAX_TEXT_CHARACTERS: Final = 256 * 1024
MAX_LINE_BYTES: Final = 64 * 1024 * 1024
"""Six bytes for each character of the longest reply; the user can write here, and may write longer lines."""


@dataclass(frozen=True)
class Turn:
    """A message and its reply; ``outcome`` is None while it runs."""

    id: str
    message: str
    reply: str
    outcome: MessageOutcome | None
    reason: str | None
    at: str
    cut: bool = False


@dataclass(frozen=True)
class Page:
    """Some turns, oldest first; ``more`` says that there are older ones."""

    turns: tuple[Turn, ...]
    more: bool


def read_turns(descriptor: int, before: str | None = None) -> Iterator[Turn]:
    """Yield what the conversation holds, the newest first, one line in memory at a time.

    Raises NotFoundError when ``before`` is not in it. A line that is not ours is passed over.
    """
    spans = spans_from_the_end(descriptor)
    if before is not None:
        _pass_over(descriptor, spans, before)
    reply: JsonObject = {}
    for start, end in spans:
        if end - start > MAX_LINE_BYTES:
            continue
        entry = parse_line(read_span(descriptor, start, end)) or {}
        if entry.get("role") == "assistant":
            reply = entry
        elif (turn := _turn(entry, reply)) is not None:
            yield turn


def take_page(turns: Iterable[Turn], limit: int) -> Page:
    """Return the first of these turns as a page of bounded size, the oldest first."""
    taken: list[Turn] = []
    left = MAX_PAGE_BYTES
    for whole in turns:
        turn = _shorten(whole)
        left -= len(encode({"message": turn.message, "reply": turn.reply}))
        if len(taken) == limit or (taken and left < 0):
            return Page(tuple(reversed(taken)), more=True)
        taken.append(turn)
    return Page(tuple(reversed(taken)), more=False)


def _pass_over(descriptor: int, spans: Iterator[tuple[int, int]], message_id: str) -> None:
    """Go on to the line before the pair of a message."""
    beginning = f'{{"id":"{message_id}","role":"user"'.encode()
    for start, end in spans:
        if read_span(descriptor, start, min(end, start + len(beginning))) == beginning:
            return
    raise NotFoundError(f"there is no message {message_id} in the conversation")


def _turn(asked: JsonObject, replied: JsonObject) -> Turn | None:
    if asked.get("role") != "user" or asked.get("id") != replied.get("id"):
        return None
    match asked, replied:
        case {"id": str(name), "text": str(message), "at": str(at)}, {"text": str(reply), "outcome": str(outcome)}:
            reason = replied.get("reason")
            text = None if reason is None else str(reason)
            if outcome in set(MessageOutcome) and _is_time(at) and _is_text(f"{name}{message}{reply}{text}"):
                return Turn(name, message, reply, MessageOutcome(outcome), text, at)
        case _:
            pass
    return None


def _is_text(text: str) -> bool:
    try:
        text.encode()
    except UnicodeEncodeError:
        return False
    return True


def _is_time(text: str) -> bool:
    try:
        datetime.fromisoformat(text)
    except ValueError:
        return False
    return True


def _shorten(turn: Turn) -> Turn:
    message, reply = turn.message[:MAX_TEXT_CHARACTERS], turn.reply[:MAX_TEXT_CHARACTERS]
    cut = len(message) < len(turn.message) or len(reply) < len(turn.reply)
    return replace(turn, message=message, reply=reply, cut=True) if cut else turn
