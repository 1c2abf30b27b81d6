"""Kills a call of the command line, and Helm with it, before and after each write it makes, wherever that goes."""

from __future__ import annotations

import asyncio
import itertools
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from typing import TYPE_CHECKING, Final

from tests.support.redis_proxy import Loss

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable, Sequence

    from sessionctl.models import SessionId
    from tests.support.api_proxy import ApiProxy, Request
    from tests.support.redis_proxy import Command, RedisProxy
    from tests.support.sessionctl_cli import Cli, Running

AT_ONCE: Final = 3


class Edge(Enum):
    """On which side of a write the call dies."""

    BEFORE = auto()
    AFTER = auto()


class _Deed(threading.Event):
    """An event that does something when it is set."""

    def __init__(self, deed: Callable[[], object]) -> None:
        super().__init__()
        self._deed = deed

    def set(self) -> None:
        self._deed()
        super().set()


@dataclass
class Kill:
    """The death of one call at the n-th write that names its session."""

    session_id: SessionId
    number: int
    edge: Edge
    seen: int = 0
    done: bool = False
    over: bool = False
    _running: Running | None = None
    _started: threading.Event = field(default_factory=threading.Event)
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def arm(self, api: ApiProxy, redis: RedisProxy) -> None:
        """Wait for the write at both proxies."""
        if self.edge is Edge.BEFORE:
            api.trap(self._changes_cluster, Loss.COMMAND, before=self._strike)
            redis.trap(self._changes_redis, Loss.COMMAND, before=self._strike)
        else:
            api.trap(self._changes_cluster, Loss.REPLY, after=self._strike)
            redis.trap(self._changes_redis, Loss.REPLY).sprung = _Deed(self._strike)

    def follow(self, running: Running) -> None:
        """Say which call it is for."""
        self._running = running
        self._started.set()

    def _strike(self) -> None:
        self._started.wait()
        assert self._running is not None
        # First: whoever waits for the call may look before this thread goes on.
        self.done = True
        self._running.kill_group()

    def _changes_cluster(self, request: Request) -> bool:
        return request.is_write and request.names(self.session_id) and self._is_due()

    def _changes_redis(self, command: Command) -> bool:
        # All changes are scripts; KEDA reads the same lists by EVAL, and is not meant.
        named = any(self.session_id.encode() in part for part in command)
        return command[0].upper() == b"EVALSHA" and named and self._is_due()

    def _is_due(self) -> bool:
        with self._lock:
            self.seen += 1
            return self.seen == self.number and not self.over


@dataclass(frozen=True)
class Walk:
    """Runs a verb again and again, killed one step later each time."""

    cli: Cli
    api: ApiProxy
    redis: RedisProxy

    async def through(
        self, verb: Sequence[str], prepare: Callable[[], Awaitable[SessionId]]
    ) -> tuple[list[SessionId], int]:
        """Kill until a call lives to its end; return the sessions in the order of the steps, and the number killed."""
        # Dead after a write, or before the next: the world outside is the same. Only the first has a side of its own.
        steps = enumerate(itertools.chain([(1, Edge.BEFORE)], ((number, Edge.AFTER) for number in itertools.count(1))))
        walked: dict[int, SessionId] = {}
        killed = 0
        ended = False

        async def worker() -> None:
            nonlocal killed, ended
            while not ended:
                step, (number, edge) = next(steps)
                session_id = walked[step] = await prepare()
                kill = Kill(session_id, number, edge)
                await asyncio.to_thread(self._run, verb, kill)
                killed += kill.done
                ended |= not kill.done

        await asyncio.gather(*(worker() for _ in range(AT_ONCE)))
        await asyncio.to_thread(self.api.drain)
        return [walked[step] for step in sorted(walked)], killed

    def _run(self, verb: Sequence[str], kill: Kill) -> None:
        kill.arm(self.api, self.redis)
        argv = [kill.session_id if part == "{}" else part for part in verb]
        with self.cli.start(*argv) as running:
            kill.follow(running)
            done = running.wait()
        kill.over = True
        assert kill.done or done.code == 0, done.stderr
