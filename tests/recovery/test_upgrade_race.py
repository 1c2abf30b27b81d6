"""A session that wakes or falls asleep while Helm upgrades it, between the render and the apply: nothing is lost."""

from __future__ import annotations

import asyncio
import subprocess
from pathlib import Path

import pytest

from sessionctl.adapters.helm import classify
from sessionctl.errors import ConflictError
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.models import SessionId
from tests.support.api_proxy import ApiProxy, Request
from tests.support.census import NAMESPACE
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tools.localcluster import LocalCluster

CHART = "charts/user-session"


@pytest.fixture
def kubeconfig(api_proxy: ApiProxy, tmp_path: Path) -> Path:
    """The way through the proxy."""
    return api_proxy.write_kubeconfig(tmp_path / "kubeconfig")


def is_apply_of(session_id: SessionId, request: Request) -> bool:
    """Whether Helm applies the Deployment; our own patches have another field manager."""
    return (
        request.method == "PATCH"
        and request.path.endswith(f"/deployments/user-{session_id}")
        and request.manager != "sessionctl"
    )


def replicas(steps: Steps, session_id: SessionId) -> int:
    return int(steps.census.of(session_id).objects["deployments"]["spec"]["replicas"])


def move(cli: Cli, verb: str, session_id: SessionId) -> None:
    """Wake a session or put it to sleep, by a process of its own, while Helm waits."""
    cli.json(verb, session_id)


def bare_upgrade(cli: Cli, session_id: SessionId) -> subprocess.CompletedProcess[str]:
    """What an operator types."""
    return subprocess.run(
        ["helm", "upgrade", session_id, CHART, "--namespace", NAMESPACE, "--reuse-values", "--no-hooks"],
        env=dict(cli.environment),
        capture_output=True,
        text=True,
        check=False,
    )


async def upgrade(kubeconfig: Path, platform: LocalCluster, session_id: SessionId) -> None:
    """Upgrade as sessionctl does, through the proxy."""
    options = DirectOptions(kubeconfig=str(kubeconfig), helm=str(platform.binary("helm")))
    async with open_factory(options) as factory:
        releases = await factory.create_release_service()
        await releases.upgrade(session_id, await factory.helm.get_values(session_id))


async def test_a_wake_between_render_and_apply_is_a_conflict_and_is_not_lost(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy
) -> None:
    session_id = await steps.create()
    # Moved once before, so that its replicas are ours and not Helm's first ones.
    await steps.check_wakes(session_id)
    trap = api_proxy.trap(
        lambda request: is_apply_of(session_id, request), before=lambda: move(steps.cli, "wake", session_id)
    )

    done = await asyncio.to_thread(bare_upgrade, proxied, session_id)

    assert trap.seen == 1
    assert done.returncode != 0
    assert isinstance(classify("upgrade", done.stderr), ConflictError), done.stderr
    assert replicas(steps, session_id) == 1
    # What failed may change the pod: reconcile leaves it alone while the session is awake, and does it again later.
    spared = await asyncio.to_thread(steps.cli.run, "reconcile", "--grace", "0s", "-o", "json")
    assert spared.code == 1
    assert b"it is awake" in spared.out
    assert replicas(steps, session_id) == 1
    await steps.factory.demand.sleep(session_id)
    assert steps.reconcile([session_id]) == [(session_id, "upgrade")]
    assert replicas(steps, session_id) == 0
    assert steps.census.of(session_id).is_complete


@pytest.mark.parametrize("moved_before", [True, False])
async def test_an_upgrade_during_a_wake_renders_again_and_succeeds(
    steps: Steps,
    api_proxy: ApiProxy,
    kubeconfig: Path,
    platform: LocalCluster,
    moved_before: bool,
) -> None:
    session_id = await steps.create()
    if moved_before:
        await steps.check_wakes(session_id)
    applied: list[Request] = []

    def counted(request: Request) -> bool:
        if is_apply_of(session_id, request):
            applied.append(request)
            return True
        return False

    api_proxy.trap(counted, before=lambda: move(steps.cli, "wake", session_id))
    counter = api_proxy.trap(counted, nth=1000)

    await upgrade(kubeconfig, platform, session_id)
    api_proxy.disarm(counter)

    # The first one met the wake; each request is counted by both traps while both are set.
    assert counter.seen >= 2
    remains = steps.census.of(session_id)
    assert remains.is_complete
    assert replicas(steps, session_id) == 1


@pytest.mark.parametrize("bare", [True, False], ids=["bare helm", "sessionctl"])
async def test_an_upgrade_during_a_sleep_leaves_the_session_asleep(
    steps: Steps, proxied: Cli, api_proxy: ApiProxy, kubeconfig: Path, platform: LocalCluster, bare: bool
) -> None:
    session_id = await steps.create()
    await steps.wake(session_id)
    trap = api_proxy.trap(
        lambda request: is_apply_of(session_id, request), before=lambda: move(steps.cli, "sleep", session_id)
    )

    if bare:
        await asyncio.to_thread(bare_upgrade, proxied, session_id)
        steps.reconcile([session_id])
    else:
        await upgrade(kubeconfig, platform, session_id)

    assert trap.seen == 1
    assert steps.census.of(session_id).is_complete
    assert replicas(steps, session_id) == 0


@pytest.mark.parametrize("state", ["never woken", "awake", "asleep"])
async def test_a_bare_upgrade_moves_nobody(steps: Steps, cli: Cli, state: str) -> None:
    session_id = await steps.create()
    if state != "never woken":
        await steps.wake(session_id)
    if state == "asleep":
        await steps.factory.demand.sleep(session_id)
    before = steps.census.of(session_id).objects["deployments"]

    done = await asyncio.to_thread(bare_upgrade, cli, session_id)

    assert done.returncode == 0, done.stderr
    remains = steps.census.of(session_id)
    assert remains.is_complete
    after = remains.objects["deployments"]
    assert after["spec"] == before["spec"]
