"""The lines of an answer as bytes; the file of a message and the HTTP answer hold the same ones."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.wire import MAX_LINE_BYTES, MessageDelta, MessageEnd

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessionctl.models import MessageOutcome

_FRAME_BYTES: Final = 256
_WIDEST_CHARACTER: Final = 6
"""A control character becomes six bytes of JSON; UTF-8 needs four at most."""
MAX_DELTA_CHARACTERS: Final = (MAX_LINE_BYTES - _FRAME_BYTES) // _WIDEST_CHARACTER
MAX_REASON_CHARACTERS: Final = 1000


def split(piece: str) -> Iterator[str]:
    """Cut a piece of a reply so that each part fits on a line whatever characters it holds."""
    for start in range(0, len(piece), MAX_DELTA_CHARACTERS):
        yield piece[start : start + MAX_DELTA_CHARACTERS]


def delta_line(attempt: int, seq: int, delta: str) -> bytes:
    """Return the line for one part of a reply."""
    return _line(MessageDelta(seq=seq, attempt=attempt, delta=delta))


def end_line(attempt: int, seq: int, outcome: MessageOutcome, reason: str | None) -> bytes:
    """Return the terminal line."""
    cut = reason[:MAX_REASON_CHARACTERS] if reason else None
    return _line(MessageEnd(seq=seq, attempt=attempt, outcome=outcome, reason=cut))


def _line(shape: MessageDelta | MessageEnd) -> bytes:
    return shape.model_dump_json(exclude_none=True).encode() + b"\n"
