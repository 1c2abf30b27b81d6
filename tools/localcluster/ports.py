"""Free loopback ports that stay reserved for as long as the cluster lives."""

from __future__ import annotations

import random
import socket
from typing import Self

HOST = "127.0.0.1"
# Below the kernel's usual range for outgoing connections, so that no client gets one of them by chance,
# or ends up connected to itself while the server is down.
_RANGE = range(20000, 32000)
_ATTEMPTS = 2000


class Ports:
    """Bound sockets that never listen.

    With SO_REUSEADDR a server may bind and listen beside them, while another cluster that looks for a port is refused.
    So a port is neither lost between its choice and the server's start, nor while a killed server is away.
    """

    def __init__(self) -> None:
        self._held: dict[str, socket.socket] = {}
        self._fixed: dict[str, int] = {}

    def __getitem__(self, name: str) -> int:
        """Return the port of this name, chosen at its first use."""
        if name in self._fixed:
            return self._fixed[name]
        if name not in self._held:
            self._held[name] = _reserve()
        port: int = self._held[name].getsockname()[1]
        return port

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.release()

    def release(self) -> None:
        """Give all ports back; names get new ones."""
        while self._held:
            self._held.popitem()[1].close()

    def fix(self, name: str, port: int) -> None:
        """Give a name the port that somebody else chose and holds."""
        self._fixed[name] = port


def listen() -> socket.socket:
    """Return a socket that listens on a free port."""
    with _reserve() as reserved:
        listener = socket.create_server(reserved.getsockname(), backlog=512)
    # asyncio does it only for sockets that it made.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener


def _reserve() -> socket.socket:
    for _ in range(_ATTEMPTS):
        port = random.choice(_RANGE)
        candidate = socket.socket(socket.AF_INET, socket.SOCK_STREAM)
        try:
            # First without SO_REUSEADDR: that fails beside a reservation too.
            candidate.bind((HOST, port))
        except OSError:
            candidate.close()
            continue
        # Set after the bind, it counts for those who bind next.
        candidate.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        return candidate
    msg = f"no free port on {HOST} between {_RANGE.start} and {_RANGE.stop}"
    raise OSError(msg)
