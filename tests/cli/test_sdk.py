"""The SDK against a real manager, through a network that loses requests and replies."""

from __future__ import annotations

import asyncio
import random
import re
import sys
from collections.abc import AsyncIterator
from contextlib import aclosing
from dataclasses import replace
from datetime import timedelta
from pathlib import Path

import pytest

from sessionctl.client import Patience, SessionClient
from sessionctl.core.identity import parse_session_id
from sessionctl.errors import ConflictError, NotFoundError
from sessionctl.models import EventKind, Scope, SessionEvent, SessionStatus
from tests.support.delivering import delivering
from tests.support.http_proxy import WHOLE, HttpProxy
from tests.support.served_api import ACME, ServedApi
from tests.support.steps import Steps
from tests.support.waiting import until

PATIENCE = Patience(pause=timedelta(milliseconds=5))


@pytest.fixture
async def api(served: ServedApi) -> AsyncIterator[SessionClient]:
    """A client of the manager itself."""
    async with SessionClient(served.url, served.key(), patience=PATIENCE) as client:
        yield client


async def test_a_session_s_life(api: SessionClient, steps: Steps) -> None:
    made = await api.create("sdk")
    steps.made.append(parse_session_id(made.uuid))
    assert (made.user_id, made.status) == ("sdk", SessionStatus.CREATED)
    assert (await api.wake(made.uuid)).status == "queued"
    await until(lambda: _is(api, made.uuid, SessionStatus.ACTIVE), "it is awake")
    assert [row.uuid async for row in api.list(user_id="sdk")] == [made.uuid]
    why = await api.why(made.uuid)
    assert (why.awake, why.status) == (True, SessionStatus.ACTIVE)
    assert why.held_by

    queued = await api.chat(made.uuid, "hello", idempotency_key="one")
    assert (await api.chat(made.uuid, "hello", idempotency_key="one")).message_id == queued.message_id
    (message,) = (await api.messages(made.uuid)).messages
    assert (message.message_id, message.message) == (queued.message_id, "hello")
    # Its pod is simulated, and serves nothing: whoever delivers it tries.
    assert message.status in {"queued", "running"}
    with pytest.raises(ConflictError, match="messages that wait or run"):
        await api.sleep(made.uuid)
    assert (await api.sleep(made.uuid, force=True)).status == "sleeping"
    assert [message.status for message in (await api.messages(made.uuid)).messages] == ["cancelled"]

    access = await api.access(made.uuid)
    assert access.scopes == (Scope.READ, Scope.WRITE)
    await api.revoke_access(made.uuid)
    assert (await api.delete(made.uuid)).status == "deleted"
    assert (await api.restore(made.uuid)).status == "restored"
    assert (await api.delete(made.uuid, purge=True)).status == "purged"
    with pytest.raises(NotFoundError, match=f"there is no session {made.uuid}"):
        await until(lambda: _is(api, made.uuid, SessionStatus.CREATED), "it is as if it had never been")


async def test_the_example_of_the_manual_works(served: ServedApi, api: SessionClient, steps: Steps) -> None:
    page = (Path(__file__).parents[2] / "docs/how-to/use-the-api.md").read_text()
    (example,) = re.findall(r"```python\n(.*?)```", page, re.DOTALL)
    given = {"SESSIONCTL_API_URL": served.url, "SESSIONCTL_API_KEY": served.key(ACME)}
    argv = (sys.executable, "-I", "-W", "error", "-c", example)
    process = await asyncio.create_subprocess_exec(*argv, env=given, stdout=asyncio.subprocess.PIPE)
    printed, _ = await process.communicate()
    lines = printed.decode().splitlines()
    uuid = lines[0].split()[1]
    steps.made.append(parse_session_id(uuid))
    assert process.returncode == 0
    assert "is active with 0 waiting messages" in lines
    assert lines[-1] == f"{uuid} active"


async def _is(api: SessionClient, uuid: str, status: SessionStatus) -> bool:
    return (await api.status(uuid)).session.status is status


