"""What the router talks to, as real servers that note everything: a manager, pods, and a DNS server."""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Callable
from contextlib import suppress
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final, Self

from tools.localcluster.ports import HOST, Ports
from tools.localdns import Dns

if TYPE_CHECKING:
    from collections.abc import Coroutine
    from typing import Any

WEBSOCKET: Final = b"websocket speaks:"


@dataclass(frozen=True)
class Request:
    """A request as it came."""

    method: str
    target: str
    headers: tuple[tuple[str, str], ...]
    body: bytes = b""

    @property
    def path(self) -> str:
        """Without its query."""
        return self.target.partition("?")[0]

    def get(self, name: str) -> str:
        """Return a header, empty when it is not there."""
        return ", ".join(value for key, value in self.headers if key == name.lower())

    def text(self) -> str:
        """Everything of it, to look for what must not be there."""
        lines = [f"{self.method} {self.target}", *(f"{name}: {value}" for name, value in self.headers)]
        return "\n".join(lines) + "\n" + self.body.decode("latin-1")


@dataclass(frozen=True)
class Reply:
    """What is answered."""

    status: int = 200
    headers: tuple[tuple[str, str], ...] = ()
    body: bytes = b""


Answering = Callable[[Request], Reply | None]
"""None: no answer at all, while the connection stays open."""


class Spy:
    """One HTTP server; notes what it is asked."""

    def __init__(self, servers: Servers, address: str, port: int, answering: Answering) -> None:
        self._servers = servers
        self._address = address
        self._port = port
        self.answering = answering
        self.seen: list[Request] = []
        self._server: asyncio.Server | None = None
        self._connections: set[asyncio.StreamWriter] = set()

    def start(self) -> None:
        """Listen."""
        self._servers.run(self._start())

    def stop(self) -> None:
        """Refuse connections, and end those that there are."""
        self._servers.run(self._stop())

    @property
    def open_connections(self) -> int:
        """How many there are."""
        return len(self._connections)

    async def _start(self) -> None:
        if self._server is None:
            self._server = await asyncio.start_server(self._serve, self._address, self._port, backlog=4096)

    async def _stop(self) -> None:
        if self._server is not None:
            self._server.close()
            self._server = None
        for writer in list(self._connections):
            writer.transport.abort()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._connections.add(writer)
        try:
            with suppress(asyncio.IncompleteReadError, ConnectionError):
                while await self._answer_one(reader, writer):
                    pass
        finally:
            self._connections.discard(writer)
            writer.transport.abort()

    async def _answer_one(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        request = await _read_request(reader)
        self.seen.append(request)
        reply = self.answering(request)
        if reply is None:
            await reader.read()
            return False
        lines = [f"HTTP/1.1 {reply.status} Spy", *(f"{name}: {value}" for name, value in reply.headers)]
        if reply.status == 101:
            writer.write("\r\n".join([*lines, "", ""]).encode())
            while data := await reader.read(4096):
                writer.write(WEBSOCKET + data)
                await writer.drain()
            return False
        if reply.status != 204:
            lines.append(f"Content-Length: {len(reply.body)}")
        body = b"" if request.method == "HEAD" else reply.body
        writer.write("\r\n".join([*lines, "", ""]).encode("latin-1") + body)
        await writer.drain()
        return request.get("connection").lower() != "close"


async def _read_request(reader: asyncio.StreamReader) -> Request:
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
    method, target, _ = head[0].split(" ", 2)
    pairs = [line.partition(":") for line in head[1:] if line]
    headers = tuple((name.lower(), value.strip()) for name, _, value in pairs)
    request = Request(method, target, headers)
    body = b""
    if length := request.get("content-length"):
        body = await reader.readexactly(int(length))
    elif "chunked" in request.get("transfer-encoding"):
        while size := int(await reader.readline(), 16):
            body += await reader.readexactly(size)
            await reader.readline()
        await reader.readline()
    return Request(method, target, headers, body)


@dataclass
class Servers:
    """All of them, on an event loop of their own thread; a context manager."""

    ports: Ports = field(default_factory=Ports)

    def __post_init__(self) -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)
        self._spies: list[Spy] = []
        self._addresses = 0
        self.dns = Dns()
        self.pod_port = self.ports["pods"]

    def __enter__(self) -> Self:
        self._thread.start()
        address = (HOST, self.ports["dns"])
        self.run(self._loop.create_datagram_endpoint(lambda: self.dns, local_addr=address))
        return self

    def __exit__(self, *_: object) -> None:
        for spy in self._spies:
            spy.stop()
        self.run(self._close())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()
        self.ports.release()

    async def _close(self) -> None:
        self.dns.close()
        # Connections that were cut have yet to end.
        await asyncio.gather(*(asyncio.all_tasks() - {asyncio.current_task()}), return_exceptions=True)
        # What was closed is let go by the next round of the loop.
        await asyncio.sleep(0)

    def run(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have the loop do something, and wait for it."""
        asyncio.run_coroutine_threadsafe(work, self._loop).result(60)

    def manager(self, name: str, answering: Answering) -> Spy:
        """Return a manager that listens."""
        return self._add(Spy(self, HOST, self.ports[name], answering))

    def pod(self, session_id: str, answering: Answering) -> Spy:
        """Return the editor of a session, which has a name and an address, and listens."""
        return self._add(Spy(self, self.resolve(session_id), self.pod_port, answering))

    def resolve(self, session_id: str) -> str:
        """Give a session's Service a name and an address of its own; nothing need listen there."""
        self._addresses += 1
        high, low = divmod(self._addresses, 250)
        address = f"127.66.{high}.{low + 1}"
        self.dns.addresses[f"user-{session_id}.sessions.svc.cluster.local"] = address
        return address

    def _add(self, spy: Spy) -> Spy:
        spy.start()
        self._spies.append(spy)
        return spy


def echo_headers(request: Request) -> Reply:
    """Answer with what was asked, and take a WebSocket."""
    if request.get("upgrade"):
        return Reply(101, (("Upgrade", "websocket"), ("Connection", "Upgrade")))
    body = json.dumps({"method": request.method, "target": request.target, "headers": dict(request.headers)})
    return Reply(200, (("Content-Type", "application/json"),), body.encode())
