"""What keeps a real workspace awake, and what does not for ever; a sweep asks its agent, as the managers' sweeps do."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import suppress
from typing import Any, Final

import pytest

from tests.node.workspaces import Workspaces
from tests.support.waiting import CALM_POLL_SECONDS, wait_for
from tools.localcluster import ClusterError, LocalCluster

SHORT: Final = {"SESSIONCTL_IDLE__TIMEOUT": "1s", "SESSIONCTL_IDLE__TOUCH_INTERVAL": "1ms"}
CONNECTION: Final = {"SESSIONCTL_IDLE__EDITOR": "connection"}
WAITING: Final = "activity-waiting"
# What runs goes on until there is the file.
_UNTIL: Final = "until test -e /workspace/go; do sleep 0.1; done"
_TYPE: Final = f"{_UNTIL.replace('sleep', 'curl -sfX POST http://127.0.0.1:8081/v1/editor/input; sleep')}"
_ASK: Final = """
curl -s -H "Authorization: Bearer $(cat /run/secrets/sessionctl/token)" http://127.0.0.1:8081/v1/activity
"""
_OPEN_EDITOR: Final = """
import os, socket, time
def connect():
    while True:
        try:
            return socket.create_connection(("127.0.0.1", 8080))
        except ConnectionRefusedError:
            time.sleep(0.1)
tab = connect()
while not os.path.exists("/workspace/go"):
    time.sleep(0.1)
"""


class Watched:
    """A session with a short idle timeout, whose sweeps are ours."""

    def __init__(self, workspaces: Workspaces, uuid: str) -> None:
        self.uuid = uuid
        self._workspaces = workspaces
        self._aside = ThreadPoolExecutor()
        self._started: list[Future[Any]] = []

    def start(self, *argv: str) -> None:
        """Run a program inside, which goes on until it is let go or the pod ends."""
        self._started.append(self._aside.submit(self._workspaces.execute, self.uuid, *argv))

    def say(self, message: str) -> None:
        """Send a message whose reply takes as long."""
        self._started.append(self._aside.submit(self._workspaces.say, self.uuid, "m1", message))

    def until_seen(self, what: str) -> None:
        """Wait until the agent tells of it: what has not begun yet keeps nobody awake."""
        wait_for(
            lambda: json.loads(self._workspaces.execute(self.uuid, "sh", "-c", _ASK))[what],
            f"{what} is seen",
            pause=CALM_POLL_SECONDS,
        )

    def let_go(self) -> None:
        """Let what was started end, and wait until it has."""
        self._workspaces.execute(self.uuid, "touch", "/workspace/go")
        for future in self._started:
            future.result()

    def is_kept_by_work(self, **settings: str) -> None:
        """Sweep until the agent has told of work that is younger than all that was known."""

        def last_active() -> str:
            return str(self._workspaces.status(self.uuid)["session"]["last_active"])

        def younger() -> bool:
            report = self._workspaces.sweep(**SHORT, **settings)
            assert self.uuid not in report["slept"]
            return last_active() > before

        before = last_active()
        wait_for(younger, "its agent tells of work")
        before = last_active()
        wait_for(younger, "and again, an idle timeout later")

    def sleeps(self, **settings: str) -> None:
        """Sweep until it sleeps."""
        wait_for(lambda: self.uuid in self._workspaces.sweep(**SHORT, **settings)["slept"], "it sleeps")

    def events(self) -> str:
        """What is told of it."""
        return self._workspaces.cluster.redis_cli("XRANGE", f"events:{self.uuid}", "-", "+")

    def close(self) -> None:
        for future in self._started:
            # The end of its pod ends it.
            with suppress(ClusterError):
                future.result()
        self._aside.shutdown()


@pytest.fixture(scope="module")
def workspaces(bare: LocalCluster) -> Iterator[Workspaces]:
    """The session of this file, whose agent's replies take until they are let go."""
    agent = {"agent": {"kind": "command", "command": ["sh", "-c", f"cat; {_UNTIL}"]}}
    profiles = ("-n", "sessionctl", "patch", "configmap", "sessionctl-profiles", "--type=merge", "-p")
    name = f"{WAITING}.yaml.j2"
    bare.kubectl(*profiles, json.dumps({"data": {name: json.dumps(agent)}}))
    with Workspaces.on(bare) as found:
        yield found
    bare.kubectl(*profiles, json.dumps({"data": {name: None}}))


@pytest.fixture(scope="module")
def shared(workspaces: Workspaces) -> str:
    """That session."""
    return workspaces.create(WAITING)


@pytest.fixture
def watched(workspaces: Workspaces, shared: str) -> Iterator[Watched]:
    """That session, awake; it sleeps after the test, which proves that nothing else keeps it awake."""
    workspaces.wake(shared)
    workspaces.execute(shared, "rm", "-f", "/workspace/go")
    found = Watched(workspaces, shared)
    yield found
    wait_for(lambda: not workspaces.pods(shared), "its pod is gone")
    found.close()


def test_a_long_reply_keeps_it_awake(watched: Watched) -> None:
    watched.say("think")
    watched.until_seen("message_running")
    watched.is_kept_by_work()
    watched.let_go()
    watched.sleeps()


def test_a_hold_keeps_it_awake_and_a_forgotten_one_does_not_beyond_its_limit(watched: Watched) -> None:
    watched.start("sessionctl-agent", "hold", "--", "sleep", "infinity")
    watched.until_seen("hold")
    watched.is_kept_by_work()
    watched.sleeps(SESSIONCTL_IDLE__HOLD_LIMIT="1s")
    assert "hold-limit" in watched.events()


def test_typing_keeps_it_awake(watched: Watched) -> None:
    watched.start("sh", "-c", _TYPE)
    watched.until_seen("editor_input")
    watched.is_kept_by_work()
    watched.let_go()
    watched.sleeps()


def test_an_open_editor_does_where_it_is_said_to_and_not_beyond_its_limit(watched: Watched) -> None:
    watched.start("python3", "-c", _OPEN_EDITOR)
    watched.until_seen("editor_connected")
    watched.is_kept_by_work(**CONNECTION)
    watched.sleeps(**CONNECTION, SESSIONCTL_IDLE__EDITOR_LIMIT="1s")
    assert "editor-limit" in watched.events()
