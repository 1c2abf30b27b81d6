"""Which hosts are sessions', and what else can be said of a host or a path."""

from __future__ import annotations

from typing import TYPE_CHECKING

import pytest

from tests.router.stage import DOMAIN, seen_by
from tests.support.raw_http import NAVIGATION, Browser, Connection, render

if TYPE_CHECKING:
    from tests.router.stage import Session, Stage

STRANGE = {
    "the domain itself": f"{DOMAIN}",
    "no session": f"api.{DOMAIN}",
    "no uuid": f"vs-code-1.{DOMAIN}",
    "a uuid of another version": f"vs-code-3f1c2d4e-5b6a-1c7d-8e9f-0a1b2c3d4e5f.{DOMAIN}",
    "more before it": "x{host}",
    "a label before it": "x.{host}",
    "more behind it": "{host}x",
    "another domain behind it": "{host}.evil.test",
    "any character for a dot": "vs-code-{uuid}.exampleXtest",
    "another domain": "vs-code-{uuid}.evil.test",
    "no domain": "vs-code-{uuid}",
    "another name of a pod": "user-{uuid}.sessions.svc.cluster.local",
    "a uuid with more": f"vs-code-{{uuid}}.attacker.{DOMAIN}",
    "no name at all": "127.0.0.1",
}
BROKEN = {
    "an empty one": "",
    "a user before it": "x@{host}",
    "a path in it": "{host}/..",
    "a space": "{host} evil.test",
    "a backslash": "{host}\\evil",
    "a zero": "{host}\0",
}
SAME = {"upper case": "{HOST}", "a port": "{host}:8443", "a dot at the end": "{host}."}


def _fill(template: str, session: Session) -> str:
    found = template.replace("{host}", session.host).replace("{uuid}", session.session_id)
    return found.replace("{HOST}", session.host.upper())


@pytest.mark.parametrize("case", STRANGE)
def test_a_host_that_is_not_ours_is_nobody(stage: Stage, case: str) -> None:
    session = stage.awake()
    browser = Browser(stage.router.port, _fill(STRANGE[case], session), session.owner.cookie)
    answer = browser.open("/")
    assert answer.status == 404
    assert stage.manager.spy.seen == seen_by(session) == []


@pytest.mark.parametrize("case", BROKEN)
def test_what_is_no_host_is_an_error(stage: Stage, case: str) -> None:
    session = stage.awake()
    answer = Browser(stage.router.port, _fill(BROKEN[case], session), session.owner.cookie).open("/")
    assert answer.status in {400, 404}
    assert stage.manager.spy.seen == seen_by(session) == []


@pytest.mark.parametrize("case", SAME)
def test_a_host_may_be_written_otherwise(stage: Stage, case: str) -> None:
    """And is told to others as it should be written."""
    session = stage.awake()
    browser = Browser(stage.router.port, _fill(SAME[case], session), session.owner.cookie)
    assert browser.open("/").status == 200
    assert seen_by(session)[0].get("host") == session.host
    assert stage.manager.spy.seen[0].get("x-session-host") == session.host


def test_two_hosts_are_an_error(stage: Stage) -> None:
    first, second = stage.awake(), stage.awake()
    headers = [("Host", first.host), ("Host", second.host), ("Cookie", first.owner.cookie)]
    with Connection(stage.router.port) as connection:
        assert connection.send(render("GET", "/", headers)).status == 400
    assert stage.manager.spy.seen == []


def test_the_host_of_the_request_line_counts_everywhere(stage: Stage) -> None:
    """It overrides the header; a check of one and a routing by the other would open every session to every cookie."""
    mine, theirs = stage.awake(), stage.awake()
    answer = mine.owner.ask("GET", f"http://{theirs.host}/", NAVIGATION)
    assert answer.status == 401
    assert seen_by(theirs) == seen_by(mine) == []
    answer = theirs.stranger.ask("GET", f"http://{mine.host}/", NAVIGATION, Cookie=mine.owner.cookie)
    assert answer.status == 200
    (request,) = seen_by(mine)
    assert request.get("host") == mine.host
    assert request.get("x-forwarded-host") == mine.host
    assert {each.get("x-session-host") for each in stage.manager.spy.seen} == {theirs.host, mine.host}


@pytest.mark.parametrize(
    "target",
    [
        "/../../router/auth",
        "/..%2f..%2frouter/auth",
        "/%2e%2e/x",
        "//evil.test/x",
        "/router/auth",
        "/a%00b",
        "/;/x",
        "/a?b=/../..",
    ],
)
def test_a_path_leads_nowhere_else(stage: Stage, target: str) -> None:
    session = stage.awake()
    answer = session.owner.ask("GET", target, NAVIGATION)
    assert answer.status in {200, 400}
    assert {request.path for request in stage.manager.spy.seen} <= {"/router/auth"}
    assert [request.target for request in seen_by(session)] == ([target] if answer.status == 200 else [])


def test_one_request_is_not_two(stage: Stage) -> None:
    """Lengths that two servers would read differently are refused."""
    session = stage.awake()
    smuggled = b"0\r\n\r\nGET /smuggled HTTP/1.1\r\nHost: x\r\n\r\n"
    both = {"Content-Length": str(len(smuggled)), "Transfer-Encoding": "chunked", "Origin": f"https://{session.host}"}
    with Connection(stage.router.port) as connection:
        connection.send(render("POST", "/", session.owner.headers(both), smuggled), "POST")
    assert "/smuggled" not in {request.target for request in seen_by(session)}


@pytest.mark.parametrize("method", ["TRACE", "CONNECT"])
def test_no_echo_and_no_tunnel(stage: Stage, method: str) -> None:
    session = stage.awake()
    target = "/" if method == "TRACE" else f"{session.host}:443"
    assert session.owner.ask(method, target, Origin=f"https://{session.host}").status in {400, 405}
    assert seen_by(session) == []
