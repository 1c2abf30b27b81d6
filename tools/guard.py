"""Runs a piece of work so that nothing of it survives: not Ctrl-C, not kill -9 of the caller or of the guard itself.

Two processes watch each other. The front, which the caller started, gets a signal when the caller dies. The worker, its
child, does the work and gets a signal when the front dies. Both adopt orphans, so whichever of them is left finds every
process of the work below itself and ends it, by pid.
"""

from __future__ import annotations

import contextlib
import os
import signal
import sys
import traceback
from typing import TYPE_CHECKING

from tools import processes

if TYPE_CHECKING:
    from collections.abc import Callable

# What a local cluster needs to take itself down and remove its directory, with room for a busy machine.
_GRACE_SECONDS = 15.0
_INTERRUPTED = 128


class Ended(BaseException):
    """The work is to end because of a signal."""

    def __init__(self, signum: int) -> None:
        super().__init__(signum)
        self.signum = signum


def guarded(work: Callable[[], int], *, daemons_stay: bool = False) -> int:
    """Run the work in a child process and return its exit status after everything it started is gone.

    Args:
        work: Runs with SIGINT as KeyboardInterrupt and SIGTERM as Ended.
        daemons_stay: Leave what still runs after a success, such as a cluster that was asked for.
    """
    caller = os.getppid()
    processes.become_subreaper()
    processes.set_parent_death_signal(signal.SIGTERM)
    if os.getppid() != caller:
        # It died before the line above; nobody would tell.
        return _INTERRUPTED + signal.SIGTERM
    # From here until the worker is known, a signal waits.
    signals = {signal.SIGTERM, signal.SIGHUP, signal.SIGINT}
    signal.pthread_sigmask(signal.SIG_BLOCK, signals)
    sys.stdout.flush()
    sys.stderr.flush()
    front = os.getpid()
    worker = os.fork()
    if worker == 0:
        os._exit(_worker(work, front, signals, daemons_stay=daemons_stay))
    status = _wait(worker, signals)
    if not (daemons_stay and status == 0):
        processes.end_descendants(_GRACE_SECONDS)
    return status


def _worker(work: Callable[[], int], front: int, signals: set[signal.Signals], *, daemons_stay: bool) -> int:
    processes.become_subreaper()
    processes.set_parent_death_signal(signal.SIGTERM)
    for signum in (signal.SIGTERM, signal.SIGHUP):
        signal.signal(signum, _raise)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        signal.pthread_sigmask(signal.SIG_UNBLOCK, signals)
        if os.getppid() != front:
            return _INTERRUPTED + signal.SIGTERM
        status = work()
    except KeyboardInterrupt:
        status = _INTERRUPTED + signal.SIGINT
    except Ended as ended:
        status = _INTERRUPTED + ended.signum
    except SystemExit as left:
        status = left.code if isinstance(left.code, int) else 1
    except BaseException:  # noqa: BLE001 - this is the top of the process
        traceback.print_exc()
        status = 1
    # A second Ctrl-C must not cut the cleaning short.
    for signum in signals:
        signal.signal(signum, signal.SIG_IGN)
    with contextlib.suppress(OSError):
        sys.stdout.flush()
        sys.stderr.flush()
    if not (daemons_stay and status == 0):
        processes.end_descendants(_GRACE_SECONDS)
    return status


def _wait(worker: int, signals: set[signal.Signals]) -> int:
    """Wait for the worker, and pass on the signals that come meanwhile; other dead children are collected."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGCHLD})
    # Ignored by default, and an ignored signal is not reported even when it is blocked.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    while True:
        with contextlib.suppress(ChildProcessError):
            while (found := os.waitpid(-1, os.WNOHANG))[0] != 0:
                if found[0] == worker:
                    code = os.waitstatus_to_exitcode(found[1])
                    return code if code >= 0 else _INTERRUPTED - code
        signum = signal.sigwait(signals | {signal.SIGCHLD})
        if signum != signal.SIGCHLD:
            with contextlib.suppress(ProcessLookupError):
                os.kill(worker, signum)


def _raise(signum: int, _frame: object) -> None:
    raise Ended(signum)
