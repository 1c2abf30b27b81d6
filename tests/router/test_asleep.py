"""What happens at the door of a session whose pod is not there."""

from __future__ import annotations

import threading
from typing import TYPE_CHECKING

import pytest

from tests.router.stage import WAKE_PAGE, seen_by
from tests.support.raw_http import NAVIGATION, SCRIPT
from tests.support.spies import Reply, Request
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from tests.router.stage import Stage
    from tests.support.spies import Answering


def _saying(replies: dict[str, Reply]) -> Answering:
    def answer(request: Request) -> Reply:
        return replies[request.path]

    return answer


@pytest.mark.parametrize("known", [True, False], ids=["nothing listens", "no such name"])
def test_who_is_signed_in_and_opens_it_gets_the_wake_page(stage: Stage, known: bool) -> None:
    session = stage.asleep() if known else stage.unknown()
    answer = session.owner.open("/folder?x=1")
    assert (answer.status, answer.text, answer.get("Retry-After")) == (503, WAKE_PAGE, "2")
    assert answer.get("Cache-Control") == "no-store"
    assert stage.manager.woken == [session.session_id]
    (asked,) = stage.manager.asked("/router/asleep")
    assert (asked.method, asked.target) == ("GET", "/router/asleep")
    assert asked.get("x-session-uri") == "/folder?x=1"
    assert asked.get("x-session-cookie") == session.cookie


@pytest.mark.parametrize("method", ["POST", "PUT", "DELETE", "HEAD", "OPTIONS", "PATCH", "PROPFIND"])
def test_the_manager_hears_which_method_it_was(stage: Stage, method: str) -> None:
    session = stage.asleep()
    body = b"x" * 100_000 if method in {"POST", "PUT", "PATCH"} else b""
    answer = session.owner.ask(method, "/", SCRIPT, body=body, Origin=f"https://{session.host}")
    assert answer.status == 503
    (asked,) = stage.manager.asked("/router/asleep")
    assert (asked.method, asked.get("x-session-method"), asked.body) == ("GET", method, b"")
    assert stage.manager.woken == []


@pytest.mark.parametrize("headers", [SCRIPT, NAVIGATION | {"Sec-Purpose": "prefetch;prerender"}, {"Accept": "*/*"}])
def test_the_manager_hears_what_tells_a_person_from_a_script(stage: Stage, headers: dict[str, str]) -> None:
    session = stage.asleep()
    assert session.owner.ask("GET", "/", headers).status == 503
    (asked,) = stage.manager.asked("/router/asleep")
    assert {name: asked.get(name) for name in headers} == headers
    assert stage.manager.woken == []


def test_a_stranger_does_not_get_that_far(stage: Stage) -> None:
    session = stage.asleep()
    assert session.stranger.open().status == 401
    assert session.stranger.open(Cookie="__Host-session=made-up-by-somebody").status == 401
    assert [request.path for request in stage.manager.spy.seen] == ["/router/auth"]


def test_without_a_manager_there_is_a_page_that_says_so(stage: Stage) -> None:
    """Also for somebody whose cookie is still believed."""
    session = stage.asleep()
    assert session.owner.open().text == WAKE_PAGE
    stage.manager.spy.stop()
    page = session.owner.open()
    assert (page.status, page.is_page) == (503, True)
    assert "Your files are safe" in page.text
    assert session.owner.fetch("/").get("Content-Type") == "application/problem+json"
    assert session.owner.fetch("/", "POST", b"x", Origin=f"https://{session.host}").status == 503


def test_what_the_manager_says_goes_through(stage: Stage) -> None:
    """Its own 503 too: it is the wake page."""
    session = stage.asleep()
    for status in (404, 409, 500, 503):
        replies = {"/router/auth": Reply(204), "/router/asleep": Reply(status, body=b"by the manager")}
        stage.manager.spy.answering = _saying(replies)
        answer = session.owner.open()
        assert (answer.status, answer.body) == (status, b"by the manager")


def test_an_editor_is_there_as_soon_as_it_listens(stage: Stage) -> None:
    session = stage.awake()
    pod = session.pod
    assert pod is not None
    pod.stop()
    assert session.owner.open().text == WAKE_PAGE
    pod.start()
    assert session.owner.open().status == 200
    assert len(seen_by(session)) == 1


def test_a_pod_that_goes_in_the_middle_is_asleep(stage: Stage) -> None:
    session = stage.awake(lambda _: None)
    pod = session.pod
    assert pod is not None

    def gone() -> None:
        wait_for(lambda: pod.seen, "the pod has the request")
        pod.stop()

    thread = threading.Thread(target=gone)
    thread.start()
    answer = session.owner.open()
    thread.join()
    assert answer.text == WAKE_PAGE
    assert len(pod.seen) == 1
