"""The listening socket of a server in the pod."""

from __future__ import annotations

import socket


def listen(host: str, port: int) -> socket.socket:
    """Listen on an address, on all of them where it is empty; raises OSError."""
    if host:
        family = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0][0]
        listener = socket.create_server((host, port), family=family)
    elif socket.has_dualstack_ipv6():
        listener = socket.create_server(("", port), family=socket.AF_INET6, dualstack_ipv6=True)
    else:
        listener = socket.create_server(("", port))
    # Every connection inherits it. asyncio does it only for sockets that it made; without it what follows the head of
    # an answer waits for its acknowledgement, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
