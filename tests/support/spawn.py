"""Processes of the product that are forked from one that has loaded it, where what is tested is not how it loads."""

from __future__ import annotations

import functools
import json
import os
import select
import signal
import socket
import subprocess
import sys
import threading
import weakref
from pathlib import Path
from typing import IO, TYPE_CHECKING, Final

from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

COMMAND_LINE: Final = ("sessionctl.cli", "sessionctl.factory", "sessionctl.core", "sessionctl.adapters")
"""The packages that `sessionctl` may load, but for `serve`."""
MANAGER: Final = (*COMMAND_LINE, "sessionctl.api")
AGENT: Final = ("sessionctl.agent",)

_AS_OUTSIDE: Final = frozenset({"PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"})
_CHUNK: Final = 1 << 16


class Forked:
    """A process of a zygote: what tests use of ``subprocess.Popen``."""

    def __init__(self, asked: socket.socket, pipes: dict[int, int]) -> None:
        with asked:
            self.pid = int(asked.recv(_CHUNK) or b"0")
            assert self.pid, "the zygote has died"
            # A number, and no object that would complain when it is garbage before this one.
            self._told = asked.detach()
        weakref.finalize(self, os.close, self._told)
        self._pipes = pipes
        self.returncode: int | None = None

    def poll(self) -> int | None:
        """Return how it ended, None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Return how it ended.

        Raises:
            subprocess.TimeoutExpired: It runs on.
        """
        found = self._look(timeout)
        if found is None:
            raise subprocess.TimeoutExpired(str(self.pid), timeout or 0)
        return found

    def send_signal(self, number: int) -> None:
        """Send a signal, unless it has ended."""
        if self.poll() is None:
            os.kill(self.pid, number)

    def terminate(self) -> None:
        """Ask it to end."""
        self.send_signal(signal.SIGTERM)

    def kill(self) -> None:
        """End it."""
        self.send_signal(signal.SIGKILL)

    def communicate(self, given: bytes | None = None, timeout: float | None = None) -> tuple[bytes, bytes]:
        """Give it something to read, and return what it wrote to the pipes that it has, when it has ended."""
        streams = {number: os.fdopen(pipe, "wb" if number == 0 else "rb") for number, pipe in self._pipes.items()}
        self._pipes = {}
        found: dict[int, bytes] = {}
        threads = [
            threading.Thread(target=_feed if number == 0 else _drain, args=(stream, number, given, found), daemon=True)
            for number, stream in streams.items()
        ]
        for thread in threads:
            thread.start()
        self.wait(timeout)
        for thread in threads:
            thread.join(timeout)
        return found.get(1, b""), found.get(2, b"")

    def _look(self, timeout: float | None) -> int | None:
        """Wait for its end; of several threads all learn of it."""
        if self.returncode is None:
            told = select.poll()
            told.register(self._told, select.POLLIN)
            if told.poll(None if timeout is None else timeout * 1000):
                # An end without a word is that of its zygote, too.
                with socket.socket(fileno=os.dup(self._told)) as end:
                    self.returncode = int(end.recv(_CHUNK, socket.MSG_PEEK) or -signal.SIGKILL)
        return self.returncode


def _feed(stream: IO[bytes], _number: int, given: bytes | None, _found: dict[int, bytes]) -> None:
    try:
        with stream:
            stream.write(given or b"")
    except BrokenPipeError:
        pass


def _drain(stream: IO[bytes], number: int, _given: bytes | None, found: dict[int, bytes]) -> None:
    with stream:
        found[number] = stream.read()


def differs(environment: Mapping[str, str]) -> bool:
    """Whether Python would be another one in this environment, which a fork cannot become."""
    own = _environment()
    return any(own.get(name) != value for name, value in environment.items() if name.startswith("PYTHON"))


def _environment() -> dict[str, str]:
    return {name: value for name, value in os.environ.items() if name not in _AS_OUTSIDE}


class Zygote:
    """One Python that has loaded some packages; it ends with this process."""

    def __init__(self, packages: Sequence[str]) -> None:
        self._control, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            # Not subprocess: it ends by itself, and an unwaited Popen is a warning.
            os.posix_spawn(
                sys.executable,
                [sys.executable, "-m", "tests.support.zygote", *packages],
                {**_environment(), "PYTHONPATH": str(ROOT)},
                file_actions=[(os.POSIX_SPAWN_DUP2, theirs.fileno(), 0)],
                setsid=True,
            )

    def start(
        self,
        entry: str,
        argv: Sequence[str | bytes],
        env: Mapping[str, str],
        *,
        cwd: Path | None = None,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.DEVNULL,
        stderr: int = subprocess.DEVNULL,
        new_session: bool = False,
    ) -> Forked:
        """Start a process that runs `module:function`, or a module as `python -m` does."""
        order = {
            "entry": entry,
            "argv": [os.fsdecode(word) for word in argv],
            "env": dict(env),
            "cwd": str(cwd or Path.cwd()),
            "new_session": new_session,
        }
        pipes: dict[int, int] = {}
        given: list[int] = []
        made: list[int] = []
        for number, stream in enumerate((stdin, stdout, stderr)):
            if stream == subprocess.PIPE:
                reading, writing = os.pipe()
                pipes[number] = writing if number == 0 else reading
                made.append(reading if number == 0 else writing)
                given.append(made[-1])
            elif stream == subprocess.DEVNULL:
                made.append(os.open(os.devnull, os.O_RDWR))
                given.append(made[-1])
            else:
                given.append(stream)
        ours, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
        with theirs:
            socket.send_fds(self._control, [json.dumps(order).encode()], [*given, theirs.fileno()])
        for each in made:
            os.close(each)
        return Forked(ours, pipes)


@functools.cache
def zygote(packages: tuple[str, ...]) -> Zygote:
    """Return this process's zygote of these packages."""
    return Zygote(packages)
