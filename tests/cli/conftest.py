"""Fixtures of the tests of the command line."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from tests.support.fixtures import api_proxy, census, cli, factory, proxied, redis_proxy, steps
from tests.support.served_api import ACME, DEFAULT, ServedApi
from tests.support.sessionctl_cli import Cli
from tools.localcluster import LocalCluster

__all__ = ["api_proxy", "census", "cli", "factory", "proxied", "redis_proxy", "steps"]

MODES = ("direct", "api")


@pytest.fixture(scope="session")
def served(platform: LocalCluster, tmp_path_factory: pytest.TempPathFactory) -> Iterator[ServedApi]:
    """The Session API on the shared cluster; its manager does all that managers do."""
    with ServedApi.start(platform, tmp_path_factory.mktemp("served")) as api:
        yield api


@pytest.fixture(params=MODES)
def either(request: pytest.FixtureRequest, cli: Cli) -> Cli:
    """The command line, with a kubeconfig alone and with a key alone."""
    return _by(request, cli, DEFAULT)


@pytest.fixture(params=MODES)
def either_of_acme(request: pytest.FixtureRequest, cli: Cli) -> Cli:
    """As `either`, with a key of the tenant acme."""
    return _by(request, cli, ACME)


def _by(request: pytest.FixtureRequest, cli: Cli, key: str) -> Cli:
    if request.param == "direct":
        return cli
    served: ServedApi = request.getfixturevalue("served")
    return served.cli(key)