@pytest.mark.parametrize("loss", [0, -1], ids=["the reply is lost", "the caller is cut off midway"])
async def test_a_create_whose_answer_is_lost_makes_one_session(
    served: ServedApi, api: SessionClient, steps: Steps, loss: int
) -> None:
    user = f"unlucky{loss}"
    losses = iter([loss, loss])
    async with (
        HttpProxy(served.port, lambda: next(losses, WHOLE)) as proxy,
        SessionClient(proxy.url, served.key(), patience=PATIENCE) as unlucky,
    ):
        made = await unlucky.create(user)
        assert proxy.cuts == 2
    steps.made.append(parse_session_id(made.uuid))
    assert [row.uuid async for row in api.list(user_id=user)] == [made.uuid]
    assert steps.census.of(made.uuid).releases == {1: "deployed"}


async def test_a_chat_whose_answer_is_lost_is_one_message(served: ServedApi, api: SessionClient, steps: Steps) -> None:
    uuid = await steps.create()
    losses = iter([0, 0])
    async with (
        HttpProxy(served.port, lambda: next(losses, WHOLE)) as proxy,
        SessionClient(proxy.url, served.key(), patience=PATIENCE) as unlucky,
    ):
        queued = await unlucky.chat(uuid, "once")
    assert [each.message_id for each in (await api.messages(uuid)).messages] == [queued.message_id]
    await api.sleep(uuid, force=True)


@pytest.mark.parametrize("seed", range(3))
async def test_a_stream_that_is_cut_misses_nothing_and_repeats_nothing(
    served: ServedApi, api: SessionClient, steps: Steps, seed: int
) -> None:
    uuid = await steps.create()
    chance = random.Random(seed)
    expected = 40

    async def write() -> None:
        for number in range(expected - 1):
            await steps.factory.store.append_event(SessionEvent(uuid, EventKind.REPAIRED, f"number {number}"))

    # So few bytes that no connection brings more than a quarter of them.
    def allowed() -> int:
        return chance.choice([0, chance.randrange(2000), chance.randrange(2000)])

    seen: list[str] = []
    async with (
        HttpProxy(served.port, allowed) as proxy,
        SessionClient(proxy.url, served.key(), patience=replace(PATIENCE, retry=timedelta(minutes=1))) as unlucky,
        aclosing(unlucky.events(uuid)) as stream,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(write())
        async for event in stream:
            seen.append(event.id)
            if len(seen) == expected:
                break
        assert proxy.cuts > 3
    kept = [event.id async for event in api.events(uuid, follow=False)]
    assert seen == kept[:expected]
    assert len(set(seen)) == expected


@pytest.mark.parametrize("seed", range(2))
async def test_a_reply_that_is_cut_is_whole(served: ServedApi, steps: Steps, seed: int) -> None:
    uuid = await steps.create()
    chance = random.Random(seed)
    words = [f"word {number} " for number in range(40)]

    def allowed() -> int:
        return chance.choice([0, -1, chance.randrange(3000), chance.randrange(3000)])

    async def deliver() -> None:
        message = await deliverer.begin()
        for word in words:
            await deliverer.say(message.message_id, word)
        await deliverer.end(message.message_id)

    async with (
        delivering(steps.factory.store, uuid) as deliverer,
        HttpProxy(served.port, allowed) as proxy,
        SessionClient(proxy.url, served.key(), patience=replace(PATIENCE, retry=timedelta(minutes=1))) as unlucky,
        asyncio.TaskGroup() as group,
    ):
        group.create_task(deliver())
        async with unlucky.stream(uuid, "hello") as reply:
            pieces = [piece async for piece in reply]
        assert proxy.cuts > 3
    assert "".join(piece.text for piece in pieces) == reply.text == "".join(words)
    assert not any(piece.replaces or piece.gap for piece in pieces)
    assert reply.outcome == "done"
    # However often it was sent, it is one message.
    events = await steps.factory.store.list_events(uuid, None, 1000)
    assert [event.message_id for event in events if event.kind == "message-queued"] == [reply.message_id]
