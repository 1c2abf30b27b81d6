"""Pages of other sessions are the same site to a browser, so their requests come with the cookie."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.router.stage import DOMAIN, seen_by
from tests.support.raw_http import NAVIGATION

if TYPE_CHECKING:
    from tests.router.stage import Stage

SIBLING = f"https://vs-code-00000000-0000-4000-8000-000000000000.{DOMAIN}"
SAME_SITE = {"Sec-Fetch-Site": "same-site"}
CROSS_SITE = {"Sec-Fetch-Site": "cross-site"}
NO_CORS = {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}
CORS = {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}
LINK = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"}
FRAME = {"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "iframe"}

REFUSED = {
    "image of a sibling": ("GET", SAME_SITE | NO_CORS),
    "script of a sibling": ("GET", SAME_SITE | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "script"}),
    "fetch of a sibling": ("GET", SAME_SITE | CORS | {"Origin": SIBLING}),
    "fetch without CORS of a sibling": ("GET", SAME_SITE | {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "empty"}),
    "preflight of a sibling": ("OPTIONS", SAME_SITE | CORS | {"Origin": SIBLING}),
    "frame of a sibling": ("GET", SAME_SITE | FRAME),
    "form of a sibling": ("POST", SAME_SITE | LINK | {"Origin": SIBLING}),
    "form of a sibling without referrer": ("POST", SAME_SITE | LINK | {"Origin": "null"}),
    "beacon of a sibling": ("POST", SAME_SITE | NO_CORS | {"Origin": SIBLING}),
    "delete of a sibling": ("DELETE", SAME_SITE | CORS | {"Origin": SIBLING}),
    "image of anybody": ("GET", CROSS_SITE | NO_CORS),
    "frame of anybody": ("GET", CROSS_SITE | FRAME),
    "form of anybody": ("POST", CROSS_SITE | LINK | {"Origin": "https://evil.test"}),
    "sandboxed frame of this session": ("POST", CROSS_SITE | CORS | {"Origin": "null"}),
    "site of a kind not known yet": ("GET", {"Sec-Fetch-Site": "near"} | NO_CORS),
    "claims to be of this origin, from another": ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": SIBLING}),
    "older browser, form of a sibling": ("POST", {"Origin": SIBLING}),
    "older browser, form without an origin": ("POST", {}),
    "older browser, fetch of a sibling": ("GET", {"Origin": SIBLING}),
    "older browser, without referrer": ("POST", {"Origin": "null"}),
    "our host over http": ("POST", {"Origin": "http://{host}"}),
    "our host on another port": ("POST", {"Origin": "https://{host}:8443"}),
    "ours with more behind it": ("POST", {"Origin": "https://{host}.evil.test"}),
    "ours with more before it": ("POST", {"Origin": "https://evil-{host}"}),
    "two origins": ("POST", {"Origin": "https://{host} https://{host}"}),
}
ALLOWED = {
    "typed": ("GET", NAVIGATION),
    "link of the portal": ("GET", SAME_SITE | LINK),
    "link of anybody": ("GET", CROSS_SITE | LINK),
    "script of the editor": ("GET", {"Sec-Fetch-Site": "same-origin"} | CORS),
    "frame of the editor": ("GET", {"Sec-Fetch-Site": "same-origin"} | FRAME),
    "save of the editor": ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "https://{host}"} | CORS),
    "form of a page without referrer": ("POST", {"Sec-Fetch-Site": "same-origin", "Origin": "null"} | LINK),
    "older browser": ("GET", {}),
    "older browser, save": ("PUT", {"Origin": "https://{host}"}),
}


def _filled(headers: dict[str, str], host: str) -> dict[str, str]:
    return {name: value.replace("{host}", host) for name, value in headers.items()}


@pytest.mark.parametrize("case", REFUSED)
def test_other_pages_get_nothing(stage: Stage, case: str) -> None:
    session = stage.awake()
    method, headers = REFUSED[case]
    for path in ("/", "/_session/logout", "/_session/login?code=abc", "/_session/progress"):
        assert session.owner.ask(method, path, _filled(headers, session.host)).status == 403
    assert seen_by(session) == stage.manager.spy.seen == []


@pytest.mark.parametrize("case", REFUSED)
def test_and_wake_nothing(stage: Stage, case: str) -> None:
    session = stage.asleep()
    method, headers = REFUSED[case]
    assert session.owner.ask(method, "/", _filled(headers, session.host)).status == 403
    assert stage.manager.spy.seen == []


@pytest.mark.parametrize("case", ALLOWED)
def test_links_and_the_editor_itself_go_on(stage: Stage, case: str) -> None:
    session = stage.awake()
    method, headers = ALLOWED[case]
    assert session.owner.ask(method, "/", _filled(headers, session.host)).status == 200
    assert len(seen_by(session)) == 1


@pytest.mark.parametrize(
    "origin",
    [
        SIBLING,
        "https://evil.test",
        "null",
        "http://{host}",
        "https://{host}:8443",
        "https://{host}.evil.test",
        "https://{host}/",
        "",
        None,
    ],
)
def test_a_websocket_is_opened_by_its_own_page_only(stage: Stage, origin: str | None) -> None:
    session = stage.awake()
    given = {} if origin is None else {"Origin": origin.replace("{host}", session.host)}
    headers = {"Connection": "Upgrade", "Upgrade": "WebSocket", "Sec-Fetch-Site": "same-origin"}
    answer = session.owner.ask("GET", "/socket", headers, given)
    assert answer.status == 403
    assert seen_by(session) == stage.manager.spy.seen == []


def test_a_websocket_is_no_navigation(stage: Stage) -> None:
    """Reconnecting tabs would keep a session awake for ever."""
    session = stage.asleep()
    answer = session.owner.knock(**{"Sec-Fetch-Mode": "navigate", "Sec-Fetch-Dest": "document"})
    assert (answer.status, answer.is_page) == (503, False)
