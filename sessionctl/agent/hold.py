"""``sessionctl-agent hold -- COMMAND``: the workspace stays awake while the command runs.

The command takes the place of this very process, so that its exit code, signals, terminal and pipes are its own. A
process beside it keeps a connection to the agent until it sees the command end.
"""

from __future__ import annotations

import os
import select
import signal
import socket
import sys
import time
from contextlib import ExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final, NoReturn

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

USAGE: Final = """usage: sessionctl-agent hold -- COMMAND [ARGUMENT...]

Runs a command and keeps the workspace awake while it runs, up to the limit that the platform sets (idle.holdLimit)."""
BAD_INPUT: Final = 2
NOT_EXECUTABLE: Final = 126
NOT_FOUND: Final = 127
ANSWER_SECONDS: Final = 2.0
LOOK_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 5.0
_HELD: Final = b"HTTP/1.1 200"


def hold(arguments: Sequence[str], environment: Mapping[str, str]) -> NoReturn:
    """Become the command that the arguments name."""
    if list(arguments) == ["--help"]:
        print(USAGE)
        sys.exit(0)
    if arguments[:1] == ["--"]:
        command = list(arguments[1:])
    else:
        command = [] if not arguments or arguments[0].startswith("-") else list(arguments)
    if not command:
        print(USAGE, file=sys.stderr)
        sys.exit(BAD_INPUT)
    keeper = _Keeper(environment.get("SESSIONCTL_AGENT_PORT", "8081"))
    try:
        keeper.connect()
    except (OSError, ValueError) as error:
        print(f"warning: the agent cannot be told ({error}): the workspace may go to sleep meanwhile", file=sys.stderr)
    keeper.start_beside()
    # The interpreter ignores both, and what is ignored stays so in the command.
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_DFL)
    try:
        os.execvp(command[0], command)  # noqa: S606 - what the user asked for, argument by argument
    except (OSError, ValueError) as error:
        print(f"error: {command[0]!r} cannot be run: {error}", file=sys.stderr)
        sys.exit(NOT_FOUND if isinstance(error, FileNotFoundError) else NOT_EXECUTABLE)


class _Keeper:
    """Holds the workspace for the process that made it."""

    def __init__(self, port: str) -> None:
        self._port = port
        self._began = time.monotonic()
        self._process = os.getpid()
        self._birth = _birth(self._process)
        self._connection: socket.socket | None = None

    def connect(self) -> None:
        """Tell the agent; raises OSError or ValueError."""
        age = time.monotonic() - self._began
        head = f"POST /v1/hold?age={age:.3f} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\n\r\n"
        address = ("127.0.0.1", int(self._port))
        with ExitStack() as on_error:
            connection = on_error.enter_context(socket.create_connection(address, timeout=ANSWER_SECONDS))
            connection.sendall(head.encode())
            said = connection.recv(len(_HELD), socket.MSG_WAITALL)
            if said != _HELD:
                raise ConnectionError(f"it answers {said.decode(errors='replace')!r}")
            on_error.pop_all()
        self._connection = connection

    def start_beside(self) -> None:
        """Start a process that is no child of this one: the command may wait for its own children."""
        if child := os.fork():
            os.waitpid(child, 0)
            return
        try:
            # A session of its own: what is typed for the command is not for it.
            os.setsid()
            if not os.fork():
                self._leave_everything_else()
                self._keep()
        finally:
            os._exit(0)

    def _leave_everything_else(self) -> None:
        """Give up what the command shares with others, so that nobody waits for us to close it."""
        os.chdir("/")
        own = -1 if self._connection is None else self._connection.fileno()
        nothing = os.open(os.devnull, os.O_RDWR)
        for name in os.listdir("/proc/self/fd"):  # noqa: PTH208 - plain numbers are what is wanted
            descriptor = int(name)
            if descriptor <= 2:  # noqa: PLR2004 - the three standard ones
                os.dup2(nothing, descriptor)
            elif descriptor not in {own, nothing}:
                with suppress(OSError):  # the one of the listing itself
                    os.close(descriptor)

    def _keep(self) -> None:
        pause = LOOK_SECONDS
        while _birth(self._process) == self._birth:
            if self._connection is not None:
                self._wait(self._connection)
                pause = LOOK_SECONDS
                continue
            try:
                self.connect()
            except (OSError, ValueError):
                time.sleep(pause)
                pause = min(2 * pause, LONGEST_PAUSE_SECONDS)

    def _wait(self, connection: socket.socket) -> None:
        """Return after a moment, or when the agent is gone."""
        if select.select([connection], [], [], LOOK_SECONDS)[0]:
            with suppress(OSError):
                if connection.recv(4096):
                    return
            connection.close()
            self._connection = None


def _birth(process: int) -> str:
    """Return when a process began, empty for one that has ended: its number alone may be another's by now."""
    try:
        after_name = Path(f"/proc/{process}/stat").read_text(encoding="utf-8", errors="replace").rpartition(")")[2]
    except OSError:
        return ""
    fields = after_name.split()
    return "" if fields[0] in {"Z", "X"} and not _has_threads(process) else fields[19]


def _has_threads(process: int) -> bool:
    """Whether a process goes on whose main thread has ended."""
    try:
        return len(os.listdir(f"/proc/{process}/task")) > 1  # noqa: PTH208 - only their number is wanted
    except OSError:
        return False
