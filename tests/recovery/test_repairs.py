"""Every repair of reconcile, on damage done for real: by hand, by time, or by a Helm that was cut off."""

from __future__ import annotations

import asyncio
import json
import subprocess
from datetime import UTC, datetime, timedelta

import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.models import SessionId
from tests.support.api_proxy import ApiProxy, write
from tests.support.census import DELETED_AT, NAMESPACE, VOLUME, Remains
from tests.support.redis_proxy import Loss
from tests.support.sessionctl_cli import Cli, Running
from tests.support.steps import Steps
from tests.support.waiting import wait_for
from tools.localcluster import LocalCluster

CHART = "charts/user-session"


def whole(remains: Remains) -> bool:
    return remains.is_complete


def deleted(remains: Remains) -> bool:
    return remains.is_deleted


def gone(remains: Remains) -> bool:
    return remains.is_gone


def replicas(steps: Steps, session_id: SessionId) -> int:
    return int(steps.census.of(session_id).objects["deployments"]["spec"]["replicas"])


async def test_a_session_uninstalled_by_hand_counts_as_deleted_and_can_be_restored(
    platform: LocalCluster, steps: Steps
) -> None:
    session_id = await steps.create()
    volume = steps.census.of(session_id).volume_uid
    platform.tool("helm", "uninstall", session_id, "--namespace", NAMESPACE)
    steps.settle([session_id], lambda remains: not remains.objects)

    assert steps.reconcile([session_id]) == [(session_id, "mark-deleted")]

    steps.settle([session_id], deleted)
    await steps.restore(session_id)
    assert [remains.volume_uid for remains in steps.settle([session_id], whole)] == [volume]
    await steps.check_wakes(session_id)
    assert steps.reconcile([session_id]) == []


async def test_a_session_whose_helm_record_was_lost_is_adopted_when_it_sleeps(steps: Steps) -> None:
    asleep, awake = await steps.create(), await steps.create()
    await steps.wake(awake)
    before = {remains.uuid: remains for remains in steps.census.take([asleep, awake]).values()}
    for session_id in (asleep, awake):
        steps.census.api.delete(steps.census.path("secrets", f"sh.helm.release.v1.{session_id}.v1"))

    spared = await asyncio.to_thread(steps.cli.run, "reconcile", "--grace", "0s", "-o", "json")
    assert spared.code == 1
    found = {row["uuid"]: (row["repair"], row["error"]) for row in json.loads(spared.out)["repairs"]}
    assert found[asleep] == ("adopt", None)
    assert found[awake][0] == "adopt"
    assert "it is awake" in found[awake][1]
    assert replicas(steps, awake) == 1
    await steps.factory.demand.sleep(awake)
    assert steps.reconcile([asleep, awake]) == [(awake, "adopt")]

    for remains in steps.settle([asleep, awake], whole):
        old = before[remains.uuid]
        assert remains.volume_uid == old.volume_uid
        for kind in ("deployments", "scaledobjects"):
            assert remains.objects[kind]["metadata"]["uid"] == old.objects[kind]["metadata"]["uid"]
    assert steps.reconcile([asleep, awake]) == []


@pytest.mark.parametrize(("kind", "suffix"), [("deployments", ""), ("scaledobjects", "-scaler")])
async def test_an_object_removed_by_hand_comes_back_and_the_volume_stays(steps: Steps, kind: str, suffix: str) -> None:
    session_id = await steps.create()
    volume = steps.census.of(session_id).volume_uid
    steps.census.api.delete(steps.census.path(kind, f"user-{session_id}{suffix}"))
    steps.settle([session_id], lambda remains: kind not in remains.objects)

    assert steps.reconcile([session_id]) == [(session_id, "upgrade")]

    assert [remains.volume_uid for remains in steps.settle([session_id], whole)] == [volume]
    await steps.check_wakes(session_id)
    assert steps.reconcile([session_id]) == []


@pytest.mark.parametrize("wanted", [0, 1])
async def test_an_upgrade_cut_off_midway_is_done_again_and_wakes_or_stops_nobody(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, wanted: int
) -> None:
    session_id = await steps.create()
    if wanted:
        await steps.wake(session_id)
    upgrade = subprocess.Popen(
        ["helm", "upgrade", session_id, CHART, "--namespace", NAMESPACE, "--reuse-values", "--no-hooks"],
        env=dict(proxied.environment),
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        start_new_session=True,
    )
    with Running(upgrade) as running:
        api_proxy.trap(write("PATCH", "/deployments/", naming=session_id), Loss.COMMAND, before=running.kill_group)
        assert running.wait().code == -9
    api_proxy.drain()
    assert steps.census.of(session_id).releases == {1: "deployed", 2: "pending-upgrade"}

    assert steps.reconcile([session_id]) == [(session_id, "upgrade")]

    steps.settle([session_id], whole)
    assert replicas(steps, session_id) == wanted
    assert steps.reconcile([session_id]) == []


async def test_a_session_without_its_volume_is_reported_and_never_started_on_an_empty_one(steps: Steps) -> None:
    session_id = await steps.create()
    steps.census.api.delete(steps.census.path(VOLUME, f"user-{session_id}"))
    steps.settle([session_id], lambda remains: remains.volume is None)

    done = await asyncio.to_thread(steps.cli.run, "reconcile", "--grace", "0s")

    assert done.code == 1
    assert [line.split()[1] for line in done.stdout.splitlines() if session_id in line] == ["report-missing-volume"]
    assert "its volume is missing" in done.stdout
    remains = steps.census.of(session_id)
    assert remains.volume is None
    assert replicas(steps, session_id) == 0
    assert steps.cli.json("status", session_id)["session"]["status"] == "failed"


