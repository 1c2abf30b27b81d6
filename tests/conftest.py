"""The local cluster that tests of several folders share, and how tests are shared out among workers."""

from __future__ import annotations

import signal
from collections.abc import Iterator
from functools import partial
from typing import Any, Final

import pytest
from xdist.remote import Producer
from xdist.scheduler import LoadScopeScheduling

from tests.support.clusters import start_or_skip
from tools.localcluster import ClusterSpec, LocalCluster

TOGETHER: Final = ("node", "chaos", "cluster", "recovery", "cli", "api", "charts", "tools")
"""The folders that workers begin with, the longest first: each is for one worker, which starts their cluster once."""
SHARING: Final = frozenset({"recovery", "cli", "api", "charts", "tools"})
"""The folders whose tests use the cluster that is shared by folders."""


class ClustersTogether(LoadScopeScheduling):  # type: ignore[misc]  # it has no types
    """Gives what shares a cluster to one worker, and the other files one by one, so that all workers end together."""

    def _split_scope(self, nodeid: str) -> str:
        folder = _folder(nodeid)
        return folder if folder in TOGETHER else nodeid.partition("::")[0]


def pytest_configure() -> None:
    """Let Ctrl-C reach what tests start, also where a shell started this in the background and had it ignored."""
    if signal.getsignal(signal.SIGINT) is signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> ClustersTogether:
    """Share the tests out by cluster when there are workers."""
    config.option.loadscopereorder = False
    return ClustersTogether(config, log)


def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Put the folders that take longest first, for workers only: a person wants the quick ones first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: [*TOGETHER, _folder(item.nodeid)].index(_folder(item.nodeid)))


@pytest.hookimpl(trylast=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """End what a folder's tests share with the last of them: a cluster costs a fifth of a core while it idles.

    ``package`` is pytest's scope for it, and needs an ``__init__.py`` in every folder.
    """
    known: Any = item
    for parent in item.iter_parents():
        if parent.nodeid.startswith("tests/"):
            for found in known._fixtureinfo.name2fixturedefs.values():
                if found[-1].scope == "session" and found[-1].baseid == parent.nodeid:
                    # Once more than needed does nothing.
                    parent.addfinalizer(partial(found[-1].finish, known._request))
    if _folder(item.nodeid) not in SHARING:
        # The folders that share it are behind us.
        for shared in item.session._fixturemanager.getfixturedefs("cluster", item) or ():
            shared.finish(known._request)


def _folder(nodeid: str) -> str:
    return nodeid.split("/")[1]


@pytest.fixture(scope="session")
def cluster(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A simulated cluster of this test run; tests use namespaces or sessions of their own and break nothing in it."""
    directory = tmp_path_factory.mktemp("cluster") / "shared"
    started = start_or_skip(ClusterSpec(), directory)
    yield started
    started.stop()


@pytest.fixture(scope="session")
def platform(cluster: LocalCluster) -> LocalCluster:
    """The shared cluster with charts/platform installed."""
    cluster.install_platform()
    return cluster
