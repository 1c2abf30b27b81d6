"""What pages may do, and what they are made of."""

from __future__ import annotations

import re
from html.parser import HTMLParser
from http import HTTPStatus

import pytest
from fastapi import Response

from sessionctl.api import pages
from sessionctl.core.opening import Phase, Step

HOSTILE = "<script>alert(1)</script>\"'&"
PAGES = {
    "starting": pages.waiting(Step(Phase.STARTING), "/"),
    "failed": pages.waiting(Step(Phase.FAILED, HOSTILE), '/?folder=/a&b="><i>'),
    "asleep": pages.waiting(Step(Phase.ASLEEP), "/x"),
    "confirm": pages.confirmation(HOSTILE, "code"),
    "message": pages.message(HTTPStatus.FORBIDDEN, HOSTILE, HOSTILE),
}
every = pytest.mark.parametrize("page", PAGES.values(), ids=PAGES)


class Reader(HTMLParser):
    """Reads a page: its elements, and the text of each kind."""

    def __init__(self, page: Response) -> None:
        super().__init__()
        self.elements: list[tuple[str, dict[str, str | None]]] = []
        self.texts: dict[str, str] = {}
        self._inside = ""
        self.feed(bytes(page.body).decode())

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        self.elements.append((tag, dict(attrs)))
        self._inside = tag

    def handle_endtag(self, tag: str) -> None:
        self._inside = ""

    def handle_data(self, data: str) -> None:
        self.texts[self._inside] = self.texts.get(self._inside, "") + data

    def of(self, tag: str) -> list[dict[str, str | None]]:
        return [attributes for name, attributes in self.elements if name == tag]


@every
def test_nothing_is_loaded_from_elsewhere_and_nothing_of_a_user_is_markup(page: Response) -> None:
    read = Reader(page)
    assert {tag for tag, _ in read.elements} <= {
        *("html", "head", "meta", "title", "style", "body", "main", "h1", "div", "p", "a", "small", "strong"),
        *("form", "button", "script", "noscript"),
    }
    for tag, attributes in read.elements:
        assert not attributes.keys() & {"src", "srcset", "style", "onclick", "onload"}, tag
        for name in ("href", "action", "data-to", "data-wait"):
            assert re.match(r"/(?![/\\])", attributes.get(name) or "/"), (tag, name)
    assert "http" not in bytes(page.body).decode().replace('http-equiv="refresh"', "")


@every
def test_a_page_may_run_its_own_script_and_do_nothing_else(page: Response) -> None:
    read, policy = Reader(page), page.headers["Content-Security-Policy"]
    for tag, directive in (("script", "script-src"), ("style", "style-src")):
        if tag in read.texts:
            digest = pages._digest(read.texts[tag])
            assert f"{directive} {digest}" in policy, f"the {tag} of the page is the one that is allowed"
    for wanted in ("default-src 'none'", "base-uri 'none'", "frame-ancestors 'none'", "form-action 'self'"):
        assert wanted in policy
    assert "unsafe" not in policy
    assert page.headers["Cache-Control"] == "no-store"
    # With `no-referrer` the origin of its form would be `null`.
    assert page.headers["Referrer-Policy"] == "strict-origin"


@every
def test_a_page_can_be_read_by_everybody(page: Response) -> None:
    read = Reader(page)
    assert read.of("html") == [{"lang": "en"}]
    assert len(read.of("h1")) == len(read.of("main")) == len(read.of("title")) == 1
    assert all((attributes.get("href") or "") for attributes in read.of("a"))
    style = read.texts["style"]
    for wanted in ("color-scheme: light dark", "prefers-color-scheme: dark", "prefers-reduced-motion", "focus-visible"):
        assert wanted in style


def test_the_wake_page_goes_on_without_javascript_while_there_is_something_to_wait_for() -> None:
    for name, refreshes in (("starting", True), ("failed", False), ("asleep", False)):
        read = Reader(PAGES[name])
        found = [each["content"] for each in read.of("meta") if each.get("http-equiv") == "refresh"]
        assert bool(found) is refreshes, name
    assert Reader(PAGES["starting"]).of("noscript")
    (status,) = [each for tag, each in Reader(PAGES["starting"]).elements if each.get("role") == "status"]
    assert status["aria-live"] == "polite"


def test_a_failure_says_why_and_a_way_on() -> None:
    read = Reader(PAGES["failed"])
    assert "does not start" in read.texts["h1"]
    assert HOSTILE[1:20] in read.texts["p"]
    (link,) = read.of("a")
    assert link["href"] == '/?folder=/a&b="><i>'


@pytest.mark.parametrize("path", ["/", "/?folder=/workspace", "/a/b?c=%2f%2fx#d", "/login", "/a//b"])
def test_a_path_of_this_host_is_kept(path: str) -> None:
    assert pages.local_path(path) == path


@pytest.mark.parametrize(
    "path",
    [
        *(
            "",
            "//evil.example",
            "/\\evil.example",
            "\\/evil.example",
            "https://evil.example/",
            "evil",
            "javascript:alert(1)",
        ),
        *(
            "/\t/evil.example",
            "/\n/evil.example",
            " /",
            "/a b",
            "/ä",
            "/x\\y",
            "/\x00",
            "/" + "x" * 5000,
            "/\r\nSet-Cookie: a=b",
        ),
        *("/_session/login?code=x", "/_session/wait?to=/", "/_session/logout"),
    ],
)
def test_anything_else_leads_home(path: str) -> None:
    assert pages.local_path(path) == "/"


@pytest.mark.parametrize("phase", Phase)
def test_every_phase_has_words(phase: Phase) -> None:
    said = pages.words(Step(phase))
    assert said["heading"]
    assert str(said["text"])[0].isupper()
    assert pages.words(Step(Phase.STARTING, "its pod waits for a node."))["text"] == "Its pod waits for a node."
