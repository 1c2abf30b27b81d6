"""Who gets in: the cookie, what managers say of it, and for how long that counts."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.router.stage import seen_by
from tests.support.raw_http import NAVIGATION, SCRIPT, Browser
from tests.support.spies import Reply
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from tests.router.stage import Session, Stage
    from tests.support.spies import Request


def test_without_a_cookie_nobody_is_asked(stage: Stage) -> None:
    session = stage.awake()
    answer = session.stranger.fetch("/")
    assert (answer.status, answer.get("Content-Type")) == (401, "application/problem+json")
    page = session.stranger.open("/")
    assert (page.status, page.is_page) == (401, True)
    assert "Ask your application for a link" in page.text
    assert seen_by(session) == stage.manager.spy.seen == []


@pytest.mark.parametrize(
    "cookie",
    [
        "__Host-session=",
        '__Host-session="{}"',
        "__Host-session={} {}",
        "__Host-session={}\x7f",
        "__Host-session=" + "x" * 2049,
        "__host-session={}",
        "X__Host-session={}",
        "session={}",
        "a=__Host-session={}",
        "__Secure-session={}",
    ],
)
def test_what_cannot_be_a_cookie_of_ours_is_none(stage: Stage, cookie: str) -> None:
    session = stage.awake()
    assert session.stranger.open(Cookie=cookie.replace("{}", session.cookie)).status == 401
    assert seen_by(session) == stage.manager.spy.seen == []


def test_a_cookie_opens_its_own_session_only(stage: Stage) -> None:
    mine, theirs = stage.awake(), stage.awake()
    for answer in (
        theirs.stranger.open(Cookie=f"__Host-session={mine.cookie}"),
        theirs.stranger.fetch("/", Cookie=f"__Host-session={mine.cookie}", X_Session_Id=mine.session_id),
        theirs.stranger.fetch(
            "/", "POST", b"x", Cookie=f"__Host-session={mine.cookie}", Origin=f"https://{theirs.host}"
        ),
        theirs.stranger.knock(Cookie=f"__Host-session={mine.cookie}"),
    ):
        assert answer.status == 401
    assert seen_by(theirs) == []


def test_an_answer_counts_for_its_session_and_its_cookie(stage: Stage) -> None:
    """Whatever was just allowed to somebody else."""
    mine, theirs = stage.awake(), stage.awake()
    for _ in range(2):
        assert mine.owner.fetch("/").status == theirs.owner.fetch("/").status == 200
        assert theirs.stranger.fetch("/", Cookie=f"__Host-session={mine.cookie}").status == 401
        assert mine.stranger.fetch("/", Cookie="__Host-session=made-up-by-somebody").status == 401


def test_a_manager_is_asked_once_a_second(stage: Stage) -> None:
    """Its answers keep a session awake, so not less; and an editor loads hundreds of files, so not more."""
    session = stage.awake()
    for _ in range(50):
        assert session.owner.fetch("/file").status == 200
    first = len(stage.manager.asked("/router/auth"))
    assert first <= 3

    def asked_again() -> bool:
        assert session.owner.fetch("/file").status == 200
        return len(stage.manager.asked("/router/auth")) > first

    wait_for(asked_again, "the manager is asked again", patience=10)


def _refused(session: Session) -> bool:
    return session.owner.fetch("/").status == 401


def test_what_is_no_longer_allowed_ends(stage: Stage) -> None:
    session = stage.awake()
    assert session.owner.fetch("/").status == 200
    del stage.manager.allowed[session.cookie]
    wait_for(lambda: _refused(session), "a revoked cookie is refused", patience=10)


def test_without_a_manager_what_was_allowed_goes_on(stage: Stage) -> None:
    session = stage.awake()
    connection, _ = session.owner.connect()
    with connection:
        assert session.owner.fetch("/").status == 200
        stage.manager.spy.stop()
        before = len(seen_by(session))
        # Longer than an answer counts while there are managers.
        count = 0
        for _ in range(60):
            assert session.owner.fetch("/").status == 200
            count += 1
        assert len(seen_by(session)) == before + count
        assert connection.say(b"still here", b"still here").endswith(b"still here")
        again, answer = session.owner.connect()
        with again:
            assert answer.status == 101


@pytest.mark.parametrize("trouble", ["500", "503", "silence"])
def test_a_manager_in_trouble_changes_nothing_for_who_is_inside(stage: Stage, trouble: str) -> None:
    session = stage.awake()
    assert session.owner.fetch("/").status == 200
    asked = len(stage.manager.asked("/router/auth"))
    stage.manager.spy.answering = lambda _: None if trouble == "silence" else Reply(int(trouble))

    def asked_in_vain() -> bool:
        assert session.owner.fetch("/").status == 200
        return len(stage.manager.asked("/router/auth")) > asked

    wait_for(asked_in_vain, "the manager is asked while it is in trouble", patience=20)


def test_a_revoked_cookie_does_not_come_back_with_an_outage(stage: Stage) -> None:
    session = stage.awake()
    assert session.owner.fetch("/").status == 200
    del stage.manager.allowed[session.cookie]
    wait_for(lambda: _refused(session), "a revoked cookie is refused", patience=10)
    stage.manager.spy.stop()
    for _ in range(30):
        assert session.owner.fetch("/").status == 401
    assert session.owner.knock().status == 401


def test_made_up_cookies_are_not_kept(stage: Stage) -> None:
    """They would drive out the answers that are needed when no manager answers."""
    session = stage.awake()
    made_up = [f"__Host-session=made-up-{number}" for number in range(20)]
    for cookie in made_up:
        assert session.stranger.fetch("/", Cookie=cookie).status == 401
    kept = [file.read_bytes() for file in stage.router.cache_files()]
    assert not [content for content in kept if b"made-up-" in content and session.session_id.encode() in content]
    assert session.owner.fetch("/").status == 200
    assert [file for file in stage.router.cache_files() if session.cookie.encode() in file.read_bytes()]


def test_without_a_manager_nobody_new_gets_in(stage: Stage) -> None:
    session = stage.awake()
    stage.manager.spy.stop()
    page = session.owner.open("/")
    assert (page.status, page.is_page) == (503, True)
    assert "cannot be reached right now" in page.text
    answer = session.owner.fetch("/")
    assert (answer.status, answer.get("Content-Type")) == (503, "application/problem+json")
    assert answer.get("Cache-Control") == page.get("Cache-Control") == "no-store"
    assert session.owner.fetch("/", "POST", b"x", Origin=f"https://{session.host}").status == 503
    assert seen_by(session) == []


@pytest.mark.parametrize("status", [200, 204])
def test_only_a_manager_lets_in(stage: Stage, status: int) -> None:
    """An answer of any other kind is no permission to keep."""
    session = stage.awake()

    def say(_: Request) -> Reply:
        return Reply(status) if status == 204 else Reply(302, (("Location", "https://elsewhere.test/"),))

    stage.manager.spy.answering = say
    assert session.owner.fetch("/").status == (200 if status == 204 else 503)


@pytest.mark.parametrize("path", ["login", "logout", "wait", "progress"])
def test_our_own_paths_are_the_managers(stage: Stage, path: str) -> None:
    session = stage.awake()
    method = "POST" if path == "logout" else "GET"
    answer = session.owner.ask(method, f"/_session/{path}?code=abc", NAVIGATION, Origin=f"https://{session.host}")
    assert (answer.status, answer.body) == (200, b"by the manager")
    assert answer.all("Set-Cookie") == ["__Host-session=fresh; Secure; HttpOnly; Path=/"]
    (request,) = stage.manager.spy.seen
    assert (request.method, request.target) == (method, f"/router/{path}?code=abc")
    assert request.get("x-session-uri") == f"/_session/{path}?code=abc"
    assert request.get("x-session-id") == session.session_id
    assert seen_by(session) == []


def test_the_form_of_a_login_brings_no_body_to_the_manager(stage: Stage) -> None:
    session = stage.awake()
    state = "__Host-session-state=" + "s" * 43
    answer = session.stranger.fetch(
        "/_session/login?code=abc", "POST", b"a=b", Origin=f"https://{session.host}", Cookie=state
    )
    assert answer.status == 200
    (request,) = stage.manager.spy.seen
    assert (request.method, request.body, request.get("x-session-state")) == ("POST", b"", "s" * 43)


@pytest.mark.parametrize("path", ["login?code=abc", "logout", "wait", "progress"])
def test_our_own_paths_say_when_no_manager_answers(stage: Stage, path: str) -> None:
    session = stage.awake()
    stage.manager.spy.stop()
    answer = session.owner.open(f"/_session/{path}")
    assert (answer.status, answer.is_page) == (503, True)


@pytest.mark.parametrize(
    "path",
    [
        "/_session",
        "/_session/",
        "/_session/auth",
        "/_session/login/",
        "/_session/internal/auth",
        "/_session/internal/login.html",
        "/_session/internal/pages/unavailable.html",
        "/%5fsession/internal/auth",
        "/x/../_session/internal/auth",
        "//_session/internal/auth",
        "/_session/./internal/auth",
        "/_session/internal%2fauth",
        "/_session/asleep",
        "/_session/login/../asleep",
    ],
)
def test_nothing_else_is_there_below_them(stage: Stage, path: str) -> None:
    session = stage.awake()
    for browser in (session.owner, session.stranger):
        assert browser.ask("GET", path, NAVIGATION).status == 404
    assert seen_by(session) == stage.manager.spy.seen == []


def test_codes_and_cookies_are_in_no_log(stage: Stage) -> None:
    session = stage.asleep()
    session.owner.open("/file?token=not-for-logs")
    session.owner.open("/_session/login?code=not-for-logs")
    stage.manager.spy.stop()
    session.owner.open("/_session/login?code=not-for-logs")
    session.owner.open("/file?token=not-for-logs")
    lines = [line for line in stage.router.log_lines() if line["session"] == session.session_id]
    assert [line["status"] for line in lines] == [503, 200, 503, 503]
    text = stage.router.log.read_text() + stage.router.errors.read_text()
    assert "not-for-logs" not in text
    assert session.cookie not in text


def test_the_page_needs_nothing_of_the_session(stage: Stage) -> None:
    session = stage.unknown()
    page = session.stranger.open("/")
    assert page.get("Content-Security-Policy").startswith(
        "default-src 'none'; style-src 'self'; frame-ancestors 'none'"
    )
    style = session.stranger.ask("GET", "/_session/page.css", SCRIPT)
    assert (style.status, style.get("Content-Type")) == (200, "text/css")
    assert "prefers-color-scheme: dark" in style.text


def test_another_host_is_nobody(stage: Stage) -> None:
    assert Browser(stage.router.port, "example.test").open("/").status == 404
