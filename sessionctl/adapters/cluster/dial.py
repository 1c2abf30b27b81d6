"""Opens the bytes to one server: TCP, the CONNECT of a proxy, TLS."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import TYPE_CHECKING, Final
from urllib.parse import urlsplit

import h11

if TYPE_CHECKING:
    from sessionctl.adapters.cluster.credentials import Endpoint

CONNECT_SECONDS: Final = 5.0
READ_BYTES: Final = 65536
_KEEP_ALIVE: Final = {"TCP_KEEPIDLE": 5, "TCP_KEEPINTVL": 5, "TCP_KEEPCNT": 3}
"""Seconds of silence before the first question, between questions, and how many may stay without an answer."""

Streams = tuple[asyncio.StreamReader, asyncio.StreamWriter]


async def dial(endpoint: Endpoint) -> Streams:
    """Connect, through a proxy where the kubeconfig or the environment names one; raises OSError and h11's errors."""
    url = urlsplit(endpoint.server)
    secure = url.scheme == "https"
    port = url.port or (443 if secure else 80)
    host = url.hostname or ""
    tls = endpoint.tls if secure else None
    name = (endpoint.server_name or host) if secure else None
    async with asyncio.timeout(CONNECT_SECONDS):
        proxy = endpoint.proxy or _proxy_of_environment(url.scheme, host)
        if proxy is None:
            reader, writer = await asyncio.open_connection(host, port, ssl=tls, server_hostname=name)
            _keep_alive(writer)
            return reader, writer
        reader, writer = await _tunnel(proxy, f"{host}:{port}")
        _keep_alive(writer)
        try:
            if tls is not None:
                await writer.start_tls(tls, server_hostname=name)
        except BaseException:
            writer.transport.abort()
            raise
        return reader, writer


def _keep_alive(writer: asyncio.StreamWriter) -> None:
    """Notice within seconds that a node is gone: a watch has nothing to send that would show it."""
    own = writer.get_extra_info("socket")
    own.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    for name, value in _KEEP_ALIVE.items():
        if option := getattr(socket, name, None):  # as the system calls it; not every system has them
            own.setsockopt(socket.IPPROTO_TCP, option, value)


async def _tunnel(proxy: str, target: str) -> Streams:
    url = urlsplit(proxy)
    reader, writer = await asyncio.open_connection(url.hostname, url.port or 80)
    try:
        protocol = h11.Connection(h11.CLIENT)
        question = protocol.send(h11.Request(method="CONNECT", target=target, headers=[("Host", target)])) or b""
        writer.write(question + (protocol.send(h11.EndOfMessage()) or b""))
        await writer.drain()
        while not isinstance(event := protocol.next_event(), h11.Response):
            if event is h11.NEED_DATA:
                protocol.receive_data(await reader.read(READ_BYTES))
        if not 200 <= event.status_code < 300:  # noqa: PLR2004 - HTTP's own border
            raise ConnectionRefusedError(f"the proxy {url.hostname} answered {event.status_code}")  # noqa: TRY301
    except BaseException:
        writer.transport.abort()
        raise
    return reader, writer


def _proxy_of_environment(scheme: str, host: str) -> str | None:
    """Return the proxy that HTTPS_PROXY and NO_PROXY ask for, as kubectl and Helm do."""
    if not any(name.lower() == f"{scheme}_proxy" for name in os.environ):
        return None
    from urllib.request import getproxies, proxy_bypass  # noqa: PLC0415 - needed behind proxies only

    return None if proxy_bypass(host) else getproxies().get(scheme)
