"""An agent's answer, cut into lines and checked: each line, and what may follow which (DESIGN 7)."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Final

from pydantic import BaseModel, ConfigDict, Field, ValidationError

from sessionctl.errors import AgentError
from sessionctl.models import MessageOutcome, Progress, ReplyDelta, ReplyEnd
from sessionctl.wire import MAX_LINE_BYTES

if TYPE_CHECKING:
    from collections.abc import Sequence

MAX_REASON_CHARACTERS: Final = 1000

_BLANK: Final = b" \t\r\n"


class _Line(BaseModel):
    """Either shape of a line in ``wire``; fields of a newer agent are ignored."""

    model_config = ConfigDict(frozen=True, extra="ignore", strict=True)

    seq: int
    attempt: Annotated[int, Field(ge=1, lt=1 << 31)]
    delta: str | None = None
    outcome: Annotated[MessageOutcome | None, Field(strict=False)] = None
    reason: str | None = None


class LineReader:
    """Takes the bytes of one answer as they come; raises AgentError for the first thing that is wrong."""

    def __init__(self, resume: Progress) -> None:
        self._seen = resume
        self._rest = b""
        self.ended = False
        """Whether the last line was there: nothing may follow."""

    def feed(self, data: bytes) -> Sequence[ReplyDelta | ReplyEnd]:
        """Return the lines that are complete now."""
        *lines, self._rest = (self._rest + data).split(b"\n") if self._rest else data.split(b"\n")
        if len(self._rest) >= MAX_LINE_BYTES:
            raise _too_long()
        # Signs of life are empty lines.
        found = [self._line(line) for line in lines if line and not line.isspace()]
        if self.ended and self._rest.strip(_BLANK):
            raise _goes_on()
        return found

    def _line(self, line: bytes) -> ReplyDelta | ReplyEnd:
        if self.ended:
            raise _goes_on()
        if len(line) >= MAX_LINE_BYTES:
            raise _too_long()
        try:
            read = _Line.model_validate_json(line)
        except ValidationError as error:
            # What it wrote is nobody's business outside its session: only where it is wrong is said.
            place = ".".join(str(part) for part in error.errors(include_input=False, include_url=False)[0]["loc"])
            raise AgentError(f"the agent's answer has a line that is none{place and ': '}{place}") from None
        seen = self._seen
        follows = read.seq == seen.seq + 1 if read.attempt == seen.attempt else read.seq == 1
        if not follows or read.attempt < seen.attempt:
            msg = f"the agent's answer is out of order: line {seen.seq} of attempt {seen.attempt} was the last"
            raise AgentError(msg)
        if (read.delta is None) is (read.outcome is None):
            raise AgentError("the agent's answer has a line that is neither a piece nor the end")
        self._seen = Progress(read.attempt, read.seq)
        if read.outcome is None:
            return ReplyDelta(read.attempt, read.seq, read.delta or "")
        self.ended = True
        return ReplyEnd(read.attempt, read.seq, read.outcome, (read.reason or "")[:MAX_REASON_CHARACTERS])


def _too_long() -> AgentError:
    return AgentError(f"the agent's answer has a line of more than {MAX_LINE_BYTES} bytes")


def _goes_on() -> AgentError:
    return AgentError("the agent's answer goes on after its end")
