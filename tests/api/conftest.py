"""The Session API in this process, on the simulated cluster that all tests share; and as a process of its own."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from sessionctl.core.sessions import NewSession
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.models import SessionId
from tests.api.world import MINE, OTHER, Api, open_api
from tests.support.api_proxy import ApiProxy
from tests.support.fixtures import api_proxy, census, cli, factory, proxied, redis_proxy, steps
from tests.support.redis_proxy import RedisProxy
from tools.localcluster import LocalCluster

__all__ = ["api_proxy", "census", "cli", "factory", "proxied", "redis_proxy", "steps"]


@pytest.fixture(scope="session")
def options(platform: LocalCluster) -> DirectOptions:
    """How this process reaches the cluster."""
    os.environ.update({name: platform.environment()[name] for name in _FOLDERS})
    return DirectOptions(kubeconfig=str(platform.kubeconfig), helm=str(platform.binary("helm")))


_FOLDERS = ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME")


@pytest.fixture(scope="session")
def sessions(options: DirectOptions) -> dict[str, SessionId]:
    """One session of each tenant, which tests wake and put to sleep but do not delete."""
    return asyncio.run(_create(options))


async def _create(options: DirectOptions) -> dict[str, SessionId]:
    async with open_factory(options) as factory:
        # Opens the gate: nothing may sleep before that.
        assert (await (await factory.create_sweep_loop()).once()).gate_open
        service = await factory.create_session_service()
        made = [
            await service.create(NewSession(user_id="alice", tenant=tenant, profile="default"))
            for tenant in (MINE, OTHER)
        ]
        return {session.owner.tenant: session.session_id for session in made}


@pytest.fixture
def mine(sessions: dict[str, SessionId]) -> SessionId:
    """A session of the tenant whose keys tests use."""
    return sessions[MINE]


@pytest.fixture
def other(sessions: dict[str, SessionId]) -> SessionId:
    """A session of another tenant."""
    return sessions[OTHER]


@pytest.fixture
async def api(options: DirectOptions, sessions: dict[str, SessionId]) -> AsyncIterator[Api]:
    """The application, synced; the gate is open."""
    async with open_factory(options) as factory, open_api(factory) as opened:
        yield opened


@pytest.fixture
async def exposed(
    platform: LocalCluster,
    sessions: dict[str, SessionId],
    api_proxy: ApiProxy,
    redis_proxy: RedisProxy,
    tmp_path: Path,
) -> AsyncIterator[Api]:
    """The application behind both proxies."""
    options = DirectOptions(
        kubeconfig=str(api_proxy.write_kubeconfig(tmp_path / "kubeconfig")), helm=str(platform.binary("helm"))
    )
    async with open_factory(options) as factory, open_api(factory) as api:
        yield api
        api_proxy.away = redis_proxy.away = False
