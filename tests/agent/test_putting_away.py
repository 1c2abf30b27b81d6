"""What is done with a reply once it has ended, while SIGTERM may be there already."""

from __future__ import annotations

from collections.abc import AsyncGenerator
from pathlib import Path

import pytest

from sessionctl.agent import journal as journals
from sessionctl.agent.conversation import Conversation
from sessionctl.agent.journal import Journal
from sessionctl.agent.kinds import FailedReplyError
from sessionctl.agent.records import Recorded, Start, read
from sessionctl.agent.runner import Runner
from sessionctl.wire import MessageRequest, MessageResume


class Talker:
    """Replies with characters, a line each."""

    repeatable = False

    def warm_up(self) -> None:
        """Nothing."""

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        """Reply."""
        for character in asked.message:
            yield character
        if asked.message.endswith("!"):
            raise FailedReplyError("r" * 5000)


@pytest.mark.parametrize("text", ["hello \U0001f600 \ud83d", "it fails!", "x"])
async def test_a_reply_is_put_away_without_being_read_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, text: str
) -> None:
    """Half a million lines take many seconds to read: as long as there is between SIGTERM and SIGKILL."""
    conversation = Conversation(tmp_path / "conversation.jsonl")
    runner = Runner(Journal(tmp_path / "messages"), conversation, Talker(), "boot")
    await runner.recover()
    looked: list[Path] = []

    def look(file: Path) -> Recorded | None:
        looked.append(file)
        return read(file)

    monkeypatch.setattr(journals, "read", look)
    lines = await runner.answer(MessageRequest.model_construct(id="m1", message=text, user_id="a"), MessageResume())
    told = b"".join([line async for line in lines])
    while runner.is_running:
        await runner.stop(60)
    assert looked == []
    file = tmp_path / "messages" / "done" / "m1.jsonl"
    recorded = read(file)
    assert recorded is not None
    assert file.read_bytes().endswith(told)
    (turn,) = conversation.read_page(None, None, 5).turns
    assert (turn.message, turn.reply, turn.outcome, turn.reason) == (
        recorded.start.message,
        recorded.reply,
        recorded.outcome,
        recorded.reason,
    )
