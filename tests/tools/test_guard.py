"""Nothing of a guarded piece of work survives, however its processes end."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from collections.abc import Callable
from pathlib import Path

import pytest

from tests.tools.scripts import Script, wait_until
from tools import processes

# A stubborn process: own session, no reaction to polite signals; it says when it is that far.
_STUBBORN = """
import signal, sys, time
for signum in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP): signal.signal(signum, signal.SIG_IGN)
print("running", flush=True)
time.sleep(1000)
"""
_WORK = f"""
import os, subprocess, sys
from tools import guard
guard._GRACE_SECONDS = 0.5
def work():
    print("worker", os.getpid(), flush=True)
    subprocess.Popen([sys.executable, "-c", {_STUBBORN!r}], start_new_session=True)
    # A child that starts another and ends: an orphan.
    orphan = "import subprocess, sys; subprocess.Popen([sys.executable, '-c', " + repr({_STUBBORN!r}) + "])"
    return subprocess.Popen([sys.executable, "-c", orphan + "; import time; time.sleep(1000)"]).wait()
print("front", os.getpid(), flush=True)
sys.exit(guard.guarded(work))
"""
# A caller as make is one: it starts the work and waits.
_CALLER = ("bash", "-c", '"$@"; exit $?', "caller")


def _started(script: Callable[..., Script]) -> tuple[Script, int, int]:
    work = script(_WORK, *_CALLER)
    front, worker = (int(work.line().split()[1]) for _ in range(2))
    assert [work.line(), work.line()] == ["running", "running"]
    return work, front, worker


@pytest.mark.parametrize("victim", ["caller", "front", "worker"])
def test_nothing_survives_kill_9(script: Callable[..., Script], victim: str) -> None:
    work, front, worker = _started(script)
    assert len(work.left()) >= 6
    os.kill({"caller": work.process.pid, "front": front, "worker": worker}[victim], signal.SIGKILL)
    wait_until(lambda: not work.left())


@pytest.mark.parametrize("signum", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_nothing_survives_a_signal_and_the_status_tells_it(script: Callable[..., Script], signum: int) -> None:
    work, front, _ = _started(script)
    os.kill(front, signum)
    wait_until(lambda: not work.left())
    assert work.process.wait() == 128 + signum


@pytest.mark.parametrize(("stay", "status", "survives"), [(True, 0, True), (True, 3, False), (False, 0, False)])
def test_a_daemon_stays_only_where_it_was_asked_for_and_all_went_well(
    script: Callable[..., Script], stay: bool, status: int, survives: bool
) -> None:
    # The daemon must not hold the pipe that the test reads.
    daemon = f"subprocess.Popen([sys.executable, '-c', {_STUBBORN!r}], start_new_session=True, stdout=subprocess.PIPE)"
    work = script(f"""
import subprocess, sys
from tools import guard
guard._GRACE_SECONDS = 0.5
def work():
    daemon = {daemon}
    daemon.stdout.readline()
    daemon.returncode = 0
    return {status}
sys.exit(guard.guarded(work, daemons_stay={stay}))
""")
    assert work.process.wait() == status
    assert bool(work.left()) == survives


def test_kill_9_of_the_caller_takes_a_cluster_down_and_its_directory_with_it(
    script: Callable[..., Script], tmp_path: Path
) -> None:
    directory = tmp_path / "cluster"
    step = f"""
import os, pathlib, time
from tools.localcluster import ClusterSpec, LocalCluster
LocalCluster.start(ClusterSpec(), pathlib.Path({str(directory)!r}), os.getpid())
print("up", flush=True)
time.sleep(1000)
"""
    work = script(
        f"import subprocess, sys; from tools.guard import guarded;"
        f"sys.exit(guarded(lambda: subprocess.Popen([sys.executable, '-c', {step!r}]).wait()))",
        *_CALLER,
    )
    assert work.line() == "up"
    assert len(work.left()) > 10
    work.process.kill()
    wait_until(lambda: not work.left() and not directory.exists())
    assert not processes.processes_mentioning(str(directory))


def test_an_old_python_gets_a_line_and_no_traceback() -> None:
    old = "import sys; sys.version_info = (3, 9, 2); sys.argv = ['tools/dev.py', 'test']; sys.path.insert(0, 'tools')"
    run = f"{old}; import runpy; runpy.run_path('tools/dev.py', run_name='__main__')"
    done = subprocess.run([sys.executable, "-c", run], capture_output=True, text=True, check=False)
    assert done.returncode == 1
    assert done.stderr.startswith("error: this is Python")
    assert len(done.stderr.splitlines()) == 1
