"""The records in the file of a message."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from sessionctl.agent.clock import now
from sessionctl.agent.files import parse_line
from sessionctl.wire import MessageDelta, MessageEnd

if TYPE_CHECKING:
    from pathlib import Path
    from typing import Self

    from sessionctl.wire import MessageRequest


class Start(BaseModel):
    """The record that is durable before an attempt begins; ``repeatable`` is what its kind was then."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

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


@dataclass(frozen=True)
class Recorded:
    """What the file of a message says about its last attempt."""

    file: Path
    start: Start
    offset: int
    """Where the lines of the answer begin."""
    size: int
    lines: int
    reply: str
    end: MessageEnd | None


def hash_of(request: MessageRequest) -> str:
    """Return what tells one message from another under the same id, however its JSON was written."""
    return hashlib.sha256(json.dumps([request.user_id, request.message]).encode()).hexdigest()


def read(file: Path) -> Recorded | None:
    """Read the last attempt; None when no start was recorded whole, so that nothing was run."""
    start: Start | None = None
    end: MessageEnd | None = None
    pieces: list[str] = []
    size = offset = lines = 0
    with file.open("rb") as stream:
        for line in stream:
            size += len(line)
            found = parse_line(line) or {}
            try:
                if "start" in found:
                    start = Start.model_validate(found["start"])
                    offset, lines, pieces, end = size, 0, [], None
                elif "delta" in found:
                    delta = MessageDelta.model_validate(found)
                    lines = delta.seq
                    pieces.append(delta.delta)
                elif "outcome" in found:
                    end = MessageEnd.model_validate(found)
                    lines = end.seq
            except ValidationError:
                continue  # the user can write here too; what is not ours is nobody's answer
    return None if start is None else Recorded(file, start, offset, size, lines, "".join(pieces), end)
