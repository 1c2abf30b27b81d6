"""Runs programs: the only module that may. Arguments are a list, input goes to standard input, no shell."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.errors import DeadlineExceededError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

TERMINATE_SECONDS: Final = 5
"""Time a program gets to end after SIGTERM before it is killed."""


@dataclass(frozen=True)
class Outcome:
    """How a program ended."""

    exit_code: int
    stdout: str
    stderr: str


async def run(argv: Sequence[str], *, stdin: str, environment: Mapping[str, str], timeout: timedelta) -> Outcome:
    """Run a program to its end; raises FileNotFoundError, PermissionError and DeadlineExceededError.

    Cancelled or out of time, the program is terminated and awaited: nothing of it goes on behind the caller's back.
    """
    process = await asyncio.create_subprocess_exec(
        *argv,
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env=dict(environment),
    )
    try:
        async with asyncio.timeout(timeout.total_seconds()):
            stdout, stderr = await process.communicate(stdin.encode())
    except TimeoutError:
        msg = f"{argv[0]} {argv[1] if len(argv) > 1 else ''} did not end within {timeout.total_seconds():.0f} s"
        raise DeadlineExceededError(msg, hint="Look at it with: sessionctl reconcile --dry-run") from None
    finally:
        await _end(process)
    return Outcome(
        exit_code=process.returncode if process.returncode is not None else -1,
        stdout=stdout.decode(errors="replace"),
        stderr=stderr.decode(errors="replace"),
    )


async def _end(process: asyncio.subprocess.Process) -> None:
    if process.returncode is not None:
        return
    _send(process, signal.SIGTERM)
    try:
        async with asyncio.timeout(TERMINATE_SECONDS):
            await process.wait()
    except TimeoutError:
        _send(process, signal.SIGKILL)
        await process.wait()


def _send(process: asyncio.subprocess.Process, signum: signal.Signals) -> None:
    # Not through asyncio, which collects a child that has just ended and then complains that it is not there.
    with contextlib.suppress(ChildProcessError, ProcessLookupError):
        if os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None:
            os.kill(process.pid, signum)
