"""Everything dies at random while users come and go: nobody is put to sleep at work, and everybody is woken.

``SESSIONCTL_CHAOS_SECONDS``, ``_SESSIONS`` and ``_SEED`` choose how long, how many, and which order of faults.
"""

from __future__ import annotations

import asyncio
import os
import random
import statistics
import time
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from tests.chaos.conftest import IDLE_SECONDS
from tests.chaos.people import Notes, Person
from tests.chaos.storm import Storm
from tests.chaos.truth import Truth
from tests.chaos.verdict import lies, races, slept_too_early
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tools.localcluster import LocalCluster

SECONDS: Final = float(os.environ.get("SESSIONCTL_CHAOS_SECONDS", "180"))
SEED: Final = int(os.environ.get("SESSIONCTL_CHAOS_SEED", "20261124"))
PATIENCE_SECONDS: Final = 240
VICTIMS: Final = ("manager-1", "manager-2", "keda", "redis", "kube-apiserver")


@pytest.mark.timeout(SECONDS + 3 * PATIENCE_SECONDS, func_only=True)
async def test_a_storm(arena: LocalCluster, api_key: str, sessions: Sequence[str]) -> None:
    truth, notes, dice = Truth(), Notes(), random.Random(SEED)
    storm = Storm(arena, SEED, VICTIMS, calm=5.0, outage=6.0)
    headers = {"X-API-Key": api_key}
    limits = httpx.Limits(max_connections=100)
    async with httpx.AsyncClient(headers=headers, timeout=20, limits=limits, trust_env=False) as http:
        following = asyncio.create_task(truth.follow(arena))
        await until(lambda: len(truth.tracks) >= len(sessions), "the test sees all sessions")
        end = time.monotonic() + SECONDS
        people = [
            Person(uuid, arena.state.api_urls, http, truth, notes, random.Random(dice.random()), IDLE_SECONDS)
            for uuid in sessions
        ]
        try:
            async with asyncio.timeout(SECONDS + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(storm.rage(SECONDS))
                for person in people:
                    group.create_task(person.live(end))
        except TimeoutError:
            _print(notes, storm)
            waiting = [person for person in people if person.waiting]
            pytest.fail("\n".join([str(storm.away), *[await _explain(arena, http, person) for person in waiting[:5]]]))

        async def all_asleep() -> bool:
            return all(truth.of(uuid).replicas[-1] == 0 for uuid in sessions)

        await until(all_asleep, "every idle session sleeps", PATIENCE_SECONDS)
        following.cancel()

    _print(notes, storm)
    print(f"  sleeps that raced with a wake: {races(truth, notes, IDLE_SECONDS, storm.outages)}")
    assert not notes.wrong
    too_early = slept_too_early(truth, notes, IDLE_SECONDS, storm.outages)
    assert not too_early, "\n".join([*too_early, *_tell(truth, notes, storm, {line.split()[0] for line in too_early})])
    assert not lies(truth, notes)
    # What proves nothing if it did not happen.
    assert all(storm.faults.get(victim) for victim in VICTIMS) or SECONDS < PATIENCE_SECONDS / 2
    assert notes.waits["awake"]
    assert notes.waits["asleep"]


async def _explain(arena: LocalCluster, http: httpx.AsyncClient, person: Person) -> str:
    """Say all there is to know of the session that somebody waits for."""
    why = await http.get(f"{arena.state.api_urls[0]}/session/{person.uuid}/why")
    objects = arena.kubectl("-n", "sessions", "get", "deployment,pod", "-l", f"uuid={person.uuid}", "-o", "yaml")
    queue = arena.redis_cli("LRANGE", f"queue:{person.uuid}", "0", "-1")
    return f"waits for {person.waiting}\n{why.text}\nqueue: {queue}\n{objects}"


def _tell(truth: Truth, notes: Notes, storm: Storm, sessions: set[str]) -> list[str]:
    """Say what happened to these sessions, and who was away when."""
    told = [f"{uuid}: {list(zip(truth.of(uuid).times, truth.of(uuid).replicas, strict=True))}" for uuid in sessions]
    told += [f"{uuid}: {notes.promised[uuid]}" for uuid in sessions]
    return [
        *told,
        f"blind: {truth.blind}",
        *[f"{name} away: {begin:.2f} - {end:.2f}" for name, begin, end in storm.outages],
    ]


def _print(notes: Notes, storm: Storm) -> None:
    wakes = sum(len(promised) for promised in notes.promised.values())
    print(f"seed {SEED}: {wakes} wakes accepted, {len(notes.answers)} statuses, {notes.refused} refused")
    print(f"  faults: {storm.faults}")
    for name, waits in notes.waits.items():
        if waits:
            print(f"  until {name}: {len(waits)} times, p50 {statistics.median(waits):.1f} s, max {max(waits):.1f} s")
