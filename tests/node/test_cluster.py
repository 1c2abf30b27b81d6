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
from tests.tools.scripts import Script
from tools import processes
from tools.localcluster import ClusterError, ClusterSpec, LocalCluster, machine

_REAL = ClusterSpec(kind="real")


@pytest.fixture(autouse=True)
def _possible() -> None:
    if (reason := machine.why_not()) and not os.environ.get("CI"):
        pytest.skip(reason)


def _start(directory: Path) -> LocalCluster:
    return LocalCluster.start(_REAL, directory, os.getpid())


def _end_by_stop(cluster: LocalCluster) -> None:
    cluster.stop()


def _kill_keeper(cluster: LocalCluster) -> None:
    os.kill(cluster.state.supervisor, signal.SIGKILL)
    processes.reap_child(cluster.state.supervisor, wait=True)


def _kill_first_process(cluster: LocalCluster) -> None:
    os.kill(processes.descendants(cluster.state.supervisor)[0], signal.SIGKILL)
    processes.reap_child(cluster.state.supervisor, wait=True)


@pytest.mark.parametrize("end", [_end_by_stop, _kill_keeper, _kill_first_process])
def test_nothing_is_left_of_a_cluster(tmp_path: Path, end: Callable[[LocalCluster], None]) -> None:
    before = Machine.look()
    cluster = _start(tmp_path / "cluster")
    traces = Traces.of(cluster)
    assert len(traces.pids) > 10
    assert len(traces.namespaces) >= 5
    assert groups()

    end(cluster)

    traces.wait_until_gone()
    assert Machine.look() == before


def test_a_second_one_is_refused_and_what_was_killed_whole_is_cleared_by_the_next(tmp_path: Path) -> None:
    first = _start(tmp_path / "first")
    with pytest.raises(ClusterError, match="already") as refused:
        _start(tmp_path / "second")
    assert "make down" in str(refused.value)
    assert not (tmp_path / "second").exists()
    assert "Ready" in first.kubectl("get", "nodes")

    traces = Traces.of(first)
    for pid in traces.pids[:2]:
        os.kill(pid, signal.SIGKILL)
    processes.reap_child(first.state.supervisor, wait=True)
    # Nobody was left to tidy; a start in the same place does.
    again = _start(tmp_path / "first")
    again.stop()

    traces.wait_until_gone()


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
