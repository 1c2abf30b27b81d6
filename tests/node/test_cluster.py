"""The real cluster itself: refusals, and nothing left of one, however it ended.

A machine has room for one: these run before the cluster that the other files of this folder share.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.node.traces import Machine, Traces, groups
from tests.support.waiting import wait_for
from tests.tools.scripts import Script
from tools import processes
from tools.localcluster import ClusterError, ClusterSpec, LocalCluster, machine

_SPEC = ClusterSpec(kind="real", bare=True)


@pytest.fixture(autouse=True)
def _possible() -> None:
    if (reason := machine.why_not()) and not os.environ.get("CI"):
        pytest.skip(reason)


def _start(directory: Path) -> LocalCluster:
    return LocalCluster.start(_SPEC, directory, os.getpid())


def _kill(*pids: int) -> None:
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
        processes.reap_child(pid, wait=True)


def test_nothing_is_left_of_a_cluster_whose_keeper_is_killed(tmp_path: Path) -> None:
    before = Machine.look()
    cluster = _start(tmp_path / "cluster")
    traces = Traces.of(cluster)
    assert len(traces.pids) > 10
    assert len(traces.namespaces) >= 5
    assert groups()

    _kill(cluster.state.supervisor)

    traces.wait_until_gone()
    assert Machine.look() == before


def test_of_one_that_is_killed_whole_the_next_removes_what_is_left(tmp_path: Path) -> None:
    before = Machine.look()
    first = _start(tmp_path / "cluster")
    traces = Traces.of(first)
    keeper, inside = traces.pids[:2]
    _kill(keeper, inside)
    wait_for(lambda: not processes.is_alive(inside), "the kernel ends the rest")
    # Nobody was left to tidy.
    assert groups()
    assert first.directory.exists()

    cluster = _start(first.directory)

    _refuses_a_second(cluster, tmp_path / "second")
    _kill(processes.descendants(cluster.state.supervisor)[0])
    traces.wait_until_gone()
    assert Machine.look() == before


def _refuses_a_second(cluster: LocalCluster, directory: Path) -> None:
    with pytest.raises(ClusterError, match="already") as refused:
        _start(directory)
    assert "make down" in str(refused.value)
    assert not directory.exists()
    assert "Ready" in cluster.kubectl("get", "nodes")


def test_somebody_without_rights_is_refused_before_anything_is_made(
    script: Callable[..., Script], tmp_path: Path
) -> None:
    directory = tmp_path / "cluster"
    other = script(f"""
import os, pathlib
from tools.localcluster import ClusterSpec, LocalCluster
os.setuid(65534)
try:
    LocalCluster.start(ClusterSpec(kind="real"), pathlib.Path({str(directory)!r}), os.getpid())
except Exception as error:
    print(error)
""")
    assert "root with CAP_SYS_ADMIN" in other.line()
    assert not directory.exists()
