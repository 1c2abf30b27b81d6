"""Runs one command, and leaves nothing of it behind when the agent dies or cancels.

    guard.py CONTROL LOCK GRACE PROGRAM [ARGUMENT...]

A script of its own, because the agent has threads and must not fork. It is run by its path and loads next to nothing,
because a user waits for it: contextlib, json, socket and typing would double its start. CONTROL is a socket to the
agent: any byte from there asks for an end, its closing means that the agent is dead. LOCK is the lock of the workspace,
held on until all that ran here is gone. What the command started lives on when the command ends by itself, and dies
with it otherwise.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import sys
import time

TYPE_CHECKING = False
if TYPE_CHECKING:
    from typing import Final, NoReturn

PR_SET_PDEATHSIG: Final = 1
PR_SET_CHILD_SUBREAPER: Final = 36
STANDARD_SIGNALS: Final = frozenset(range(1, 32))
NOT_RUN: Final = 127
LOOK_SECONDS: Final = 0.02


class Guard:
    """Waits for the command, for the agent and for time to pass."""

    def __init__(self, control: int, grace: float) -> None:
        self._control = control
        self._grace = grace
        self._prctl = ctypes.CDLL(None).prctl
        # Whatever loses its parent below here becomes our child, in whatever process group it is.
        self._prctl(PR_SET_CHILD_SUBREAPER, 1, 0, 0, 0)
        self._woken, woken = os.pipe()
        for end in (self._woken, woken):
            os.set_blocking(end, False)
        signal.set_wakeup_fd(woken)
        for number in (signal.SIGCHLD, signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, lambda *_: None)  # handled, not ignored: a program would inherit that
        self._exit: int | None = None
        self._pid = 0

    def run(self, command: list[str]) -> None:
        """Run the command and tell the agent how it ended."""
        error = self._start(command)
        self._tell(f"pid {self._pid}")
        if error:
            self._tell(f"error {error}")
            return
        deadline: float | None = None
        while self._reap() and (self._exit is None or deadline is not None):
            left = None if deadline is None else deadline - time.monotonic()
            if left is not None and left <= 0:
                self._kill_all()
                break
            ready, _, _ = select.select([self._control, self._woken], [], [], left)
            if self._woken in ready:
                os.read(self._woken, 4096)
            if self._control in ready:
                if not self._hear():
                    self._kill_all()
                    return
                if deadline is None:
                    deadline = time.monotonic() + self._grace
                    _signal_all(signal.SIGTERM)
        self._tell(f"exit {self._exit}")

    def _start(self, command: list[str]) -> str:
        """Start the command; returns once it is the program that was asked for, or why it could not be."""
        reader, writer = os.pipe()
        ours = os.getpid()
        self._pid = os.fork()
        if self._pid == 0:
            self._become(command, ours, writer)
        os.close(writer)
        # The pipes are the command's alone, so that each side sees when the other has closed its end.
        nothing = os.open(os.devnull, os.O_RDWR)
        for standard in range(3):
            os.dup2(nothing, standard, inheritable=False)
        with open(reader, "rb") as stream:  # noqa: PTH123 - it is no path
            return stream.read().decode()

    def _become(self, command: list[str], parent: int, failure: int) -> NoReturn:
        try:
            os.setsid()
            self._prctl(PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
            if os.getppid() == parent:
                for number in STANDARD_SIGNALS - {signal.SIGKILL, signal.SIGSTOP}:
                    # Python ignores some; whoever started the agent may have had others ignored.
                    signal.signal(number, signal.SIG_DFL)
                os.execvp(command[0], command)  # noqa: S606 - no shell is wanted
        except OSError as error:
            os.write(failure, (error.strerror or "it could not be run").encode())
        finally:
            os._exit(NOT_RUN)

    def _reap(self) -> bool:
        """Take leave of the dead; False when nobody is left."""
        while True:
            try:
                pid, status = os.waitpid(-1, os.WNOHANG)
            except ChildProcessError:
                return False
            if pid == 0:
                return True
            if pid == self._pid:
                self._exit = os.waitstatus_to_exitcode(status)

    def _kill_all(self) -> None:
        """Kill until nobody is left: whoever was being started meanwhile is ours a moment later."""
        _signal_all(signal.SIGKILL)
        while self._reap():
            time.sleep(LOOK_SECONDS)
            _signal_all(signal.SIGKILL)

    def _hear(self) -> bytes:
        try:
            return os.read(self._control, 64)
        except OSError:
            return b""

    def _tell(self, what: str) -> None:
        try:
            os.write(self._control, what.encode() + b"\n")
        except OSError:
            return  # the agent is gone, which the next look at the control shows


def _signal_all(number: int) -> None:
    for pid in _descendants():
        try:
            os.kill(pid, number)
        except OSError:
            continue  # it has just ended, or has become somebody else's


def _descendants() -> list[int]:
    """Return all processes below this one."""
    children: dict[int, list[int]] = {}
    for name in filter(str.isdecimal, os.listdir("/proc")):  # noqa: PTH208 - pathlib takes as long to load as the rest
        try:
            with open(f"/proc/{name}/stat", "rb") as file:  # noqa: PTH123 - as above
                # The name of a program may hold anything, a bracket too.
                parent = int(file.read().rpartition(b")")[2].split()[1])
        except OSError:
            continue
        children.setdefault(parent, []).append(int(name))
    found, below = [], children.get(os.getpid(), [])
    while below:
        found += below
        below = [child for pid in below for child in children.get(pid, [])]
    return found


def main() -> None:
    """Run as the agent asks."""
    control, lock, grace, *command = sys.argv[1:]
    for descriptor in (int(control), int(lock)):
        os.set_inheritable(descriptor, False)  # noqa: FBT003 - the library's own signature
    Guard(int(control), float(grace)).run(command)
    os._exit(0)  # an orderly end of the interpreter would take as long as its start


if __name__ == "__main__":
    main()
