"""Fixtures of the tests that run the command line on a real control plane; a conftest.py imports what it needs."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterator

import pytest

from sessionctl.factory import DirectOptions, Factory, open_factory
from tests.support.api_proxy import ApiProxy
from tests.support.census import Census
from tests.support.redis_proxy import RedisProxy
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tools.localcluster import LocalCluster

PLATFORM_CONFIG = "/api/v1/namespaces/sessionctl/configmaps/sessionctl-platform"


@pytest.fixture(scope="module")
def redis_proxy(platform: LocalCluster) -> Iterator[RedisProxy]:
    """The way to Redis that calls through `proxied` take."""
    with RedisProxy(platform.redis.host, platform.redis.port) as proxy:
        yield proxy


@pytest.fixture(scope="module")
def api_proxy(platform: LocalCluster, redis_proxy: RedisProxy) -> Iterator[ApiProxy]:
    """The way to the API server that calls through `proxied` take, and Helm with them."""
    with ApiProxy(platform) as proxy:
        # Whoever comes this way finds Redis behind its proxy too.
        proxy.rewrite(PLATFORM_CONFIG, f"port: {platform.redis.port}", f"port: {redis_proxy.port}")
        yield proxy


@pytest.fixture(scope="module")
def proxied(platform: LocalCluster, api_proxy: ApiProxy, tmp_path_factory: pytest.TempPathFactory) -> Cli:
    """The command line behind both proxies."""
    return Cli.on(platform, api_proxy.write_kubeconfig(tmp_path_factory.mktemp("proxied") / "kubeconfig"))


@pytest.fixture(scope="module")
def cli(platform: LocalCluster) -> Cli:
    """The command line on the cluster itself."""
    cli = Cli.on(platform)
    # Opens the gate: nothing may sleep before that.
    assert cli.run("sweep").code == 0
    return cli


@pytest.fixture
def census(platform: LocalCluster) -> Census:
    """What there is of sessions."""
    return Census(platform)


@pytest.fixture
async def factory(platform: LocalCluster, monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[Factory]:
    """The services, in this process: to prepare and to look, where the command line is not under test."""
    for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME", "KUBECACHEDIR"):
        monkeypatch.setenv(name, platform.environment()[name])
    options = DirectOptions(kubeconfig=str(platform.kubeconfig), helm=str(platform.binary("helm")))
    async with open_factory(options) as opened:
        yield opened


@pytest.fixture
def steps(factory: Factory, census: Census, cli: Cli) -> Iterator[Steps]:
    """What tests do to sessions besides what they test; their sessions are removed after it."""
    steps = Steps(factory, census, cli)
    yield steps
    census.wipe(steps.made)
