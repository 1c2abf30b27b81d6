"""Answers lost at every step of a chat: the same request is sent again with its key, and one message results."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Final

import httpx
import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.factory import Factory
from sessionctl.models import SessionId
from tests.api.world import Api
from tests.support.delivering import delivering
from tests.support.redis_proxy import Command, Loss, RedisProxy

SETTING_UP: Final = {b"HELLO", b"AUTH", b"CLIENT", b"SELECT", b"PING", b"SCRIPT"}
MOST_STEPS: Final = 12
Ask = Callable[[Api, SessionId, str], Awaitable[httpx.Response]]


def is_step(parts: Command) -> bool:
    """Whether a command is part of what was asked for; connections are made anew at any time."""
    return parts[0].upper() not in SETTING_UP


async def plain(api: Api, session_id: SessionId, key: str) -> httpx.Response:
    return await api.post(f"/session/{session_id}/chat", json={"message": key}, headers={"Idempotency-Key": key})


async def waited(api: Api, session_id: SessionId, key: str) -> httpx.Response:
    headers, params = {"Idempotency-Key": key}, {"wait": 30}
    return await api.post(f"/session/{session_id}/chat", json={"message": key}, headers=headers, params=params)


async def streamed(api: Api, session_id: SessionId, key: str) -> httpx.Response:
    headers = {"Idempotency-Key": key, "Accept": "text/event-stream"}
    return await api.post(f"/session/{session_id}/chat", json={"message": key}, headers=headers)


async def results(factory: Factory, mine: SessionId, key: str, answer: httpx.Response) -> None:
    """See that one message was stored, and that the answer is about it."""
    queued = [event for event in await factory.store.list_events(mine, None, 10_000) if event.text == key]
    assert len(queued) == 1
    assert queued[0].message_id in answer.text


@pytest.mark.parametrize("loss", [Loss.COMMAND, Loss.REPLY])
async def test_one_message_results_when_redis_does_not_come_back_for_a_while(
    exposed: Api, factory: Factory, redis_proxy: RedisProxy, mine: SessionId, loss: Loss
) -> None:
    codes = set()

    def lose_all() -> None:
        redis_proxy.away = True

    async with delivering(factory.store, mine) as deliverer:
        for step in range(1, MOST_STEPS):
            key = new_session_id()
            trap = redis_proxy.trap(is_step, loss, nth=step, before=lose_all)
            answer = await plain(exposed, mine, key)
            redis_proxy.away = False
            redis_proxy.disarm()
            if not trap.sprung.is_set():
                break
            if answer.status_code != 202:
                assert answer.status_code == 503
                codes.add(answer.json()["code"])
                answer = await plain(exposed, mine, key)
            assert answer.status_code == 202
            await results(factory, mine, key, answer)
            await deliverer.answer("x")
        await factory.demand.sleep(mine, force=True)
    # Of what was sent and never answered nobody can tell whether it was done; it says so.
    assert codes == {"outcome_unknown", "store_failed"}


@pytest.mark.parametrize("loss", [Loss.COMMAND, Loss.REPLY])
@pytest.mark.parametrize("ask", [waited, streamed])
async def test_one_message_and_its_whole_reply_result_whatever_answer_of_redis_was_lost(
    exposed: Api, factory: Factory, redis_proxy: RedisProxy, mine: SessionId, ask: Ask, loss: Loss
) -> None:
    traps = []
    async with delivering(factory.store, mine) as deliverer:
        for step in range(1, MOST_STEPS):
            key = new_session_id()
            traps.append(redis_proxy.trap(is_step, loss, nth=step))
            asking = asyncio.ensure_future(ask(exposed, mine, key))
            await deliverer.answer("one ", "two ", "three")
            answer = await asking
            redis_proxy.disarm()
            assert answer.status_code == 200
            assert answer.text.count("one ") == answer.text.count("three") == 1
            await results(factory, mine, key, answer)
        await factory.demand.sleep(mine, force=True)
    # The key is bound, the message stored, and its events read: that many steps there are at the least.
    assert sum(trap.sprung.is_set() for trap in traps) >= 4
