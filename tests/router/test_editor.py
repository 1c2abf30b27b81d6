"""What reaches an editor, and what comes back from it."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.router.stage import seen_by
from tests.support.raw_http import SCRIPT, Connection, render
from tests.support.spies import WEBSOCKET, Reply
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from tests.router.stage import Stage
    from tests.support.spies import Request

STATE = "s" * 32


def test_a_request_reaches_the_pod_of_its_host(stage: Stage) -> None:
    first, second = stage.awake(), stage.awake()
    answer = first.owner.open("/a/b%20c?x=1&y=%2F")
    assert answer.status == 200
    assert [request.target for request in seen_by(first)] == ["/a/b%20c?x=1&y=%2F"]
    assert seen_by(second) == []
    (asked,) = stage.manager.asked("/router/auth")
    assert asked.get("x-session-id") == first.session_id
    assert asked.get("x-session-host") == first.host
    assert asked.get("x-session-cookie") == first.cookie
    assert asked.get("x-session-method") == "GET"
    assert asked.get("x-session-uri") == "/a/b%20c?x=1&y=%2F"


def test_a_body_goes_to_the_pod_and_not_to_the_manager(stage: Stage) -> None:
    session = stage.awake()
    answer = session.owner.fetch("/save", "POST", b"secret words " * 5000, Origin=f"https://{session.host}")
    assert answer.status == 200
    (request,) = seen_by(session)
    assert (request.method, request.body) == ("POST", b"secret words " * 5000)
    (asked,) = stage.manager.asked("/router/auth")
    assert (asked.method, asked.get("x-session-method"), asked.body) == ("GET", "POST", b"")
    assert asked.get("content-length") == asked.get("transfer-encoding") == ""


@pytest.mark.parametrize(
    ("given", "left"),
    [
        ("{ours}", ""),
        ("a=1; {ours}", "a=1;"),
        ("{ours}; a=1", "a=1"),
        ("a=1; {ours}; b=2", "a=1; b=2"),
        ("{state}; a=1; {ours}", "a=1;"),
        ("{ours};{state};a=1", "a=1"),
        ("a=__Host; {ours}; b=session", "a=__Host; b=session"),
        # More of ours than there can be: rather none at all than one too many.
        ("{ours}; {state}; {state}; a=1", ""),
        ("{ours}; a=1; __host-session=2", ""),
        ("{ours}; a=1; x=__Host-session", ""),
    ],
)
def test_the_cookies_of_the_pod_reach_it_and_ours_do_not(stage: Stage, given: str, left: str) -> None:
    session = stage.awake()
    cookies = given.format(ours=f"__Host-session={session.cookie}", state=f"__Host-session-state={STATE}")
    assert session.stranger.open(Cookie=cookies).status == 200
    (request,) = seen_by(session)
    assert request.get("cookie") == left
    assert session.cookie not in request.text()
    assert STATE not in request.text()


def test_two_cookie_headers_are_one(stage: Stage) -> None:
    session = stage.awake()
    headers = [("Host", session.host), ("Cookie", "a=1"), ("Cookie", f"__Host-session={session.cookie}")]
    with Connection(stage.router.port) as connection:
        assert connection.send(render("GET", "/", headers)).status == 200
    assert session.cookie not in seen_by(session)[0].text()


def test_no_credential_and_nothing_forged_reaches_pod_or_manager(stage: Stage) -> None:
    session = stage.awake()
    names = ["Authorization", "Proxy-Authorization", "X-API-Key", "Forwarded", "X-Real-IP", "X-Original-URL"]
    names += [f"X-Session-{each}" for each in ("Id", "Host", "Cookie", "State", "Method", "Uri")]
    names += [f"X-Forwarded-{each}" for each in ("For", "Host", "Proto", "Port", "Prefix", "Server")]
    forged = dict.fromkeys(names, "forged-value") | {
        "x_session_id": "forged-value",
        "X-Session_Cookie": "forged-value",
    }
    answer = session.owner.ask(
        "GET", "/", SCRIPT, forged, Referer=f"https://{session.host}/_session/login?code=forged-value"
    )
    assert answer.status == 200
    (request,) = seen_by(session)
    assert "forged-value" not in request.text()
    assert not [name for name, _ in request.headers if name.startswith("x-session")]
    assert (request.get("x-forwarded-host"), request.get("x-forwarded-proto")) == (session.host, "https")
    assert "forged-value" not in "".join(each.text() for each in stage.manager.spy.seen)


def test_the_manager_sees_no_header_of_the_client_but_those_of_a_navigation(stage: Stage) -> None:
    session = stage.asleep()
    session.owner.open("/", X_Own="mine", Sec_Purpose="prefetch", Sec_Fetch_User="?1", User_Agent="agent/1")
    for request in stage.manager.spy.seen:
        allowed = {"accept", "connection", "host", "purpose", "sec-purpose", "x-request-id"}
        allowed |= {f"sec-fetch-{each}" for each in ("dest", "mode", "site", "user")}
        allowed |= {f"x-session-{each}" for each in ("cookie", "host", "id", "method", "state", "uri")}
        assert {name for name, _ in request.headers} <= allowed
        assert request.get("sec-purpose") == "prefetch"


def test_a_websocket_goes_both_ways(stage: Stage) -> None:
    session = stage.awake()
    connection, answer = session.owner.connect("/socket?x=1")
    with connection:
        assert answer.status == 101
        assert connection.say(b"hello", b"hello") == WEBSOCKET + b"hello"
    (request,) = seen_by(session)
    assert (request.get("upgrade"), request.get("connection")) == ("websocket", "upgrade")
    assert request.get("host") == session.host
    assert session.cookie not in request.text()


def test_nothing_else_is_upgraded(stage: Stage) -> None:
    """h2c would be a tunnel past every rule here."""
    session = stage.awake()
    session.owner.ask(
        "GET", "/", SCRIPT, Connection="Upgrade, HTTP2-Settings", Upgrade="h2c", HTTP2_Settings="AAMAAABk"
    )
    (request,) = seen_by(session)
    assert (request.get("upgrade"), request.get("connection")) == ("", "")


@pytest.mark.parametrize("status", [404, 500, 502, 503, 504])
def test_what_the_pod_says_goes_through(stage: Stage, status: int) -> None:
    def say(_: Request) -> Reply:
        return Reply(status, (("Content-Type", "text/x-own"),), b"by the pod")

    session = stage.awake(say)
    answer = session.owner.open()
    assert (answer.status, answer.body, answer.get("Content-Type")) == (status, b"by the pod", "text/x-own")
    assert stage.manager.asked("/router/asleep") == []


@pytest.mark.parametrize("status", [401, 403])
def test_a_refusal_of_the_pod_is_its_own(stage: Stage, status: int) -> None:
    session = stage.awake(lambda _: Reply(status, body=b"by the pod"))
    answer = session.owner.open()
    assert (answer.status, answer.body) == (status, b"by the pod")


@pytest.mark.parametrize(
    "target",
    [
        "/_session/internal/auth",
        "/_session/internal/pages/unavailable.html",
        "/_session/login",
        "/_session/internal/login.html",
        "@asleep",
    ],
)
def test_the_pod_cannot_send_nginx_elsewhere(stage: Stage, target: str) -> None:
    session = stage.awake(lambda _: Reply(200, (("X-Accel-Redirect", target),), b"by the pod"))
    answer = session.owner.open()
    assert (answer.status, answer.body) == (200, b"by the pod")
    assert answer.get("X-Accel-Redirect") == ""
    assert {request.path for request in stage.manager.spy.seen} == {"/router/auth"}


def test_cookies_of_the_pod_are_of_its_host_alone(stage: Stage) -> None:
    """Set for the whole domain they would go to every other session."""
    given = [
        "plain=1; Path=/; HttpOnly",
        "a=1; Domain=example.test; Path=/",
        "b=2; domain=.example.test; Secure",
        "c=3; Secure; DOMAIN=test",
        "d=4; Domain=example.test; Domain=.example.test",
        "=e5; Domain=example.test",
    ]
    session = stage.awake(lambda _: Reply(200, tuple(("Set-Cookie", each) for each in given)))
    cookies = session.owner.open().all("Set-Cookie")
    assert len(cookies) == len(given)
    assert cookies[0] == given[0]
    for cookie in cookies[1:]:
        domains = [part.partition("=")[2] for part in cookie.split("; ") if part.lower().startswith("domain")]
        assert set(domains) == {session.host}, cookie


def test_an_editor_is_framed_by_itself_only(stage: Stage) -> None:
    session = stage.awake(lambda _: Reply(200, (("Content-Security-Policy", "script-src 'self'"),)))
    assert session.owner.open().all("Content-Security-Policy") == ["script-src 'self'", "frame-ancestors 'self'"]


def test_an_upload_is_not_kept_on_the_way(stage: Stage) -> None:
    """It is as large as a user's files, and nginx has memory only."""
    session = stage.awake()
    pod = session.pod
    assert pod is not None
    length = {"Content-Length": "10", "Origin": f"https://{session.host}"}
    with Connection(stage.router.port) as connection:
        connection.socket.sendall(render("PUT", "/upload", session.owner.headers(length), b"half "))
        wait_for(lambda: pod.open_connections, "the pod has the half of it")
        assert connection.send(b"whole").status == 200
    assert seen_by(session)[0].body == b"half whole"
