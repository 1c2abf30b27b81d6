"""The lines of an answer in the shapes of ``wire``: the same bytes in the file of a message and in the HTTP answer."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessionctl.models import JsonObject, MessageOutcome

MAX_DELTA_CHARACTERS: Final = 10_000
"""Six bytes of JSON for each, as control characters need, and the rest of the line fit into ``wire.MAX_LINE_BYTES``."""
MAX_REASON_CHARACTERS: Final = 1000


def split(piece: str) -> Iterator[str]:
    """Cut a piece of a reply so that each part fits on a line whatever characters it holds."""
    for start in range(0, len(piece), MAX_DELTA_CHARACTERS):
        yield piece[start : start + MAX_DELTA_CHARACTERS]


def delta_line(attempt: int, seq: int, delta: str) -> bytes:
    """Return the line for one part of a reply, a ``wire.MessageDelta``."""
    return encode({"seq": seq, "attempt": attempt, "delta": delta})


def end_line(attempt: int, seq: int, outcome: MessageOutcome, reason: str | None) -> bytes:
    """Return the terminal line, a ``wire.MessageEnd``."""
    end: JsonObject = {"seq": seq, "attempt": attempt, "outcome": outcome}
    if reason:
        end["reason"] = reason[:MAX_REASON_CHARACTERS]
    return encode(end)


def encode(line: JsonObject) -> bytes:
    """Return one line; half of a surrogate pair, which is no text, becomes a question mark."""
    return json.dumps(line, ensure_ascii=False, separators=(",", ":")).encode(errors="replace") + b"\n"
