"""An agent with staged replies that may kill itself at a step.

`python -m tests.agent.staged_agent KIND GATES [OPTION...]`

KIND says what answers, `configured` leaves it to the settings; GATES is a folder where each reply that begins leaves a
mark and files let it go on.
Options: `before|after:CLASS.METHOD:NTH` kills the process there, `patience=SECONDS` shortens the wait at SIGTERM,
`quiet=SECONDS` the time between two signs of life,
`largest-file=BYTES` makes the volume refuse more, `trace` writes to GATES/trace what is made durable, run and told,
`hold=FILE:NTH` notes "held" there and waits for ever before the n-th time that a file is made durable.
"""

from __future__ import annotations

import asyncio
import functools
import os
import resource
import signal
import sys
import threading
from collections.abc import AsyncGenerator, Callable
from itertools import count
from pathlib import Path
from typing import Any

from sessionctl.agent import running, serve
from sessionctl.agent.conversation import Conversation
from sessionctl.agent.journal import Journal, OpenMessage
from sessionctl.agent.kinds import Echo
from sessionctl.agent.records import Start
from sessionctl.agent.running import Progress
from sessionctl.agent.settings import load_settings

CLASSES: dict[str, type] = {kind.__name__: kind for kind in (Conversation, Journal, OpenMessage, Progress)}


def _append(file: Path, text: str) -> None:
    with file.open("a") as opened:
        opened.write(text)


class _Marked:
    """Marks that a reply began."""

    def __init__(self, gates: Path, *, repeatable: bool) -> None:
        self.gates = gates
        self.repeatable = repeatable

    def warm_up(self) -> None:
        pass

    def mark(self) -> None:
        _append(self.gates / "runs", "x")
        _append(self.gates / "trace", "run\n")


class Words(_Marked):
    """Replies with the words of the message."""

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        self.mark()
        for word in asked.message.split():
            yield word


class Gated(_Marked):
    """Replies with the words of the message, each after the first behind a gate."""

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        self.mark()
        for number, word in enumerate(asked.message.split()):
            while number and not (self.gates / str(number)).exists():  # noqa: ASYNC110 - the test is another process
                await asyncio.sleep(0.01)
            yield word


class Flood(_Marked):
    """Replies with more than all buffers between two processes hold."""

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        self.mark()
        for _ in range(96):
            yield asked.message * (64 * 1024 // len(asked.message))


class Cold(Words):
    """Cannot be warmed up."""

    def warm_up(self) -> None:
        msg = "on purpose"
        raise RuntimeError(msg)


class Broken(_Marked):
    """Fails after the first word."""

    async def reply(self, asked: Start) -> AsyncGenerator[str, None]:
        self.mark()
        yield asked.message.split(maxsplit=1)[0]
        msg = "on purpose"
        raise RuntimeError(msg)


KINDS: dict[str, Callable[[Path], Any]] = {
    "echo": lambda _: Echo(),
    "words": lambda gates: Words(gates, repeatable=True),
    "command": lambda gates: Words(gates, repeatable=False),
    "gated": lambda gates: Gated(gates, repeatable=True),
    "gated-command": lambda gates: Gated(gates, repeatable=False),
    "flood": lambda gates: Flood(gates, repeatable=True),
    "cold": lambda gates: Cold(gates, repeatable=True),
    "broken": lambda gates: Broken(gates, repeatable=True),
}


def _trace(gates: Path) -> None:
    fsync, close = os.fsync, Progress.close

    def traced_fsync(descriptor: int) -> None:
        fsync(descriptor)
        _append(gates / "trace", f"durable {Path(f'/proc/self/fd/{descriptor}').readlink().name}\n")

    def traced_close(progress: Progress) -> None:
        if not progress.closed:
            _append(gates / "trace", "told\n")
        close(progress)

    os.fsync = traced_fsync  # type: ignore[assignment]
    Progress.close = traced_close  # type: ignore[assignment,method-assign]


def _hold(gates: Path, name: str, nth: int) -> None:
    fsync, calls = os.fsync, count(1)

    def held_fsync(descriptor: int) -> None:
        if Path(f"/proc/self/fd/{descriptor}").readlink().name == name and next(calls) == nth:
            _append(gates / "trace", "held\n")
            threading.Event().wait()
        fsync(descriptor)

    os.fsync = held_fsync  # type: ignore[assignment]


def _die_at(when: str, step: str, nth: int) -> None:
    """Kill the process before or after the n-th call of a method."""
    kind, method = step.split(".")
    real = getattr(CLASSES[kind], method)
    calls = count(1)

    @functools.wraps(real)
    def call(*args: object, **named: object) -> object:
        last = next(calls) == nth
        if last and when == "before":
            os.kill(os.getpid(), signal.SIGKILL)
        answer = real(*args, **named)
        if last:
            os.kill(os.getpid(), signal.SIGKILL)
        return answer

    setattr(CLASSES[kind], method, call)


def main(kind: str, gates: str, *options: str) -> None:
    for option in options:
        if option.startswith("patience="):
            serve.MESSAGE_SECONDS = float(option.partition("=")[2])  # type: ignore[misc]
        elif option.startswith("quiet="):
            running.QUIET_SECONDS = float(option.partition("=")[2])  # type: ignore[misc]
        elif option.startswith("largest-file="):
            resource.setrlimit(resource.RLIMIT_FSIZE, (int(option.partition("=")[2]), resource.RLIM_INFINITY))
        elif option == "trace":
            _trace(Path(gates))
        elif option.startswith("hold="):
            name, nth = option.removeprefix("hold=").split(":")
            _hold(Path(gates), name, int(nth))
        else:
            when, step, nth = option.split(":")
            _die_at(when, step, int(nth))
    serve.run(load_settings(os.environ), None if kind == "configured" else KINDS[kind](Path(gates)))


if __name__ == "__main__":
    main(*sys.argv[1:])
