"""One real node for all tests of this folder: a machine has room for one."""

from __future__ import annotations

import os
from collections.abc import Iterator

import pytest

from tests.node.platforms import BARE, MANAGED, Installed
from tests.node.traces import Machine, Traces
from tests.node.workspaces import Workspaces
from tests.support.clusters import start_or_skip
from tests.tools.conftest import script
from tools.localcluster import ClusterSpec, LocalCluster, machine

__all__ = ["script"]


@pytest.fixture(scope="session")
def node(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster with real pods; after it the machine is what it was before."""
    if (reason := machine.why_not()) and not os.environ.get("CI"):
        pytest.skip(reason)
    directory = tmp_path_factory.mktemp("node") / "cluster"
    before = Machine.look()
    started = start_or_skip(ClusterSpec(kind="real", keep=True), directory)
    try:
        yield started
    finally:
        # The one that runs now: a test may have killed the first.
        last = LocalCluster.attach(directory)
        traces = Traces.of(last)
        last.stop()
    traces.wait_until_gone()
    assert Machine.look() == before


@pytest.fixture(scope="session")
def installed(node: LocalCluster) -> Installed:
    """The platform release of the node."""
    return Installed(node)


@pytest.fixture(scope="module")
def bare(installed: Installed) -> LocalCluster:
    """The node with the platform chart, Redis as a pod, and no manager."""
    return installed.want(BARE)


@pytest.fixture(scope="module")
def managed(installed: Installed) -> LocalCluster:
    """The same with two managers."""
    return installed.want(MANAGED)


@pytest.fixture(scope="module")
def api_key(installed: Installed, managed: LocalCluster) -> str:
    """A key that both managers know, or will in a moment."""
    return installed.key_for(managed)


@pytest.fixture
def workspaces(bare: LocalCluster) -> Iterator[Workspaces]:
    """Sessions on the node; those that a test made are gone after it."""
    with Workspaces.on(bare) as found:
        yield found
