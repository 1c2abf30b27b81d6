"""Processes that end together: parent-death signals and the end of all descendants, by pid only."""

from __future__ import annotations

import contextlib
import ctypes
import os
import signal
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable

_PR_SET_PDEATHSIG = 1
_PR_SET_CHILD_SUBREAPER = 36
_POLL_SECONDS = 0.01
# Loaded before any fork: a child between fork and exec must not import or allocate more than it has to.
_LIBC = ctypes.CDLL(None, use_errno=True)


def set_parent_death_signal(signum: int) -> None:
    """Have the kernel send signum to this process when the thread that started it ends."""
    _prctl(_PR_SET_PDEATHSIG, signum)


def become_subreaper() -> None:
    """Adopt orphaned descendants, so that none of them can escape to init."""
    _prctl(_PR_SET_CHILD_SUBREAPER, 1)


def dies_with_parent(signum: int = signal.SIGKILL) -> Callable[[], None]:
    """Return a preexec_fn for a child that must not outlive this process; call it in the main thread only."""
    parent = os.getpid()

    def preexec() -> None:
        _LIBC.prctl(_PR_SET_PDEATHSIG, signum, 0, 0, 0)
        # The parent may have died before the line above; then nobody would ever send the signal.
        if os.getppid() != parent:
            os._exit(1)

    return preexec


def is_alive(pid: int) -> bool:
    """Tell whether the pid runs; a zombie does not."""
    fields = _stat(pid)
    return fields is not None and fields[0] not in "ZX"


def start_ticks(pid: int) -> int | None:
    """Return when the pid started, in clock ticks since boot: with the pid it names a process for good."""
    fields = _stat(pid)
    return None if fields is None else int(fields[19])


def descendants(root: int) -> list[int]:
    """List the living descendants of a process, zombies left out."""
    children: dict[int, list[int]] = {}
    dead = set()
    for pid in _pids():
        fields = _stat(pid)
        if fields is None:
            continue
        children.setdefault(int(fields[1]), []).append(pid)
        if fields[0] in "ZX":
            dead.add(pid)
    found: list[int] = []
    todo = [root]
    while todo:
        below = children.get(todo.pop(), [])
        found += below
        todo += below
    return [pid for pid in found if pid not in dead]


def end_descendants(grace: float) -> None:
    """End every descendant of this process: SIGTERM, and SIGKILL for what is left after grace seconds.

    Orphans come back to a subreaper, so the walk is repeated until it finds nothing.
    """
    deadline = time.monotonic() + grace
    asked: set[int] = set()
    while left := descendants(os.getpid()):
        hurry = time.monotonic() >= deadline
        for pid in left:
            if hurry or pid not in asked:
                _send(pid, signal.SIGKILL if hurry else signal.SIGTERM)
                # A stopped process would take a SIGTERM only when continued.
                _send(pid, signal.SIGCONT)
            asked.add(pid)
        reap()
        time.sleep(_POLL_SECONDS)
    reap()


def reap(keep: frozenset[int] = frozenset()) -> None:
    """Collect dead children that nobody waits for; those in keep are left to their Popen."""
    with contextlib.suppress(ChildProcessError):
        while (found := os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)) is not None:
            if found.si_pid in keep:
                return
            os.waitpid(found.si_pid, os.WNOHANG)


def reap_child(pid: int, *, wait: bool = False) -> None:
    """Collect one child that was started without a Popen; a process that is no child is fine."""
    with contextlib.suppress(ChildProcessError):
        os.waitpid(pid, 0 if wait else os.WNOHANG)


def processes_mentioning(text: str) -> list[int]:
    """List living processes, this one excepted, that carry the text in command line, environment or working directory.

    For tests and for the last look after a teardown; processes of other users are invisible to it.
    """
    wanted = text.encode()
    found = []
    for pid in _pids():
        if pid == os.getpid() or not is_alive(pid):
            continue
        traces = b""
        for name in ("cmdline", "environ"):
            with contextlib.suppress(OSError):
                traces += Path("/proc", str(pid), name).read_bytes()
        with contextlib.suppress(OSError):
            traces += os.fsencode(Path("/proc", str(pid), "cwd").readlink())
        if wanted in traces:
            found.append(pid)
    return found


def _pids() -> list[int]:
    return [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]


def _send(pid: int, signum: int) -> None:
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.kill(pid, signum)


def _stat(pid: int) -> list[str] | None:
    """Return /proc/PID/stat from the state on; the name before it may hold spaces and brackets."""
    try:
        text = Path("/proc", str(pid), "stat").read_text(errors="replace")
    except OSError:
        return None
    return text.rpartition(")")[2].split()


def _prctl(option: int, value: int) -> None:
    if sys.platform != "linux":
        return
    if _LIBC.prctl(option, value, 0, 0, 0) != 0:
        raise OSError(ctypes.get_errno(), os.strerror(ctypes.get_errno()))
