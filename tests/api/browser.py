"""A browser as the manager sees it: through a router that passes what it computes and nothing else (DESIGN 8)."""

from __future__ import annotations

from dataclasses import dataclass, field
from http.cookies import SimpleCookie
from typing import TYPE_CHECKING, Any, Final

if TYPE_CHECKING:
    import httpx

    from sessionctl.models import SessionId
    from tests.api.world import Api

NAVIGATION: Final = {
    "Sec-Fetch-Mode": "navigate",
    "Sec-Fetch-Dest": "document",
    "Sec-Fetch-Site": "none",
    "Accept": "text/html",
}
FORM: Final = NAVIGATION | {"Sec-Fetch-Site": "same-origin"}


@dataclass
class Browser:
    """One browser on the host of one session."""

    api: Api
    session_id: SessionId
    cookies: dict[str, str] = field(default_factory=dict)

    async def send(self, path: str, uri: str = "/", method: str = "GET", **headers: str) -> httpx.Response:
        """Have the router ask the manager for ``path``, for a request of ``uri`` with these headers."""
        given = {
            "X-Session-Id": self.session_id,
            "X-Session-Host": f"vs-code-{self.session_id}.example.com",
            "X-Session-Cookie": self.cookies.get("__Host-session", ""),
            "X-Session-State": self.cookies.get("__Host-session-state", ""),
            "X-Session-Method": method,
            "X-Session-Uri": uri,
            **headers,
        }
        answer = await self.api.http.get(f"/router/{path}", headers=given)
        for each in answer.headers.get_list("set-cookie"):
            self._take(each)
        return answer

    def _take(self, header: str) -> None:
        for name, morsel in SimpleCookie(header).items():
            assert morsel["secure"], header
            assert morsel["httponly"], header
            assert (morsel["path"], morsel["samesite"], morsel["domain"]) == ("/", "Lax", ""), header
            if int(morsel["max-age"]) > 0:
                self.cookies[name] = morsel.value
            else:
                self.cookies.pop(name, None)

    async def auth(self) -> int:
        """Return what the router is told of a request."""
        return (await self.send("auth")).status_code

    async def navigate(self, path: str, uri: str, **headers: str) -> httpx.Response:
        """Open a page."""
        return await self.send(path, uri, **NAVIGATION | headers)

    async def login(self, link: str, method: str = "GET", **headers: str) -> httpx.Response:
        """Open a login link, or (POST) press the button of its page."""
        uri = link[link.index("/_session/") :]
        return await self.send("login", uri, method, **(FORM if method == "POST" else NAVIGATION) | headers)


async def link_to(api: Api, session_id: SessionId, state: str | None = None, **rest: Any) -> str:
    """Return a login link as a backend gets it."""
    body = {"json": {"state": state}} if state is not None else {}
    answer = await api.post(f"/session/{session_id}/access", **body, **rest)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["url"])


async def logged_in(api: Api, session_id: SessionId) -> Browser:
    """Return a browser that may open the session's editor."""
    browser = Browser(api, session_id, {"__Host-session-state": "a-browser-of-somebody"})
    answer = await browser.login(await link_to(api, session_id, "a-browser-of-somebody"))
    assert (answer.status_code, answer.headers["location"]) == (303, "/"), answer.text
    return browser
