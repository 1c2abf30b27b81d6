"""The records in the file of a message."""

from __future__ import annotations

import hashlib
import json
from dataclasses import asdict, dataclass
from io import StringIO
from typing import TYPE_CHECKING, Final

from sessionctl.agent.clock import now
from sessionctl.agent.files import parse_line
from sessionctl.agent.lines import encode
from sessionctl.models import MessageOutcome

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from sessionctl.models import JsonObject, JsonValue
    from sessionctl.wire import MessageRequest


@dataclass(frozen=True)
class Start:
    """The record that is durable before an attempt begins; ``repeatable`` is what its kind was then."""

    id: str
    attempt: int
    boot_id: str
    body_hash: str
    repeatable: bool
    user_id: str
    message: str
    at: str

    @classmethod
    def of(cls, request: MessageRequest, *, attempt: int, boot_id: str, repeatable: bool) -> Self:
        """Return the record for an attempt that begins now."""
        return cls(
            id=request.id,
            attempt=attempt,
            boot_id=boot_id,
            body_hash=hash_of(request),
            repeatable=repeatable,
            user_id=request.user_id,
            message=request.message,
            at=now(),
        )

    @classmethod
    def parse(cls, found: JsonValue) -> Self | None:
        """Return the record that was read; None when it is not one of ours."""
        if not isinstance(found, dict) or any(type(found.get(name)) is not kind for name, kind in _TYPES.items()):
            return None
        return cls(**{name: found[name] for name in _TYPES})  # type: ignore[arg-type]  # compared above

    def line(self) -> bytes:
        """Return the record as a line."""
        return encode({"start": asdict(self)})


_TYPES: Final[dict[str, type]] = {
    "id": str,
    "attempt": int,
    "boot_id": str,
    "body_hash": str,
    "repeatable": bool,
    "user_id": str,
    "message": str,
    "at": str,
}


@dataclass(frozen=True)
class Recorded:
    """What the file of a message says about its last attempt."""

    file: Path
    start: Start
    offset: int
    """Where the lines of the answer begin."""
    size: int
    lines: int
    """Number of the last line, 0 without any."""
    reply: str
    outcome: MessageOutcome | None
    """None when it was cut off."""
    reason: str | None
    first_line: int = 1
    """Number of the first line: an attempt whose beginning was lost goes on where its caller had come to."""


def hash_of(request: MessageRequest) -> str:
    """Return what tells one message from another under the same id, however its JSON was written."""
    return hashlib.sha256(json.dumps([request.user_id, request.message]).encode()).hexdigest()


def read(file: Path) -> Recorded | None:
    """Read the last attempt; None when no start was recorded whole, so that nothing was run.

    The user can write here too: a line that is not ours is passed over.
    """
    start: Start | None = None
    first: JsonObject = {}
    last: JsonObject = {}
    size = offset = 0
    reply = StringIO()  # a reply may have come one character a line
    with file.open("rb") as stream:
        for line in stream:
            size += len(line)
            found = parse_line(line) or {}
            if (begun := Start.parse(found.get("start"))) is not None:
                start, offset, first, last, reply = begun, size, {}, {}, StringIO()
            elif isinstance(found.get("seq"), int) and ("delta" in found or "outcome" in found):
                first, last = first or found, found
                reply.write(str(found.get("delta", "")))
    if start is None:
        return None
    return Recorded(
        file=file,
        start=start,
        offset=offset,
        size=size,
        lines=_integer(last.get("seq")),
        reply=reply.getvalue(),
        outcome=_outcome(last.get("outcome")),
        reason=None if last.get("reason") is None else str(last["reason"]),
        first_line=max(1, _integer(first.get("seq"))),
    )


def _integer(value: JsonValue) -> int:
    return value if isinstance(value, int) else 0


def _outcome(value: JsonValue) -> MessageOutcome | None:
    return MessageOutcome(value) if isinstance(value, str) and value in set(MessageOutcome) else None
