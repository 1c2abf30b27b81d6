"""Everything is killed with -9 while messages are sent to real pods: each has its one outcome, and runs once at most.

``SESSIONCTL_CHATS_MESSAGES``, ``_SESSIONS`` and ``_SECONDS`` choose how many and how long, ``SESSIONCTL_CHAOS_SEED``
which order of faults.
"""

from __future__ import annotations

import asyncio
import os
import random
from collections import Counter
from collections.abc import Iterator
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from sessionctl.client import SessionClient
from sessionctl.models import EventKind, MessageOutcome
from tests.chaos.outcomes import Correspondence, Verdict, judge, position
from tests.chaos.writers import FOR_EVER, Ear, Writer
from tests.node.platforms import WRITING, WRITING_AGAIN
from tests.node.victims import PodStorm
from tests.node.workspaces import Workspaces
from tests.support.sessionctl_cli import Cli
from tests.support.waiting import until

if TYPE_CHECKING:
    from tools.localcluster import LocalCluster

MESSAGES: Final = int(os.environ.get("SESSIONCTL_CHATS_MESSAGES", "60"))
SESSIONS: Final = int(os.environ.get("SESSIONCTL_CHATS_SESSIONS", "4"))
SECONDS: Final = float(os.environ.get("SESSIONCTL_CHATS_SECONDS", "60"))
SEED: Final = int(os.environ.get("SESSIONCTL_CHAOS_SEED", "20261124"))
CALM_SECONDS: Final = 12.0
PATIENCE_SECONDS: Final = 300.0


@pytest.fixture
def writing(managed: LocalCluster) -> Iterator[Workspaces]:
    """Sessions whose agent runs a command that writes down which message it got; each fourth may run one again."""
    found = Workspaces(managed, Cli.on(managed))
    for number in range(SESSIONS):
        found.create(WRITING_AGAIN if _is_retried(number) else WRITING, user=f"writer-{number}")
    yield found
    found.purge_all()


