"""The local cluster that tests of several folders share."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tools.errors import ToolError
from tools.localcluster import ClusterSpec, LocalCluster


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A simulated cluster of this test run; tests use namespaces or sessions of their own and break nothing in it."""
    directory = tmp_path_factory.mktemp("cluster") / "shared"
    try:
        started = LocalCluster.start(ClusterSpec(), directory, os.getpid())
    except ToolError as error:
        # On a laptop without the tools the other tests still mean something; in CI nothing may be left out.
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))
    yield started
    started.stop()


@pytest.fixture(scope="session")
def platform(cluster: LocalCluster) -> LocalCluster:
    """The shared cluster with charts/platform installed."""
    cluster.install_platform()
    return cluster
