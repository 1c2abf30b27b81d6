"""Many at once: what nobody is signed in for costs nobody anything, and sessions leave nothing behind in the router."""

from __future__ import annotations

import signal
from typing import TYPE_CHECKING, Final
from uuid import uuid4

from tests.router.stage import DOMAIN, seen_by
from tests.support.raw_http import NAVIGATION, SCRIPT, WEBSOCKET, Browser, Connection, render
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Mapping

    from tests.router.stage import Stage

CROWD: Final = 10_000
HOSTS: Final = 1_000
GROWTH_KIB: Final = 8 * 1024
"""Of a worker: its share of the shared memory that holds answers is mapped as it is used."""

UNASKED: Final[list[tuple[str, Mapping[str, str]]]] = [
    ("GET", NAVIGATION),
    ("GET", SCRIPT),
    ("POST", SCRIPT),
    ("HEAD", NAVIGATION),
    ("GET", NAVIGATION | {"Sec-Purpose": "prefetch"}),
    ("GET", WEBSOCKET),
    ("GET", {}),
    ("OPTIONS", SCRIPT),
]


def test_strangers_wake_nothing_and_reach_nobody(stage: Stage) -> None:
    asleep, awake = stage.asleep(), stage.awake()
    statuses = set()
    for session in (asleep, awake):
        origin = {"Origin": f"https://{session.host}"}
        requests = [
            (
                method,
                render(
                    method,
                    "/",
                    session.stranger.headers(headers, origin if method == "POST" or "Upgrade" in headers else {}),
                ),
            )
            for method, headers in UNASKED
        ]
        done = 0
        while done < CROWD // 2:
            with Connection(stage.router.port) as connection:
                for _ in range(100):
                    method, raw = requests[done % len(requests)]
                    statuses.add(connection.send(raw, method).status)
                    done += 1
    assert statuses == {401}
    assert stage.manager.spy.seen == seen_by(awake) == []


def test_sessions_leave_nothing_behind(stage: Stage) -> None:
    """Neither in memory nor in the configuration, which is the same for one and for all."""
    workers, configuration = stage.router.workers(), stage.router.configuration

    def visit(count: int) -> None:
        for _ in range(count // 100):
            with Connection(stage.router.port) as connection:
                for _ in range(100):
                    # Each knows no Service, and each is asked for with a cookie.
                    session = stage.unknown()
                    assert connection.send(render("GET", "/", session.owner.headers(NAVIGATION))).status == 503

    visit(300)
    before = stage.router.resident_kib()
    visit(HOSTS)
    assert stage.router.resident_kib() - before < GROWTH_KIB
    assert (stage.router.workers(), stage.router.configuration) == (workers, configuration)


def test_a_router_that_is_told_to_end_lets_editors_go_on(stage: Stage) -> None:
    session = stage.awake()
    connection, answer = session.owner.connect()
    with connection:
        assert answer.status == 101
        old = set(stage.router.workers())
        # What a rollout does, as far as one nginx can show it: other workers take over, these go on with what is open.
        stage.router.signal(signal.SIGHUP)
        wait_for(lambda: set(stage.router.workers()) - old, "new workers")
        assert connection.say(b"still here", b"still here").endswith(b"still here")
    assert session.owner.open().status == 200


def test_health_is_nobodys_business_but_its_own(stage: Stage) -> None:
    stage.manager.spy.stop()
    assert Browser(stage.router.health_port, "10.0.0.1").ask("GET", "/healthz").status == 200
    assert Browser(stage.router.health_port, f"vs-code-{uuid4()}.{DOMAIN}").ask("GET", "/").status == 404
    assert Browser(stage.router.port, "10.0.0.1").ask("GET", "/healthz").status == 404
