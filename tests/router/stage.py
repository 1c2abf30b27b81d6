"""Sessions behind the router under test, and a manager that keeps to the contract."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from tests.support.raw_http import Browser
from tests.support.spies import Reply, Request, Servers, echo_headers

if TYPE_CHECKING:
    from tests.support.spies import Answering, Spy
    from tools.localrouter import LocalRouter

DOMAIN: Final = "example.test"
WAKE_PAGE: Final = "<title>waking</title>"
_HTML: Final = (("Content-Type", "text/html"), ("Cache-Control", "no-store"))


class SpyManager:
    """Says who may enter, wakes whom it should, and notes what it is asked."""

    def __init__(self, servers: Servers) -> None:
        self.allowed: dict[str, str] = {}
        """Cookie -> session."""
        self.woken: list[str] = []
        self.spy: Spy = servers.manager("manager", self.answer)

    def reset(self) -> None:
        """Be as new, but for who may enter."""
        self.spy.start()
        self.spy.answering = self.answer
        self.spy.seen.clear()
        self.woken.clear()

    def answer(self, request: Request) -> Reply:
        """Answer as managers do."""
        session, cookie = request.get("x-session-id"), request.get("x-session-cookie")
        match request.path:
            case "/router/auth":
                return Reply(204 if self.allowed.get(cookie) == session else 401)
            case "/router/asleep":
                if self._is_navigation(request) and self.allowed.get(cookie) == session:
                    self.woken.append(session)
                    return Reply(503, (*_HTML, ("Retry-After", "2")), WAKE_PAGE.encode())
                return Reply(503, (("Content-Type", "application/problem+json"),), b"{}")
            case _:
                return Reply(
                    200, (("Set-Cookie", "__Host-session=fresh; Secure; HttpOnly; Path=/"),), b"by the manager"
                )

    def asked(self, path: str) -> list[Request]:
        """List the requests for a path."""
        return [request for request in self.spy.seen if request.path == path]

    @staticmethod
    def _is_navigation(request: Request) -> bool:
        return (
            request.get("x-session-method") == "GET"
            and request.get("sec-fetch-mode") == "navigate"
            and request.get("sec-fetch-dest") == "document"
            and not request.get("sec-purpose") + request.get("purpose")
        )


@dataclass(frozen=True)
class Session:
    """One session: its host, whoever has signed in, and its pod if there is one."""

    session_id: str
    host: str
    cookie: str
    owner: Browser
    stranger: Browser
    pod: Spy | None


@dataclass(frozen=True)
class Stage:
    """Makes sessions."""

    router: LocalRouter
    servers: Servers
    manager: SpyManager

    def awake(self, answering: Answering = echo_headers) -> Session:
        """Return a session whose editor answers."""
        session_id = str(uuid4())
        return self._session(session_id, self.servers.pod(session_id, answering))

    def asleep(self) -> Session:
        """Return a session whose Service refuses connections."""
        session_id = str(uuid4())
        self.servers.resolve(session_id)
        return self._session(session_id, None)

    def unknown(self) -> Session:
        """Return a session without a Service."""
        return self._session(str(uuid4()), None)

    def _session(self, session_id: str, pod: Spy | None) -> Session:
        cookie = f"v1.{secrets.token_urlsafe(24)}.{secrets.token_hex(8)}"
        self.manager.allowed[cookie] = session_id
        host = f"vs-code-{session_id}.{DOMAIN}"
        owner = Browser(self.router.port, host, f"__Host-session={cookie}")
        return Session(session_id, host, cookie, owner, Browser(self.router.port, host), pod)


def seen_by(session: Session) -> list[Request]:
    """Return what reached the session's pod."""
    assert session.pod is not None
    return session.pod.seen
