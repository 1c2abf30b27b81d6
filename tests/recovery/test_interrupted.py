"""create and delete that fail, are interrupted, or lose one of their two processes."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import subprocess
from datetime import UTC, datetime

import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.models import Owner, SessionId
from tests.support.api_proxy import ApiProxy, write
from tests.support.census import NAMESPACE, Remains
from tests.support.redis_proxy import Loss
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tests.support.waiting import wait_for

CHART = "charts/user-session"


def gone(remains: Remains) -> bool:
    return remains.is_gone


@pytest.fixture
def session_id(steps: Steps) -> SessionId:
    """The id of a session to be."""
    steps.made.append(new_session_id())
    return steps.made[-1]


async def test_a_create_whose_caller_alone_is_killed_ends_whole(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, session_id: SessionId
) -> None:
    hold = api_proxy.hold(write("", "/deployments", naming=session_id))
    with proxied.start("create", "--user", "alice", "--uuid", session_id) as running:
        wait_for(hold.reached.is_set, "Helm at the Deployment")
        running.send(signal.SIGKILL)
        hold.let_go()
        assert (await asyncio.to_thread(running.wait)).code == -signal.SIGKILL

        # Helm is an orphan now and goes on.
        wait_for(lambda: steps.census.of(session_id).releases == {1: "deployed"}, "Helm done")

    assert steps.reconcile([session_id]) == [(session_id, "write-record")]
    steps.settle([session_id], lambda remains: remains.is_complete)


async def test_a_delete_whose_caller_alone_is_killed_ends_deleted(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy
) -> None:
    session_id = await steps.create()
    hold = api_proxy.hold(write("DELETE", "/deployments/", naming=session_id))
    with proxied.start("delete", session_id) as running:
        wait_for(hold.reached.is_set, "Helm at the Deployment")
        running.send(signal.SIGKILL)
        hold.let_go()
        await asyncio.to_thread(running.wait)
        wait_for(lambda: steps.census.of(session_id).releases == {}, "Helm done")

    steps.reconcile([session_id])
    steps.settle([session_id], lambda remains: remains.is_deleted)


@pytest.mark.parametrize("whole_group", [True, False], ids=["terminal", "sessionctl-only"])
async def test_an_interrupted_create_leaves_nothing(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, session_id: SessionId, whole_group: bool
) -> None:
    hold = api_proxy.hold(write("", "/deployments", naming=session_id))
    with proxied.start("create", "--user", "alice", "--uuid", session_id) as running:
        wait_for(hold.reached.is_set, "Helm at the Deployment")
        if whole_group:
            running.send_to_group(signal.SIGINT)
        else:
            running.send(signal.SIGINT)
        hold.let_go()
        done = await asyncio.to_thread(running.wait)

    assert done.code == 130
    assert done.stderr.splitlines()[-1].startswith("interrupted")
    assert "Traceback" not in done.stderr
    steps.settle([session_id], gone)


@pytest.mark.parametrize(
    "kind", ["networkpolicies", "secrets", "configmaps", "persistentvolumeclaims", "deployments", "scaledobjects"]
)
async def test_a_create_of_which_one_object_is_refused_leaves_nothing(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, session_id: SessionId, kind: str
) -> None:
    trap = api_proxy.trap(
        write("", f"/{kind}", naming=f"user-{session_id}"), refusal=(403, f"{kind} are refused by a quota")
    )
    done = await asyncio.to_thread(proxied.run, "create", "--user", "alice", "--uuid", session_id)

    assert trap.seen == 1
    assert done.code == 6
    assert done.stderr.startswith("error: helm install failed")
    assert len(done.stderr.splitlines()) == 1
    steps.settle([session_id], gone)


async def test_a_create_that_cannot_be_undone_names_its_own_cause_and_reconcile_tidies_up(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, session_id: SessionId
) -> None:
    api_proxy.trap(write("", "/scaledobjects", naming=session_id), refusal=(403, "refused by a quota"))
    api_proxy.trap(write("DELETE", "/deployments/", naming=session_id), refusal=(403, "not now"))
    talkative = Cli(proxied.environment, before=())
    done = await asyncio.to_thread(talkative.run, "create", "--user", "alice", "--uuid", session_id)

    assert done.code == 6
    *progress, error = done.stderr.splitlines()
    assert "refused by a quota" in error
    assert "run: sessionctl reconcile" in progress[-1]
    steps.reconcile([session_id])
    steps.settle([session_id], gone)


async def test_a_create_whose_install_gets_no_answer_leaves_nothing_after_reconcile(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, session_id: SessionId
) -> None:
    api_proxy.trap(write("", "/deployments", naming=session_id), Loss.REPLY)

    await asyncio.to_thread(proxied.run, "create", "--user", "alice", "--uuid", session_id)

    steps.reconcile([session_id])
    steps.settle([session_id], lambda remains: remains.is_complete or remains.is_gone)


@pytest.mark.parametrize("cut", [0.0, 0.3, 0.9999], ids=["nothing", "a third", "all but the end"])
async def test_values_cut_off_on_their_way_to_helm_install_nothing(
    steps: Steps, session_id: SessionId, cut: float
) -> None:
    releases = await steps.factory.create_release_service()
    owner = Owner("alice", "default", "default", datetime.now(UTC))
    text = json.dumps(releases.values_for(session_id, owner))

    done = subprocess.run(
        ["helm", "install", session_id, CHART, "--namespace", NAMESPACE, "--values", "-", "--no-hooks"],
        env=dict(steps.cli.environment),
        input=text[: int(len(text) * cut)].encode(),
        capture_output=True,
        check=False,
    )

    assert done.returncode != 0
    assert steps.census.of(session_id).is_gone


async def test_a_caller_killed_before_helm_has_read_its_values_installs_nothing(
    steps: Steps, cli: Cli, session_id: SessionId, tmp_path_factory: pytest.TempPathFactory
) -> None:
    # A helm that is stopped before it reads: what sessionctl wrote waits in the pipe, whole or torn.
    folder = tmp_path_factory.mktemp("helm")
    helm = steps.census.cluster.binary("helm")
    slow = folder / "helm"
    slow.write_text(
        f'#!/bin/sh\nif [ "$1" = version ]; then exec {helm} "$@"; fi\n'
        f'echo $$ > {folder}/pid.part; mv {folder}/pid.part {folder}/pid; kill -STOP $$; exec {helm} "$@"\n'
    )
    slow.chmod(0o755)
    with cli.having(SESSIONCTL_HELM=str(slow)).start("create", "--user", "alice", "--uuid", session_id) as running:
        wait_for((folder / "pid").exists, "Helm started")
        pid = int((folder / "pid").read_text())
        wait_for(lambda: "stopped" in _state(pid), "Helm stopped")
        running.send(signal.SIGKILL)
        os.kill(pid, signal.SIGCONT)
        await asyncio.to_thread(running.wait)
        wait_for(lambda: not _state(pid), "the orphaned Helm ended")

    steps.reconcile([session_id])
    # Its values were small enough to be in the pipe as a whole: then the session is whole, and nothing in between.
    steps.settle([session_id], lambda remains: remains.is_complete or remains.is_gone)


def _state(pid: int) -> str:
    try:
        with open(f"/proc/{pid}/status", encoding="utf-8") as lines:  # noqa: PTH123 - not a file of anybody's
            state = next(line for line in lines if line.startswith("State:"))
    except FileNotFoundError:
        return ""
    return "" if "zombie" in state else state
