"""What is asked of an agent over the port, and what came of it; for tests of real agents, fakes and tenants' own."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.models import AgentMessage, MessageOutcome, Progress, ReplyDelta, ReplyEnd, SessionId

if TYPE_CHECKING:
    from sessionctl.ports import Agents

SESSION = SessionId("5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11")
WORDS = "one two three"
NOTHING = Progress()
PATIENT = timedelta(seconds=30)
SHORT = timedelta(seconds=0.5)

Line = ReplyDelta | ReplyEnd


def asks(text: str = WORDS, message_id: str = "m1", resume: Progress = NOTHING, *, begun: bool = False) -> AgentMessage:
    return AgentMessage(SESSION, message_id, text, "alice", resume=resume, begun=begun)


async def answer(agents: Agents, message: AgentMessage) -> list[Line]:
    async with agents.send(message) as lines:
        return [line async for line in lines]


def words(lines: list[Line]) -> list[str]:
    return [line.text for line in lines if isinstance(line, ReplyDelta)]


def end(lines: list[Line]) -> tuple[int, int, MessageOutcome]:
    last = lines[-1]
    assert isinstance(last, ReplyEnd)
    return last.attempt, last.seq, last.outcome