@pytest.mark.timeout(SECONDS + 3 * PATIENCE_SECONDS, func_only=True)
async def test_every_accepted_message_has_one_outcome(managed: LocalCluster, api_key: str, writing: Workspaces) -> None:
    dice = random.Random(SEED)
    storm = PodStorm(managed, SEED, CALM_SECONDS)
    limits = httpx.Limits(max_connections=4 * SESSIONS)
    async with (
        httpx.AsyncClient(
            base_url=managed.api_url, headers={"X-API-Key": api_key}, timeout=20, limits=limits, trust_env=False
        ) as http,
        SessionClient(managed.api_url, api_key, patience=FOR_EVER) as client,
    ):
        writers = [Writer(uuid, http, random.Random(dice.random())) for uuid in writing.made]
        ears = [Ear(uuid, client) for uuid in writing.made]
        listening = [asyncio.create_task(ear.listen()) for ear in ears]
        try:
            async with asyncio.timeout(SECONDS + PATIENCE_SECONDS), asyncio.TaskGroup() as group:
                group.create_task(storm.rage(SECONDS))
                for writer in writers:
                    group.create_task(writer.write(MESSAGES // SESSIONS, SECONDS))
            await _until_ended(managed, writers, ears)
            sessions = await _look(client, writing, writers, ears)
        finally:
            for task in listening:
                task.cancel()
            await asyncio.gather(*listening, return_exceptions=True)
    verdict = judge(sessions)
    _print(verdict, writers, storm)
    assert [line for writer in writers for line in writer.wrong] == []
    assert not verdict.wrong, "\n".join([*verdict.wrong, *_tell(sessions, storm)])
    assert verdict.outcomes.total() == SESSIONS * (MESSAGES // SESSIONS)
    # What proves nothing if it did not happen.
    assert verdict.outcomes[MessageOutcome.DONE]
    assert {"manager", "agent", "redis", "pod"} <= storm.faults.keys() or CALM_SECONDS * 3 > SECONDS
    # Nobody works any more, and nothing keeps a session awake that has ended.
    await until(
        lambda: all(not writing.status(uuid)["replicas"] for uuid in writing.made), "they sleep", PATIENCE_SECONDS
    )


def _is_retried(number: int) -> bool:
    return number % 4 == 3


async def _until_ended(cluster: LocalCluster, writers: list[Writer], ears: list[Ear]) -> None:
    def missing() -> dict[str, list[str]]:
        return {
            writer.uuid: [each.message_id for each in writer.accepted if each.message_id not in ear.ended()]
            for writer, ear in zip(writers, ears, strict=True)
        }

    deadline = asyncio.get_running_loop().time() + PATIENCE_SECONDS
    while any(missing().values()):
        if asyncio.get_running_loop().time() > deadline:
            pytest.fail("\n".join(_explain(cluster, uuid, ids) for uuid, ids in missing().items() if ids))
        await asyncio.sleep(0.5)


async def _look(
    client: SessionClient, workspaces: Workspaces, writers: list[Writer], ears: list[Ear]
) -> list[Correspondence]:
    sessions = []
    for number, (writer, ear) in enumerate(zip(writers, ears, strict=True)):
        events = [event async for event in client.events(writer.uuid, after="0-0", follow=False)]
        last = position(events[-1].id)
        await until(lambda ear=ear, last=last: position(ear.heard[-1].id) >= last, "heard to the end")  # type: ignore[misc]
        # What has happened since is nobody's message.
        heard = [event for event in ear.heard if position(event.id) <= last]
        ran = (workspaces.volume_folder(writer.uuid) / "ran").read_text().split()
        sessions.append(Correspondence(writer.uuid, writer.accepted, events, heard, ran, retried=_is_retried(number)))
    return sessions


def _explain(cluster: LocalCluster, uuid: str, missing: list[str]) -> str:
    """Say all there is to know of a session that still owes outcomes."""
    objects = cluster.kubectl("-n", "sessions", "get", "deployment,pod", "-l", f"uuid={uuid}", "-o", "wide")
    pods = cluster.kubectl("-n", "sessionctl", "get", "pods", "-o", "wide")
    asked = {
        "queue": ("LRANGE", f"queue:{uuid}", "0", "-1"),
        "record": ("HGETALL", f"session:{uuid}"),
        "pending": ("SMEMBERS", "dispatch:pending"),
        "lock": ("GET", f"lock:dispatch:{uuid}"),
        "events": ("XREVRANGE", f"events:{uuid}", "+", "-", "COUNT", "12"),
    }
    redis = "\n".join(f"{name}: {cluster.redis_cli(*argv)}" for name, argv in asked.items())
    return f"{uuid} owes {missing}\n{redis}\n{objects}\n{pods}"


def _tell(sessions: list[Correspondence], storm: PodStorm) -> list[str]:
    """Tell the whole story of the sessions, and what was killed when."""
    kinds = {
        EventKind.MESSAGE_QUEUED,
        EventKind.MESSAGE_STARTED,
        EventKind.MESSAGE_DELTA,
        EventKind.MESSAGE_ENDED,
        EventKind.READY,
        EventKind.SLEPT,
        EventKind.WOKEN,
    }
    told = []
    for session in sessions:
        told.append(f"{session.uuid} ran {session.ran}")
        told += [
            f"  {e.at:%H:%M:%S.%f} {e.event} {e.message_id} {e.outcome} {e.attempt}.{e.seq} {e.text!r} {e.detail}"
            for e in session.events
            if e.event in kinds
        ]
    return [*told, *[f"{at:.2f} killed: {name}" for at, name in storm.times]]


def _print(verdict: Verdict, writers: list[Writer], storm: PodStorm) -> None:
    accepted = sum(len(writer.accepted) for writer in writers)
    again = sum(each.repeated for writer in writers for each in writer.accepted)
    calls = sum((writer.calls for writer in writers), Counter[str]())
    print(f"seed {SEED}: {accepted} messages accepted, {again} of them not at the first call; calls: {dict(calls)}")
    print(f"  killed: {dict(storm.faults)}, {storm.faults.total()} in all")
    outcomes = ", ".join(f"{count} {outcome}" for outcome, count in sorted(verdict.outcomes.items()))
    print(f"  outcomes: {outcomes}; {verdict.begun_again} commands ran again, where they may")
