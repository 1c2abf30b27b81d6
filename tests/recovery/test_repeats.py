"""What people do after a failure: they repeat the call. Nothing of anybody's is lost by it."""

from __future__ import annotations

import asyncio
import json
import signal

from sessionctl.core.identity import new_session_id
from sessionctl.models import SessionId
from tests.support.api_proxy import ApiProxy, write
from tests.support.census import Remains
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tests.support.waiting import wait_for


def whole(remains: Remains) -> bool:
    return remains.is_complete


async def test_a_restore_repeated_after_a_failure_keeps_the_files(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy
) -> None:
    session_id = await steps.create()
    volume = steps.census.of(session_id).volume_uid
    await steps.delete(session_id)
    api_proxy.trap(write("", "/scaledobjects", naming=session_id), refusal=(403, "refused by a quota"))
    assert (await asyncio.to_thread(proxied.run, "restore", session_id)).code == 6

    assert (await asyncio.to_thread(proxied.run, "restore", session_id)).code == 0

    assert steps.reconcile([session_id]) == []
    steps.settle([session_id], whole)
    await steps.check_wakes(session_id)
    assert steps.census.of(session_id).volume_uid == volume


async def test_a_failed_restore_that_somebody_used_is_never_discarded(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy
) -> None:
    session_id = await steps.create()
    volume = steps.census.of(session_id).volume_uid
    await steps.check_wakes(session_id)
    # Helm loses its record, and fails when reconcile installs over the live session.
    steps.census.cluster.kubectl("-n", "sessions", "delete", "secret", "-l", f"owner=helm,name={session_id}")
    api_proxy.trap(write("PATCH", "/scaledobjects", naming=session_id), refusal=(403, "refused by a quota"))
    first = await asyncio.to_thread(proxied.run, "reconcile", "--grace", "0s", "-o", "json")
    assert [row["repair"] for row in json.loads(first.stdout)["repairs"] if row["uuid"] == session_id] == ["adopt"]

    assert steps.reconcile([session_id]) == [(session_id, "adopt")]

    steps.settle([session_id], whole)
    assert steps.census.of(session_id).volume_uid == volume


async def test_a_create_repeated_while_the_first_is_cut_off_is_refused_until_it_is_tidied_up(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy
) -> None:
    session_id = new_session_id()
    steps.made.append(session_id)
    hold = api_proxy.hold(write("", "/scaledobjects", naming=session_id))
    with proxied.start("create", "--user", "alice", "--uuid", session_id) as running:
        wait_for(hold.reached.is_set, "Helm at the ScaledObject")
        running.kill_group()
        await asyncio.to_thread(running.wait)
    hold.let_go()

    refused = await asyncio.to_thread(proxied.run, "create", "--user", "alice", "--uuid", session_id)
    assert refused.code == 4
    assert "sessionctl reconcile" in refused.stderr

    assert steps.reconcile([session_id]) == [(session_id, "discard")]
    assert (await asyncio.to_thread(proxied.run, "create", "--user", "alice", "--uuid", session_id)).code == 0
    steps.settle([session_id], whole)


async def test_two_creates_at_once_with_one_id_make_one_session(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy
) -> None:
    session_id = new_session_id()
    steps.made.append(session_id)
    # The second is past all its checks and about to write its release when the first is done.
    hold = api_proxy.hold(write("POST", "/secrets", naming=session_id))
    verb = ("create", "--user", "alice", "--uuid", session_id)
    with proxied.start(*verb) as late:
        wait_for(hold.reached.is_set, "Helm at its release")
        first = await asyncio.to_thread(proxied.run, *verb)
        hold.let_go()
        second = await asyncio.to_thread(late.wait)

    assert (first.code, second.code) == (0, 4), (first.stderr, second.stderr)
    steps.settle([session_id], whole)
    await steps.check_wakes(session_id)


async def test_a_create_that_gives_up_does_not_take_the_session_of_another(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy
) -> None:
    session_id = new_session_id()
    steps.made.append(session_id)
    hold = api_proxy.hold(write("POST", "/secrets", naming=session_id))
    verb = ("create", "--user", "alice", "--uuid", session_id)
    with proxied.start(*verb) as late:
        wait_for(hold.reached.is_set, "Helm at its release")
        assert (await asyncio.to_thread(proxied.run, *verb)).code == 0
        late.send_to_group(signal.SIGINT)
        hold.let_go()
        await asyncio.to_thread(late.wait)

    steps.settle([session_id], whole)
    await steps.check_wakes(session_id)


async def test_an_id_can_be_used_again_after_a_purge(steps: Steps, proxied: Cli) -> None:
    session_id: SessionId = await steps.create()
    assert (await asyncio.to_thread(proxied.run, "delete", "--purge", "--wait", session_id)).code == 0

    again = await asyncio.to_thread(proxied.run, "create", "--user", "alice", "--uuid", session_id)

    assert again.code == 0
    await steps.check_wakes(session_id)


async def test_a_tombstone_beside_a_live_session_is_cleared(steps: Steps, proxied: Cli) -> None:
    session_id = await steps.create()
    # As an older copy of Redis's data brings it back.
    cluster = steps.census.cluster
    cluster.redis_cli("DEL", f"session:{session_id}")
    cluster.redis_cli("SET", f"deleted:{session_id}", "1")
    assert proxied.run("wake", session_id).code == 4

    assert steps.reconcile([session_id]) == [(session_id, "write-record")]

    await steps.check_wakes(session_id)


async def test_foreign_keys_that_look_like_records_are_left_alone(steps: Steps) -> None:
    cluster = steps.census.cluster
    cluster.redis_cli("SET", "session:of-a-web-framework", "theirs")

    steps.reconcile([])

    assert cluster.redis_cli("GET", "session:of-a-web-framework") == "theirs"
    cluster.redis_cli("DEL", "session:of-a-web-framework")
