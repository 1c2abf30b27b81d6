"""FLUSHALL on a live Redis with managers: demand and records come back by themselves, and nobody who works sleeps."""

from __future__ import annotations

import asyncio
import time
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from tests.chaos.truth import Truth
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.localcluster import LocalCluster

TOUCH_SECONDS: Final = 1.5


def _missing(arena: LocalCluster, kind: str, uuids: Sequence[str]) -> int:
    return len(uuids) - int(arena.redis_cli("EXISTS", *(f"{kind}:{uuid}" for uuid in uuids)))


async def test_flushall_loses_no_session(arena: LocalCluster, api_key: str, sessions: Sequence[str]) -> None:
    working = sessions[: max(len(sessions) // 4, 1)]
    truth = Truth()
    # Demand has to come back by itself: nobody asks for anything meanwhile.
    awaited = asyncio.Event()
    awaited.set()
    async with httpx.AsyncClient(headers={"X-API-Key": api_key}, timeout=20, trust_env=False) as http:

        async def work(uuid: str) -> None:
            """Use the session again and again; a wake that is refused is tried again."""
            number = 0
            while True:
                await awaited.wait()
                number += 1
                url = arena.state.api_urls[number % len(arena.state.api_urls)]
                answer = await http.post(f"{url}/session/{uuid}/wake")
                accepted = answer.status_code == HTTPStatus.ACCEPTED
                await asyncio.sleep(TOUCH_SECONDS if accepted else 0.1)

        tasks = [asyncio.create_task(truth.follow(arena)), *(asyncio.create_task(work(uuid)) for uuid in working)]
        await until(lambda: all(truth.of(uuid).replicas[-1:] == [1] for uuid in working), "those who work are awake")
        awaited.clear()
        arena.redis_cli("FLUSHALL")
        flushed = time.monotonic()

        await until(lambda: not _missing(arena, "queue", working), "the demand of those who work is back")
        demand = time.monotonic() - flushed
        awaited.set()
        await until(lambda: not _missing(arena, "session", sessions), "all records are back")
        records = time.monotonic() - flushed
        print(f"{len(sessions)} sessions, {len(working)} awake")
        print(f"  after FLUSHALL demand was back in {demand:.2f} s, all records in {records:.2f} s")

        # Whom KEDA put to sleep over the emptied lists is awake again, and nobody is put to sleep from now on.
        await until(lambda: all(truth.of(uuid).replicas[-1:] == [1] for uuid in working), "those who work are awake")
        for uuid in sessions:
            assert (await http.get(f"{arena.state.api_urls[0]}/session/{uuid}/status")).status_code == HTTPStatus.OK
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
