"""A command that runs under its guard: what goes in, what comes out, how it ends.

The only module of the agent that starts programs.
"""

from __future__ import annotations

import asyncio
import os
import signal
import socket
import sys
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from sessionctl.agent.files import BLOCK

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence

GUARD: Final = Path(__file__).with_name("guard.py")
GRACE_SECONDS: Final = 2.0
"""Between SIGTERM and SIGKILL."""
GONE_SECONDS: Final = 1.0
"""What cannot be killed, because it waits for a disk, is waited for no longer than that."""
LEFT_BYTES: Final = 1024 * 1024
"""More than a pipe holds. What was written before the command ended is in there; what comes after is not its reply."""
TAIL_BYTES: Final = 4096


class Ending:
    """How a command ended: with an exit code (negative for a signal), or not at all because it could not be run."""

    def __init__(self) -> None:
        self.pid = 0
        self.exit: int | None = None
        self.error: str | None = None


class Child:
    """One command; closing it ends it and all that it started."""

    def __init__(self, process: asyncio.subprocess.Process, control: socket.socket, output: int, errors: int) -> None:
        self._process = process
        self._control = control
        self._output = output
        self._errors = errors
        self._tail = b""
        self._ending: asyncio.Task[Ending] = asyncio.create_task(self._hear())
        self._feeding: asyncio.Task[None] | None = None
        asyncio.get_running_loop().add_reader(errors, self._read_errors)

    @classmethod
    async def start(cls, command: Sequence[str], *, folder: Path, environment: Mapping[str, str], lock: int) -> Child:
        """Start a command in a folder; raises OSError. ``lock`` is held by its guard too."""
        ours, theirs = socket.socketpair()
        output, its_output = os.pipe()
        errors, its_errors = os.pipe()
        try:
            for descriptor in (ours.fileno(), output, errors):
                os.set_blocking(descriptor, False)
            process = await asyncio.create_subprocess_exec(
                # Isolated and without packages, see there.
                *(sys.executable, "-I", "-S", str(GUARD), str(theirs.fileno()), str(lock), str(GRACE_SECONDS)),
                *command,
                stdin=asyncio.subprocess.PIPE,
                stdout=its_output,
                stderr=its_errors,
                cwd=folder,
                env=dict(environment),
                pass_fds=(theirs.fileno(), lock),
                start_new_session=True,
            )
        except BaseException:
            ours.close()
            os.close(output)
            os.close(errors)
            raise
        finally:
            theirs.close()
            os.close(its_output)
            os.close(its_errors)
        return cls(process, ours, output, errors)

    @property
    def complaints(self) -> bytes:
        """The end of what it wrote to standard error."""
        return self._tail

    def feed(self, data: bytes) -> None:
        """Give it this on standard input, which ends then; it need not read it."""
        self._feeding = asyncio.create_task(self._feed(data))

    async def read(self) -> AsyncGenerator[bytes, None]:
        """Yield what it writes to standard output, as it comes, until it ends; what it left behind may still write."""
        left = LEFT_BYTES
        while left > 0:
            try:
                data = os.read(self._output, BLOCK)
            except BlockingIOError:
                if self._ending.done():
                    return
                await self._readable()
                continue
            if not data:
                return
            if self._ending.done():
                left -= len(data)
            yield data

    async def wait(self) -> Ending:
        """Return how it ended."""
        ending = await asyncio.shield(self._ending)
        for _ in range(LEFT_BYTES // BLOCK):
            if not self._read_errors():
                break
        return ending

    async def close(self) -> None:
        """End it if it has not ended: SIGTERM, then SIGKILL, for everything that it started."""
        try:
            if not self._ending.done():
                with suppress(OSError):
                    self._control.send(b"end")
                await asyncio.wait({self._ending}, timeout=GRACE_SECONDS + GONE_SECONDS)
        finally:
            self._close()
        with suppress(TimeoutError):
            async with asyncio.timeout(GONE_SECONDS):
                await self._process.wait()

    def _close(self) -> None:
        # Should the guard still be there, it sees the control close, and kills at once.
        self._ending.cancel()
        if self._feeding is not None:
            self._feeding.cancel()
        asyncio.get_running_loop().remove_reader(self._errors)
        if self._process.stdin is not None:
            self._process.stdin.close()
        self._control.close()
        os.close(self._output)
        os.close(self._errors)

    async def _hear(self) -> Ending:
        """Listen to the guard until it ends."""
        ending = Ending()
        loop, heard = asyncio.get_running_loop(), b""
        with suppress(OSError):
            while data := await loop.sock_recv(self._control, BLOCK):
                heard += data
                *lines, heard = heard.split(b"\n")
                for line in lines:
                    what, _, value = line.decode().partition(" ")
                    match what:
                        case "pid":
                            ending.pid = int(value)
                        case "exit":
                            ending.exit = int(value)
                            return ending
                        case _:
                            ending.error = value
                            return ending
        if ending.pid:
            # The guard was killed. The command has died with it; what else is in its process group has not.
            with suppress(OSError):
                os.killpg(ending.pid, signal.SIGKILL)
        return ending

    async def _feed(self, data: bytes) -> None:
        stdin = self._process.stdin
        if stdin is None:
            return
        with suppress(ConnectionError):
            stdin.write(data)
            await stdin.drain()
        stdin.close()

    async def _readable(self) -> None:
        """Return when there is something to read or the command has ended."""
        loop = asyncio.get_running_loop()
        readable = loop.create_future()
        loop.add_reader(self._output, readable.cancel)
        try:
            await asyncio.wait({readable, self._ending}, return_when=asyncio.FIRST_COMPLETED)
        finally:
            loop.remove_reader(self._output)

    def _read_errors(self) -> bool:
        try:
            data = os.read(self._errors, BLOCK)
        except BlockingIOError:
            return False
        if not data:
            asyncio.get_running_loop().remove_reader(self._errors)
        self._tail = (self._tail + data)[-TAIL_BYTES:]
        return bool(data)