async def test_a_session_without_deployment_and_volume_is_reported_and_made_no_empty_one(steps: Steps) -> None:
    session_id = await steps.create()
    api, path = steps.census.api, steps.census.path
    api.delete(path("deployments", f"user-{session_id}"))
    api.delete(path(VOLUME, f"user-{session_id}"))
    steps.settle([session_id], lambda remains: remains.volume is None and "deployments" not in remains.objects)

    done = await asyncio.to_thread(steps.cli.run, "reconcile", "--grace", "0s")

    assert done.code == 1
    assert session_id in done.stdout
    assert steps.census.of(session_id).volume is None


async def test_a_volume_whose_retention_has_ended_is_removed_and_no_other(steps: Steps) -> None:
    expired, recent = await steps.create(), await steps.create()
    for session_id in (expired, recent):
        await steps.delete(session_id)
    long_ago = (datetime.now(UTC) - timedelta(days=8)).isoformat()
    steps.census.cluster.kubectl(
        "annotate", "--overwrite", "-n", NAMESPACE, f"pvc/user-{expired}", f"{DELETED_AT}={long_ago}"
    )

    assert steps.reconcile([expired, recent]) == [(expired, "remove-volume")]

    steps.settle([expired], gone)
    steps.settle([recent], deleted)
    assert steps.reconcile([expired, recent]) == []


async def test_a_lost_record_is_written_again(steps: Steps) -> None:
    session_id = await steps.create()
    with steps.census.redis() as redis:
        redis.delete(f"session:{session_id}")

    assert steps.reconcile([session_id]) == [(session_id, "write-record")]

    steps.settle([session_id], whole)
    assert steps.reconcile([session_id]) == []


@pytest.mark.parametrize("fields", [{"user_id": "alice", "tenant": "default"}, {"user_id": ""}, {"status": "active"}])
async def test_a_record_without_a_session_is_dropped_whatever_it_holds(steps: Steps, fields: dict[str, str]) -> None:
    session_id = new_session_id()
    steps.made.append(session_id)
    with steps.census.redis() as redis:
        redis.hset(f"session:{session_id}", mapping=dict(fields))
        redis.rpush(f"queue:{session_id}", "awake")

    assert steps.reconcile([session_id]) == [(session_id, "drop-record")]

    steps.settle([session_id], gone)
    assert steps.reconcile([session_id]) == []


async def test_a_dry_run_says_what_it_would_do_and_does_nothing(steps: Steps) -> None:
    session_id = await steps.create()
    with steps.census.redis() as redis:
        redis.delete(f"session:{session_id}")

    answer = await asyncio.to_thread(steps.cli.json, "reconcile", "--grace", "0s", "--dry-run")

    assert answer["dry_run"] is True
    assert {"uuid": session_id, "repair": "write-record", "error": None} in answer["repairs"]
    assert "session" not in steps.census.of(session_id).keys


async def test_two_reconciles_at_once_leave_every_session_whole(steps: Steps) -> None:
    sessions = [await steps.create() for _ in range(4)]
    volumes = [remains.volume_uid for remains in steps.census.take(sessions).values()]
    for session_id in sessions[:3]:
        steps.census.api.delete(steps.census.path("deployments", f"user-{session_id}"))
    await steps.delete(sessions[3])
    steps.settle(sessions[:3], lambda remains: "deployments" not in remains.objects)

    await asyncio.gather(*(asyncio.to_thread(steps.cli.run, "reconcile", "--grace", "0s") for _ in range(2)))

    # One may have been told that the other is at work on a session; together they have done it.
    steps.settle(sessions[:3], whole)
    steps.settle(sessions[3:], deleted)
    assert [remains.volume_uid for remains in steps.census.take(sessions).values()] == volumes
    assert steps.reconcile(sessions) == []


async def test_a_reconcile_during_a_delete_does_no_harm(steps: Steps, proxied: Cli, api_proxy: ApiProxy) -> None:
    session_id = await steps.create()
    hold = api_proxy.hold(write("DELETE", "/deployments/", naming=session_id))
    with proxied.start("delete", session_id) as running:
        wait_for(hold.reached.is_set, "the delete at its Deployment")
        repairs = await asyncio.to_thread(steps.reconcile, [session_id])
        hold.let_go()
        await asyncio.to_thread(running.wait)

    assert repairs == [(session_id, "finish-delete")]
    steps.settle([session_id], deleted)
    assert steps.reconcile([session_id]) == []


@pytest.mark.parametrize("purge", [True, False])
async def test_a_delete_during_a_repair_is_not_undone_by_it(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, purge: bool
) -> None:
    session_id = await steps.create()
    steps.census.api.delete(steps.census.path("scaledobjects", f"user-{session_id}-scaler"))
    steps.settle([session_id], lambda remains: "scaledobjects" not in remains.objects)
    hold = api_proxy.hold(write("PATCH", "/deployments/", naming=session_id))
    with proxied.start("reconcile", "--grace", "0s") as running:
        wait_for(hold.reached.is_set, "the repair at the Deployment")
        await (await steps.factory.create_session_service()).delete(session_id, purge=purge)
        hold.let_go()
        await asyncio.to_thread(running.wait)

    steps.reconcile([session_id])

    steps.settle([session_id], gone if purge else deleted)
    assert steps.reconcile([session_id]) == []
