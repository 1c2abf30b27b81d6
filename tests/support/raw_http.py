"""Requests byte by byte, as browsers make them and as only an attacker does."""

from __future__ import annotations

import http.client
import io
import socket
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from tools.localcluster.ports import HOST

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

TIMEOUT_SECONDS: Final = 30
NAVIGATION: Final = {
    "Accept": "text/html,application/xhtml+xml,*/*;q=0.8",
    "Sec-Fetch-Site": "none",
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
}
SCRIPT: Final = {
    "Accept": "*/*",
    "Sec-Fetch-Site": "same-origin",
    "Sec-Fetch-Mode": "cors",
    "Sec-Fetch-Dest": "empty",
}
WEBSOCKET: Final = {
    "Connection": "Upgrade",
    "Upgrade": "websocket",
    "Sec-WebSocket-Version": "13",
    "Sec-WebSocket-Key": "dGhlIHNhbXBsZSBub25jZQ==",
}


@dataclass(frozen=True)
class Answer:
    """What came back."""

    status: int
    headers: http.client.HTTPMessage
    body: bytes

    def get(self, name: str) -> str:
        """Return a header, empty when it is not there."""
        return self.headers.get(name, "")

    def all(self, name: str) -> list[str]:
        """Return each header of that name."""
        return self.headers.get_all(name, [])

    @property
    def text(self) -> str:
        """The body."""
        return self.body.decode()

    @property
    def is_page(self) -> bool:
        """Whether it is for people."""
        return self.get("Content-Type").startswith("text/html")


class _Kept(io.BufferedReader):
    """Reads on after one answer: ``HTTPResponse`` closes what it has read to its end."""

    def makefile(self, _mode: str) -> _Kept:
        """Return itself, as the socket that ``HTTPResponse`` asks."""
        return self

    def close(self) -> None:
        """Do nothing."""

    def end(self) -> None:
        """Close it."""
        super().close()


def render(method: str, target: str, headers: Iterable[tuple[str, str]], body: bytes = b"") -> bytes:
    """Write a request."""
    lines = [f"{method} {target} HTTP/1.1", *(f"{name}: {value}" for name, value in headers), "", ""]
    return "\r\n".join(lines).encode("latin-1") + body


class Connection:
    """One connection to the router."""

    def __init__(self, port: int) -> None:
        self.socket = socket.create_connection((HOST, port), TIMEOUT_SECONDS)
        self._file = _Kept(socket.SocketIO(self.socket, "r"))

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self._file.end()
        self.socket.close()

    def send(self, raw: bytes, method: str = "GET") -> Answer:
        """Send bytes and read one answer."""
        self.socket.sendall(raw)
        response = http.client.HTTPResponse(self._file, method=method)  # type: ignore[arg-type]
        response.begin()
        body = b"" if response.status == 101 else response.read()
        return Answer(response.status, response.headers, body)

    def say(self, data: bytes, until: bytes) -> bytes:
        """Send bytes through an upgraded connection, and read until some came back."""
        self.socket.sendall(data)
        found = b""
        while until not in found:
            chunk = self._file.read1(4096)
            if not chunk:
                break
            found += chunk
        return found

    def ended(self) -> bool:
        """Whether the other side ended it."""
        try:
            return not self._file.read1(4096)
        except ConnectionResetError:
            return True


@dataclass(frozen=True)
class Browser:
    """Somebody at one host."""

    port: int
    host: str
    cookie: str = ""

    def headers(self, *more: Mapping[str, str], **also: str) -> list[tuple[str, str]]:
        """Return what goes with every request, and more; `None` takes one out."""
        found = {"Host": self.host}
        if self.cookie:
            found["Cookie"] = self.cookie
        for each in (*more, _dashed(also)):
            found |= each
        return list(found.items())

    def ask(self, method: str, target: str, *more: Mapping[str, str], body: bytes = b"", **also: str) -> Answer:
        """Make one request on a connection of its own."""
        length = {"Content-Length": str(len(body))} if body or method in {"POST", "PUT"} else {}
        with Connection(self.port) as connection:
            return connection.send(render(method, target, self.headers(length, *more, **also), body), method)

    def open(self, target: str = "/", **also: str) -> Answer:
        """Go there as a person does."""
        return self.ask("GET", target, NAVIGATION, _dashed(also))

    def fetch(self, target: str, method: str = "GET", body: bytes = b"", **also: str) -> Answer:
        """Ask as a script of the page does."""
        return self.ask(method, target, SCRIPT, _dashed(also), body=body)

    def connect(self, target: str = "/", **also: str) -> tuple[Connection, Answer]:
        """Open a WebSocket."""
        connection = Connection(self.port)
        origin = {"Origin": f"https://{self.host}"}
        return connection, connection.send(render("GET", target, self.headers(WEBSOCKET, origin, **also)))

    def knock(self, target: str = "/", **also: str) -> Answer:
        """Open a WebSocket and go away."""
        connection, answer = self.connect(target, **also)
        with connection:
            return answer


def _dashed(headers: Mapping[str, str]) -> dict[str, str]:
    return {name.replace("_", "-"): value for name, value in headers.items()}
