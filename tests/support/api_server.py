"""A loopback stand-in of the API server: objects by their paths, and port-forwards by the kubelet's own wire protocol.

The other half of ``adapters/cluster/portforward.py``, after k8s.io/cri-streaming (handleWebSocketStreams) and
containerd: the port in two bytes on each channel first, the first byte of every *frame* a channel, an error as text on
channel 1 before the end. No Kubernetes is imitated beyond that: the objects are what a test puts there.
"""

from __future__ import annotations

import asyncio
import json
from contextlib import suppress
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import parse_qs, urlsplit

from wsproto import ConnectionType, WSConnection
from wsproto.events import (
    AcceptConnection,
    BytesMessage,
    CloseConnection,
    Event,
    Ping,
    RejectConnection,
    Request,
)

from tests.support.tcp_server import HOST, TcpServer

if TYPE_CHECKING:
    import ssl
    from pathlib import Path

V4: Final = "v4.channel.k8s.io"
_CHUNK: Final = 32768


@dataclass(frozen=True)
class Seen:
    """A request as it arrived."""

    method: str
    path: str
    query: dict[str, str]
    headers: dict[str, str]


class ApiServer(TcpServer):
    """An async context manager.

    Attributes:
        objects: Answer by path; a list by the path of its collection.
        refusals: Status and body by the end of a path, in place of an answer.
        pods: The loopback port behind each port of a pod; 0 refuses connections.
        protocols: The subprotocols it speaks.
        splits: Whether messages come in frames of one byte.
        mute: Whether it answers no ping.
        answers_for: The port it says it forwards, where that is another one.
    """

    def __init__(self, tls: ssl.SSLContext | None = None) -> None:
        super().__init__(self._converse, tls)
        self._scheme = "https" if tls else "http"
        self.objects: dict[str, dict[str, Any]] = {}
        self.refusals: dict[str, tuple[int, str]] = {}
        self.pods: dict[tuple[str, int], int] = {}
        self.protocols: tuple[str, ...] = (V4,)
        self.splits = False
        self.mute = False
        self.answers_for: int | None = None
        self.seen: list[Seen] = []
        self.pings = 0
        self.longest_frame = 0

    @property
    def url(self) -> str:
        return f"{self._scheme}://{HOST}:{self.port}"

    def add_pod(self, namespace: str, name: str, labels: dict[str, str], **ports: int) -> None:
        """Add a ready pod; ``p6379=1234`` puts a loopback port behind one of its own."""
        pods = self.objects.setdefault(f"/api/v1/namespaces/{namespace}/pods", {"items": []})
        status = {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]}
        pods["items"].append({"metadata": {"name": name, "labels": labels}, "status": status})
        self.pods |= {(name, int(port.removeprefix("p"))): target for port, target in ports.items()}

    def pod(self, name: str) -> dict[str, Any]:
        """Return a pod, to change it."""
        lists = (each["items"] for path, each in self.objects.items() if path.endswith("/pods"))
        return next(pod for items in lists for pod in items if pod["metadata"]["name"] == name)

    def remove_pod(self, name: str) -> None:
        """Let a pod be gone."""
        for path, each in self.objects.items():
            if path.endswith("/pods"):
                each["items"] = [pod for pod in each["items"] if pod["metadata"]["name"] != name]

    def write_kubeconfig(self, folder: Path, user: dict[str, Any], cluster: dict[str, Any] | None = None) -> str:
        """Write a kubeconfig that points here."""
        document = {
            "current-context": "here",
            "contexts": [{"name": "here", "context": {"cluster": "c", "user": "u"}}],
            "clusters": [{"name": "c", "cluster": {"server": self.url, **(cluster or {})}}],
            "users": [{"name": "u", "user": user}],
        }
        file = folder / "kubeconfig"
        file.write_text(json.dumps(document))
        return str(file)

    async def _converse(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while await self._answer(await reader.readuntil(b"\r\n\r\n"), reader, writer):
            pass

    async def _answer(self, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> bool:
        first, *lines = head.decode().split("\r\n")
        method, target, _ = first.split(" ")
        headers = {name.lower(): value.strip() for name, _, value in (line.partition(":") for line in lines if line)}
        url = urlsplit(target)
        query = {name: values[-1] for name, values in parse_qs(url.query).items()}
        self.seen.append(Seen(method, url.path, query, headers))
        refusal = next((r for end, r in self.refusals.items() if url.path.endswith(end)), None)
        if refusal is not None:
            await _send(writer, *refusal)
            return True
        if headers.get("upgrade") == "websocket":
            pod = url.path.split("/")[-2]
            if not any(pod == name for name, _ in self.pods):
                await _send(writer, 404, json.dumps({"kind": "Status", "message": f'pods "{pod}" not found'}))
                return True
            await _Forward(self, head, reader, writer).run(pod, int(query["ports"]))
            return False
        found = self.objects.get(url.path, {"items": []} if url.path.endswith("/pods") else None)
        if found is not None and "items" in found and "labelSelector" in query:
            found = {"items": [item for item in found["items"] if _matches(item, query["labelSelector"])]}
        await _send(writer, 404 if found is None else 200, json.dumps(found or {"kind": "Status", "message": "no"}))
        return True


class _Forward:
    """One upgraded connection."""

    def __init__(
        self, server: ApiServer, head: bytes, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        self._server = server
        self._reader = reader
        self._writer = writer
        self._protocol = WSConnection(ConnectionType.SERVER)
        self._protocol.receive_data(head)

    async def run(self, pod: str, port: int) -> None:
        (request,) = self._protocol.events()
        assert isinstance(request, Request)
        spoken = [protocol for protocol in request.subprotocols if protocol in self._server.protocols]
        if not spoken:
            # As golang.org/x/net/websocket answers.
            self._write(RejectConnection(status_code=403, headers=[(b"connection", b"close")]))
            return
        self._write(AcceptConnection(subprotocol=spoken[0]))
        head = (self._server.answers_for or port).to_bytes(2, "little")
        for channel in (0, 1):
            self._message(channel, head)
        try:
            target = await asyncio.open_connection(HOST, self._server.pods.get((pod, port), 0))
        except OSError:
            text = f"error forwarding port {port} to pod {pod}, uid : failed to connect to localhost:{port} inside"
            self._message(1, f"{text} namespace: dial tcp4 127.0.0.1:{port}: connect: connection refused".encode())
            self._write(CloseConnection(code=1000))
            return
        await self._splice(*target)

    async def _splice(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        ways = [asyncio.create_task(self._up(writer)), asyncio.create_task(self._down(reader))]
        try:
            await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
        finally:
            writer.transport.abort()
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
        with suppress(Exception):
            self._write(CloseConnection(code=1000))
            await self._writer.drain()

    async def _up(self, target: asyncio.StreamWriter) -> None:
        fresh, channel, length = True, 0, 0
        while data := await self._reader.read(_CHUNK):
            self._protocol.receive_data(data)
            for event in self._protocol.events():
                match event:
                    case Ping():
                        self._server.pings += 1
                        if not self._server.mute:
                            self._write(event.response())
                    case CloseConnection():
                        return
                    case BytesMessage():
                        payload = bytes(event.data)
                        if fresh and payload:
                            channel, payload, length = payload[0], payload[1:], 0
                        length += len(payload)
                        fresh = event.frame_finished
                        self._server.longest_frame = max(self._server.longest_frame, length)
                        if channel == 0:
                            target.write(payload)
                            await target.drain()
                    case _:
                        pass

    async def _down(self, target: asyncio.StreamReader) -> None:
        while data := await target.read(_CHUNK):
            self._message(0, data)
            await self._writer.drain()

    def _message(self, channel: int, data: bytes) -> None:
        message = bytes([channel]) + data
        pieces = [message[i : i + 1] for i in range(len(message))] if self._server.splits else [message]
        for piece in pieces:
            self._write(BytesMessage(data=piece, message_finished=piece is pieces[-1]))

    def _write(self, event: Event) -> None:
        self._writer.write(self._protocol.send(event))


def _matches(item: dict[str, Any], selector: str) -> bool:
    wanted = dict(part.split("=") for part in selector.split(","))
    found: dict[str, str] = item["metadata"].get("labels", {})
    return wanted.items() <= found.items()


async def _send(writer: asyncio.StreamWriter, status: int, body: str) -> None:
    head = f"HTTP/1.1 {status} X\r\nContent-Type: application/json\r\nContent-Length: {len(body.encode())}\r\n\r\n"
    writer.write(head.encode() + body.encode())
    await writer.drain()
