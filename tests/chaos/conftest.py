"""A cluster with two managers and short times, and sessions on it."""

from __future__ import annotations

import asyncio
import os
from typing import TYPE_CHECKING, Final

import httpx
import pytest

from sessionctl.factory import DirectOptions, open_factory
from tests.support.clusters import start_or_skip
from tests.support.fleet import make_fleet
from tests.support.waiting import wait_for
from tools.localcluster import ClusterSpec, LocalCluster
from tools.localcluster.managers import make_key

if TYPE_CHECKING:
    from collections.abc import Iterator

    from sessionctl.models import SessionId

IDLE_SECONDS: Final = 6
SESSIONS: Final = int(os.environ.get("SESSIONCTL_CHAOS_SESSIONS", "40"))
CONFIG: Final = {
    "idle": {"timeout": f"{IDLE_SECONDS}s", "touchInterval": "500ms", "probe": "none"},
    "sweep": {"interval": "500ms", "gateInterval": "500ms"},
    # Should a simulated pod not become ready, its start is given up before the patience of the test is over.
    "sessions": {"startTimeout": "60s"},
    "scaling": {"pollingInterval": 2, "cooldownPeriod": 7},
    "quotas": {"sessionsPerUser": 0},
    "api": {"keyRate": 10000, "keyBurst": 10000, "userRate": 10000, "userBurst": 10000, "drain": "0s"},
}


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    started = start_or_skip(ClusterSpec(managers=2), tmp_path_factory.mktemp("chaos") / "c")
    started.install_platform({"config": CONFIG})
    yield started
    started.stop()


@pytest.fixture(scope="session")
def api_key(arena: LocalCluster) -> str:
    """A key that both managers know."""
    key = make_key(arena, "chaos")
    assert key is not None

    def known() -> bool:
        headers = {"X-API-Key": key}
        return all(
            httpx.get(f"{url}/sessions", headers=headers, trust_env=False).is_success for url in arena.state.api_urls
        )

    wait_for(known, "both managers know the key")
    return key


@pytest.fixture(scope="session")
def sessions(arena: LocalCluster) -> list[SessionId]:
    """Sessions that sleep."""
    options = DirectOptions(kubeconfig=str(arena.kubeconfig), helm=str(arena.binary("helm")))

    async def make() -> list[SessionId]:
        async with open_factory(options) as factory:
            return await make_fleet(factory, arena, SESSIONS)

    return asyncio.run(make())
