"""A TCP proxy before Redis that understands commands: it loses replies, holds commands and cuts connections."""

from __future__ import annotations

import contextlib
import socket
import threading
from dataclasses import dataclass, field
from enum import Enum, auto
from hashlib import sha1
from typing import TYPE_CHECKING, Final, Self

from sessionctl.adapters.store.scripts import source

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

Command = list[bytes]

HOST: Final = "127.0.0.1"
_CHUNK: Final = 65536
_HOLD_SECONDS: Final = 60.0


class Loss(Enum):
    """What the network does to a command."""

    NOTHING = auto()
    COMMAND = auto()
    """The connection ends before Redis sees it."""
    REPLY = auto()
    """Redis carries it out, and the connection ends before the client hears of it."""


def command(name: str) -> Callable[[Command], bool]:
    """Match a command by its name."""
    return lambda parts: parts[0].upper() == name.encode()


def script(name: str) -> Callable[[Command], bool]:
    """Match a call of one of the store's scripts."""
    digest = sha1(source(name).encode()).hexdigest().encode()
    return lambda parts: parts[0].upper() == b"EVALSHA" and parts[1] == digest


@dataclass
class Trap:
    """One thing that happens once, to the n-th command that matches.

    Attributes:
        before: Called on the proxy's thread before the command goes on; the command waits for it.
    """

    matches: Callable[[Command], bool]
    nth: int
    loss: Loss
    before: Callable[[], object]
    seen: int = 0
    sprung: threading.Event = field(default_factory=threading.Event)

    def take(self, parts: Command) -> bool:
        """Count a command; True for the one the trap is for."""
        if not self.matches(parts):
            return False
        self.seen += 1
        return self.seen == self.nth


class Hold:
    """A command that waits until it is let go."""

    def __init__(self) -> None:
        self.reached = threading.Event()
        self._go = threading.Event()

    def __call__(self) -> None:
        """Wait; on the proxy's thread."""
        self.reached.set()
        self._go.wait(_HOLD_SECONDS)

    def let_go(self) -> None:
        """Let the command go on."""
        self._go.set()


class RedisProxy:
    """Listens on a free port until the end of its ``with`` block."""

    def __init__(self, host: str, port: int) -> None:
        self._target = (host, port)
        self._listener = socket.create_server((HOST, 0))
        self.port: int = self._listener.getsockname()[1]
        self._lock = threading.Lock()
        self._traps: list[Trap] = []
        self._pairs: list[_Pair] = []
        self._holds: list[Hold] = []
        self._thread = threading.Thread(target=self._accept, daemon=True)
        self.away = False
        """Whether every connection is closed as soon as it is made."""

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self._holds:
            hold.let_go()
        self.refuse()
        self._thread.join()
        self.cut()
        for pair in self._pairs:
            pair.join()

    def trap(
        self,
        matches: Callable[[Command], bool],
        loss: Loss = Loss.NOTHING,
        *,
        nth: int = 1,
        before: Callable[[], object] = lambda: None,
    ) -> Trap:
        """Set a trap for the n-th command from now that matches."""
        trap = Trap(matches, nth, loss, before)
        with self._lock:
            self._traps.append(trap)
        return trap

    def disarm(self) -> None:
        """Take away the traps that nothing has sprung."""
        with self._lock:
            self._traps.clear()

    def hold(self, matches: Callable[[Command], bool], *, nth: int = 1) -> Hold:
        """Make the n-th command from now that matches wait until it is let go."""
        hold = Hold()
        self._holds.append(hold)
        self.trap(matches, nth=nth, before=hold)
        return hold

    def refuse(self) -> None:
        """Accept no more connections; those that are open stay."""
        with contextlib.suppress(OSError):
            self._listener.shutdown(socket.SHUT_RDWR)
        self._listener.close()

    def cut(self) -> None:
        """End every open connection."""
        with self._lock:
            pairs = list(self._pairs)
        for pair in pairs:
            pair.end()

    def _accept(self) -> None:
        while True:
            try:
                client, _ = self._listener.accept()
            except OSError:
                return
            if self.away:
                client.close()
                continue
            try:
                server = socket.create_connection(self._target, timeout=5)
                server.settimeout(None)
            except OSError:
                client.close()
                continue
            pair = _Pair(client, server, self._judge)
            with self._lock:
                self._pairs.append(pair)
            pair.start()

    def _judge(self, parts: Command) -> Trap | None:
        with self._lock:
            taken = [trap for trap in self._traps if trap.take(parts)]
            self._traps = [trap for trap in self._traps if trap not in taken]
        return taken[0] if taken else None


class _Pair:
    """One client's connection and the one to Redis."""

    def __init__(self, client: socket.socket, server: socket.socket, judge: Callable[[Command], Trap | None]) -> None:
        self._client = client
        self._server = server
        self._judge = judge
        self._losing: Trap | None = None
        self._threads = [threading.Thread(target=work, daemon=True) for work in (self._up, self._down)]

    def start(self) -> None:
        for thread in self._threads:
            thread.start()

    def join(self) -> None:
        for thread in self._threads:
            thread.join()
        self._client.close()
        self._server.close()

    def end(self) -> None:
        for side in (self._client, self._server):
            with contextlib.suppress(OSError):
                side.shutdown(socket.SHUT_RDWR)

    def _up(self) -> None:
        with contextlib.suppress(OSError):
            for raw, parts in _commands(self._client):
                trap = self._judge(parts)
                if trap is not None and not self._spring(trap):
                    break
                self._server.sendall(raw)
        # What the client has sent is with Redis; a reply that is to be lost still has to come.
        if self._losing is None:
            self.end()

    def _spring(self, trap: Trap) -> bool:
        trap.before()
        if trap.loss is Loss.REPLY:
            self._losing = trap
            return True
        trap.sprung.set()
        return trap.loss is Loss.NOTHING

    def _down(self) -> None:
        with contextlib.suppress(OSError):
            while data := self._server.recv(_CHUNK):
                if self._losing is not None:
                    self._losing.sprung.set()
                    break
                self._client.sendall(data)
        self.end()


def _commands(connection: socket.socket) -> Iterator[tuple[bytes, Command]]:
    """Yield each command of a client (RESP arrays of bulk strings), raw and parsed."""
    buffer = b""
    while True:
        taken = _parse(buffer)
        if taken is None:
            data = connection.recv(_CHUNK)
            if not data:
                return
            buffer += data
            continue
        size, parts = taken
        yield buffer[:size], parts
        buffer = buffer[size:]


def _parse(buffer: bytes) -> tuple[int, Command] | None:
    """Return the length and the parts of the first command; None while it is not complete."""
    end = buffer.find(b"\r\n")
    if end < 0:
        return None
    count, at = int(buffer[1:end]), end + 2
    parts: Command = []
    for _ in range(count):
        end = buffer.find(b"\r\n", at)
        if end < 0:
            return None
        start = end + 2
        size = int(buffer[at + 1 : end])
        if len(buffer) < start + size + 2:
            return None
        parts.append(buffer[start : start + size])
        at = start + size + 2
    return at, parts
