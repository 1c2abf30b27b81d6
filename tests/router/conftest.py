"""The router, as a real nginx on what the chart renders, between spies: a manager, pods, and a DNS server.

They are shared by the tests of this folder; each test has sessions of its own.
"""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

import pytest

from tests.router.stage import DOMAIN, SpyManager, Stage
from tests.support.spies import Servers
from tools.errors import ToolError
from tools.localrouter import LocalRouter
from tools.toolchain import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator


@pytest.fixture(scope="session", autouse=True)
def _nginx() -> None:
    """On a laptop without it the other tests still mean something; in CI nothing may be left out."""
    try:
        ensure(["helm", "nginx"])
    except ToolError as error:
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def servers() -> Iterator[Servers]:
    """The spies."""
    with Servers() as servers:
        yield servers


@pytest.fixture(scope="session")
def router(servers: Servers, tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalRouter]:
    """The router, with the defaults of the chart but for its domain."""
    values = {"config": {"sessions": {"domain": DOMAIN}}}
    managers = [servers.ports["manager"]]
    folder = tmp_path_factory.mktemp("router")
    with LocalRouter(
        folder, values=values, managers=managers, dns=servers.ports["dns"], pod_port=servers.pod_port
    ) as router:
        yield router


@pytest.fixture(scope="session")
def _manager(servers: Servers) -> SpyManager:
    return SpyManager(servers)


@pytest.fixture
def manager(_manager: SpyManager) -> SpyManager:
    """The only manager there is; it answers."""
    _manager.reset()
    return _manager


@pytest.fixture
def stage(router: LocalRouter, servers: Servers, manager: SpyManager) -> Stage:
    """Sessions, their pods, and who visits them."""
    return Stage(router, servers, manager)
