"""An HTTP proxy before the API server: it counts and holds requests, refuses them, loses them or their answers.

Plain HTTP in, TLS out as the cluster's administrator, so that sessionctl and Helm need nothing but its kubeconfig.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import socket
import ssl
import threading
from dataclasses import dataclass
from http import HTTPStatus
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import TYPE_CHECKING, Any, Final, Self
from urllib.parse import parse_qs, urlsplit

from tests.support.redis_proxy import HOST, Hold, Loss
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.localcluster import LocalCluster

WRITES: Final = frozenset({"POST", "PUT", "PATCH", "DELETE"})
_HOP_BY_HOP: Final = frozenset({"connection", "keep-alive", "transfer-encoding", "content-length", "host"})
_JSON: Final = {"Content-Type": "application/json"}
# Without it answers come as they are, and can be read here.
_NOT_FORWARDED: Final = _HOP_BY_HOP | {"accept-encoding", "authorization"}


@dataclass(frozen=True)
class Request:
    """One request on its way to the API server."""

    method: str
    path: str
    query: dict[str, str]
    body: bytes

    @property
    def is_write(self) -> bool:
        """Whether it changes something."""
        return self.method in WRITES

    @property
    def is_watch(self) -> bool:
        """Whether it follows changes."""
        return self.query.get("watch") in {"true", "1"}

    @property
    def manager(self) -> str:
        """The field manager it names."""
        return self.query.get("fieldManager", "")

    def names(self, text: str) -> bool:
        """Whether its path or its body holds the text."""
        return text in self.path or text.encode() in self.body


def listing(path: str) -> Callable[[Request], bool]:
    """Match a request for a list, or for one of its pages, by the end of its path."""
    return lambda request: request.method == "GET" and request.path.endswith(path) and not request.is_watch


def watching(path: str) -> Callable[[Request], bool]:
    """Match a watch by the end of its path."""
    return lambda request: request.is_watch and request.path.endswith(path)


def write(method: str, path: str, *, naming: str = "", manager: str = "") -> Callable[[Request], bool]:
    """Match a write by method, part of its path, a text it holds, and its field manager; empty matches everything."""

    def matches(request: Request) -> bool:
        return (
            request.is_write
            and method in {"", request.method}
            and path in request.path
            and request.names(naming)
            and manager in {"", request.manager}
        )

    return matches


@dataclass
class Trap:
    """What happens once, to the n-th request that matches.

    Attributes:
        before: Called on the proxy's thread before the request goes on; the request waits for it.
        after: Called when the API server has answered and the caller does not know it yet.
        refusal: Answered in place of the API server: status and message.
    """

    matches: Callable[[Request], bool]
    nth: int
    loss: Loss
    before: Callable[[], object]
    after: Callable[[], object]
    refusal: tuple[int, str] | None
    seen: int = 0

    def take(self, request: Request) -> bool:
        """Count a request; True for the one the trap is for."""
        if not self.matches(request):
            return False
        self.seen += 1
        return self.seen == self.nth


def _nothing() -> None:
    """Do nothing."""


def _as_it_is(_: Request, line: bytes) -> bytes:
    return line


class ApiProxy:
    """Listens on a free port until the end of its ``with`` block."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._server = urlsplit(cluster.server)
        self._tls = ssl.create_default_context(cafile=str(cluster.certificate_authority))
        self.token = cluster.token_for("admin")
        self._listener = _Listener(self)
        self._thread = threading.Thread(target=self._listener.serve_forever, args=(0.05,), daemon=True)
        self._lock = threading.Lock()
        self._open: set[_Connection] = set()
        self._traps: list[Trap] = []
        self._holds: list[Hold] = []
        self._rewrites: dict[str, tuple[str, str]] = {}
        self.writes: list[Request] = []
        self.reads: list[Request] = []
        self.away = False
        """Whether every connection is closed as soon as it asks for anything."""
        self.edit_watch: Callable[[Request, bytes], bytes] = _as_it_is
        """What callers see of each line of a watch; an empty line is kept from them."""

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://{HOST}:{self._listener.server_port}"

    def __enter__(self) -> Self:
        self._thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        for hold in self._holds:
            hold.let_go()
        self._listener.shutdown()
        self._thread.join()
        self.cut()
        self._listener.server_close()

    def write_kubeconfig(self, path: Path) -> Path:
        """Write a kubeconfig that points here, and return its path."""
        document = {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "proxy", "cluster": {"server": self.url}}],
            "users": [{"name": "nobody", "user": {}}],
            "contexts": [{"name": "proxy", "context": {"cluster": "proxy", "user": "nobody"}}],
            "current-context": "proxy",
        }
        path.write_text(json.dumps(document))
        return path

    def rewrite(self, path: str, old: str, new: str) -> None:
        """Show callers ``new`` in place of ``old`` wherever they read that path."""
        self._rewrites[path] = (old, new)

    def trap(
        self,
        matches: Callable[[Request], bool],
        loss: Loss = Loss.NOTHING,
        *,
        nth: int = 1,
        before: Callable[[], object] = _nothing,
        after: Callable[[], object] = _nothing,
        refusal: tuple[int, str] | None = None,
    ) -> Trap:
        """Set a trap for the n-th request from now that matches."""
        trap = Trap(matches, nth, loss, before, after, refusal)
        with self._lock:
            self._traps.append(trap)
        return trap

    def disarm(self, trap: Trap) -> None:
        """Take a trap away that has perhaps not been sprung."""
        with self._lock:
            self._traps = [each for each in self._traps if each is not trap]

    def hold(self, matches: Callable[[Request], bool], *, nth: int = 1) -> Hold:
        """Make the n-th request from now that matches wait until it is let go."""
        hold = Hold()
        self._holds.append(hold)
        self.trap(matches, nth=nth, before=hold)
        return hold

    def cut(self) -> None:
        """End every open connection."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.end()

    def end_watches(self, path: str) -> None:
        """End the watches of a path as the API server does when their time is over."""
        with self._lock:
            connections = list(self._open)
        for connection in connections:
            connection.end_watch(path)

    def drain(self) -> None:
        """Return when nothing is on its way any more; the callers must have ended."""
        wait_for(lambda: not self._open, "the last request of callers that have ended")

    def connect(self) -> http.client.HTTPSConnection:
        """Open a connection to the API server."""
        return http.client.HTTPSConnection(
            self._server.hostname or "", self._server.port, timeout=300, context=self._tls
        )

    def opened(self, connection: _Connection) -> None:
        """Note a connection."""
        with self._lock:
            self._open.add(connection)

    def closed(self, connection: _Connection) -> None:
        """Forget a connection."""
        with self._lock:
            self._open.discard(connection)

    def judge(self, request: Request) -> Trap | None:
        """Return the trap that the request springs."""
        with self._lock:
            (self.writes if request.is_write else self.reads).append(request)
            taken = [trap for trap in self._traps if trap.take(request)]
            self._traps = [trap for trap in self._traps if trap not in taken]
        return taken[0] if taken else None

    def rewritten(self, request: Request, body: bytes) -> bytes:
        """Return what the caller shall see of an answer."""
        old, new = self._rewrites.get(request.path, ("", "")) if request.method == "GET" else ("", "")
        return body.replace(old.encode(), new.encode()) if old else body


class _Listener(ThreadingHTTPServer):
    request_queue_size = 64
    daemon_threads = False

    def __init__(self, proxy: ApiProxy) -> None:
        super().__init__((HOST, 0), _Connection)
        self.proxy = proxy

    def handle_error(self, request: Any, client_address: Any) -> None:
        """A caller that was killed leaves broken pipes behind."""


class _Connection(BaseHTTPRequestHandler):
    """One caller's connection, and its own to the API server."""

    protocol_version = "HTTP/1.1"
    disable_nagle_algorithm = True
    server: _Listener

    def setup(self) -> None:
        super().setup()
        self._watched = ""
        self._ending = False
        self._upstream = self.server.proxy.connect()
        self.server.proxy.opened(self)

    def finish(self) -> None:
        try:
            super().finish()
        finally:
            self._upstream.close()
            self.server.proxy.closed(self)

    def end(self) -> None:
        """Cut both sides."""
        for side in (self.connection, self._upstream.sock):
            with contextlib.suppress(OSError):
                if side is not None:
                    side.shutdown(socket.SHUT_RDWR)

    def end_watch(self, path: str) -> None:
        """End the answer under way, if it is a watch of this path."""
        if self._watched.endswith(path) and self._watched and self._upstream.sock is not None:
            self._ending = True
            with contextlib.suppress(OSError):
                self._upstream.sock.shutdown(socket.SHUT_RDWR)

    def log_message(self, format: str, *args: Any) -> None:  # noqa: A002 - its name in the standard library
        """Say nothing."""

    def relay(self) -> None:
        """Pass one request on, and its answer back."""
        self.close_connection = not self._relay()

    do_GET = do_POST = do_PUT = do_PATCH = do_DELETE = relay  # noqa: N815 - their names in the standard library

    def _relay(self) -> bool:
        proxy = self.server.proxy
        address = urlsplit(self.path)
        query = {name: values[-1] for name, values in parse_qs(address.query).items()}
        body = self.rfile.read(int(self.headers.get("Content-Length") or 0))
        request = Request(self.command, address.path, query, body)
        trap = proxy.judge(request)
        if proxy.away:
            return False
        if trap is not None:
            trap.before()
            if trap.refusal is not None:
                self._answer(trap.refusal[0], _JSON, json.dumps(_status(*trap.refusal)).encode())
                return True
            if trap.loss is Loss.COMMAND:
                return False
        try:
            response = self._ask(body)
            if request.is_watch:
                return self._stream(request, response)
            answer = proxy.rewritten(request, response.read())
        except (OSError, http.client.HTTPException):
            return False
        if trap is not None:
            trap.after()
            if trap.loss is Loss.REPLY:
                return False
        self._answer(response.status, dict(response.getheaders()), answer)
        return True

    def _ask(self, body: bytes) -> http.client.HTTPResponse:
        headers = {name: value for name, value in self.headers.items() if name.lower() not in _NOT_FORWARDED}
        headers["Authorization"] = f"Bearer {self.server.proxy.token}"
        self._upstream.request(self.command, self.path, body or None, headers)
        return self._upstream.getresponse()

    def _answer(self, status: int, headers: dict[str, str], body: bytes) -> None:
        self.send_response_only(status)
        for name, value in headers.items():
            if name.lower() not in _HOP_BY_HOP:
                self.send_header(name, value)
        # Helm's cache lays the headers of a 304 over what it has: a length of 0 would empty it.
        if status != HTTPStatus.NOT_MODIFIED:
            self.send_header("Content-Length", str(len(body)))
        self.end_headers()
        self.wfile.write(body)

    def _stream(self, request: Request, response: http.client.HTTPResponse) -> bool:
        self.send_response_only(response.status)
        self.send_header("Content-Type", response.headers.get("Content-Type", "application/json"))
        self.send_header("Transfer-Encoding", "chunked")
        self.end_headers()
        # The head at once: whoever asks waits for it.
        self.wfile.flush()
        self._watched, self._ending = request.path, False
        try:
            self._pass_lines(request, response)
        except (OSError, http.client.HTTPException):
            if not self._ending:
                raise
        finally:
            self._watched = ""
        self.wfile.write(b"0\r\n\r\n")
        return not self._ending

    def _pass_lines(self, request: Request, response: http.client.HTTPResponse) -> None:
        while line := response.readline():
            if shown := self.server.proxy.edit_watch(request, line):
                self.wfile.write(b"%x\r\n%s\r\n" % (len(shown), shown))


def _status(code: int, message: str) -> dict[str, Any]:
    phrase = HTTPStatus(code).phrase.replace(" ", "")
    return {
        "kind": "Status",
        "apiVersion": "v1",
        "status": "Failure",
        "code": code,
        "reason": phrase,
        "message": message,
    }
