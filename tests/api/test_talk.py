"""The whole way of a chat but for the pod: the manager's own dispatcher, and a real agent beside the test."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest

from sessionctl.factory import DirectOptions, open_factory
from sessionctl.models import SessionId
from tests.agent.process import AgentProcess, Agents
from tests.api.world import Api, open_api
from tests.support.near_agent import token_of, with_agent


@pytest.fixture
def agents(tmp_path: Path) -> Iterator[Agents]:
    """Agents on a workspace of this test."""
    started = Agents(tmp_path)
    yield started
    started.close()


@pytest.fixture
async def talk(options: DirectOptions, mine: SessionId, agents: Agents) -> AsyncIterator[tuple[Api, AgentProcess]]:
    """The application with a dispatcher, and the agent of its session."""
    async with open_factory(options) as factory:
        (agents.workspace.parent / "token").write_text(await token_of(factory, mine))
        agent = agents.start().ready()
        async with open_api(with_agent(factory, lambda: agent.port)) as api:
            await api.services.demand.sleep(mine, force=True)
            dispatcher = await api.factory.create_dispatcher()
            try:
                yield api, agent
            finally:
                await api.services.demand.sleep(mine, force=True)
                await dispatcher.close()


async def say(api: Api, session_id: SessionId, text: str) -> dict[str, Any]:
    answer = await api.post(f"/session/{session_id}/chat", json={"message": text}, params={"wait": 60})
    assert answer.status_code == 200, answer.text
    return answer.json()  # type: ignore[no-any-return]


async def test_a_message_to_a_sleeping_session_is_answered_and_the_agent_tells_the_conversation(
    talk: tuple[Api, AgentProcess], mine: SessionId
) -> None:
    api, agent = talk
    path = f"/session/{mine}/messages"
    said = [await say(api, mine, f"number {number}") for number in range(3)]
    assert [each["status"] for each in said] == ["done"] * 3
    assert all(f"number {number}" in each["reply"] for number, each in enumerate(said))

    whole = (await api.get(path)).json()
    assert (whole["partial"], whole["cursor"]) == (False, None)
    assert [(each["message_id"], each["reply"], each["status"]) for each in whole["messages"]] == [
        (each["message_id"], each["reply"], "done") for each in said
    ]
    newest = (await api.get(path, params={"limit": 2})).json()
    assert [each["message_id"] for each in newest["messages"]] == [each["message_id"] for each in said[1:]]
    before = (await api.get(path, params={"limit": 2, "cursor": newest["cursor"]})).json()
    assert ([each["message_id"] for each in before["messages"]], before["cursor"]) == ([said[0]["message_id"]], None)

    # What Redis does not hold any more the agent still has: also for whoever asks for a reply once more.
    await api.services.store._client.delete(f"events:{mine}")  # type: ignore[attr-defined]
    again = await api.services.chats.conversations.find(mine, said[0]["message_id"], 100)
    assert again is not None
    assert again.reply == said[0]["reply"]

    agent.kill()
    silent = (await api.get(path)).json()
    assert (silent["partial"], silent["messages"]) == (True, [])


async def test_what_waits_is_shown_after_what_the_agent_knows(talk: tuple[Api, AgentProcess], mine: SessionId) -> None:
    api, _ = talk
    path = f"/session/{mine}/messages"
    known = await say(api, mine, "known")
    # Nobody delivers these: whoever stored them told no dispatcher.
    waiting = ["w1", "w2"]
    fence = await api.services.store.take_dispatch(mine, "test", api.services.settings.chat.retry_limit)
    assert fence is not None
    for each in waiting:
        await api.services.demand.enqueue(mine, each, each, 100)
    shown = (await api.get(path)).json()
    assert [(each["message_id"], each["status"]) for each in shown["messages"]] == [
        (known["message_id"], "done"),
        ("w1", "queued"),
        ("w2", "queued"),
    ]
    seen = []
    cursor: dict[str, str] = {}
    for _ in range(3):
        page = (await api.get(path, params={"limit": 1} | cursor)).json()
        seen += [each["message_id"] for each in page["messages"]]
        cursor = {"cursor": page["cursor"] or ""}
    assert seen == ["w2", "w1", known["message_id"]]
    assert cursor == {"cursor": ""}
    await api.services.store.drop_dispatch(fence)
