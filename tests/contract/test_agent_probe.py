"""What the sweeper hears of agents: honest ones, and all that tenant code may answer instead."""

from __future__ import annotations

import asyncio
import json
import logging
import time
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sessionctl.adapters import agent
from sessionctl.adapters.agent import AgentProbe
from sessionctl.adapters.agent_http import ByteStream, TcpStream
from sessionctl.adapters.cluster.client import KubernetesClient
from sessionctl.adapters.cluster.portforward import PodPort, PortForwarder
from sessionctl.adapters.probe import SilentWorkspaceProbe
from sessionctl.models import Activity, Owner, SessionId, Workspace
from sessionctl.testing.probe import ScriptedProbe
from tests.support.api_server import ApiServer
from tests.support.tcp_server import HOST, TcpServer

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable
    from pathlib import Path

    from sessionctl.ports import ActivityProbe

SESSION = SessionId("5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11")
WORKSPACE = Workspace(SESSION, Owner("u", "default", "default", datetime(2026, 1, 1, tzinfo=UTC)), replicas=1)
BUSY = Activity(
    message_running=True,
    hold=timedelta(seconds=1.5),
    editor_input=timedelta(0),
    editor_connected=timedelta(hours=3),
)
DEADLINE = 0.5


class Agent(TcpServer):
    """Reads a request and answers with bytes as they are.

    Attributes:
        requests: The heads it was sent.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.answer: bytes = b""
        self.drip_seconds: float | None = None
        self.again = 0
        self.requests: list[str] = []

    def says(self, document: object, status: str = "200 OK") -> None:
        self.answer = plain(json.dumps(document), status)

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self.drip_seconds is not None:
            for byte in self.answer:
                writer.write(bytes([byte]))
                await writer.drain()
                await asyncio.sleep(self.drip_seconds)
        writer.write(self.answer)
        for _ in range(self.again):
            writer.write(self.answer)
            await writer.drain()


def plain(body: str, status: str = "200 OK") -> bytes:
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(body.encode())}\r\n\r\n{body}".encode()


def as_said(activity: Activity) -> dict[str, object]:
    def seconds(age: timedelta | None) -> float | None:
        return None if age is None else age.total_seconds()

    return {
        "message_running": activity.message_running,
        "hold": seconds(activity.hold),
        "editor_input": seconds(activity.editor_input),
        "editor_connected": seconds(activity.editor_connected),
    }


@pytest_asyncio.fixture
async def tenant() -> AsyncIterator[Agent]:
    async with Agent() as started:
        yield started


def direct(tenant: Agent) -> AgentProbe:
    async def dial(_: SessionId) -> ByteStream:
        return await TcpStream.connect(HOST, tenant.port)

    return AgentProbe(dial, lambda session_id: [f"token-of-{session_id}"])


@pytest.fixture
def probe(tenant: Agent, monkeypatch: pytest.MonkeyPatch) -> AgentProbe:
    monkeypatch.setattr(agent, "ANSWER_SECONDS", DEADLINE)
    return direct(tenant)


@pytest_asyncio.fixture
async def forwarder(tmp_path: Path) -> AsyncIterator[tuple[ApiServer, PortForwarder]]:
    async with ApiServer() as api, await KubernetesClient.connect(api.write_kubeconfig(tmp_path, {}), None) as client:
        yield api, PortForwarder(client)


class TestContract:
    """Of the port: the real probe on both ways to an agent, and the fake that the sweeper's tests use."""

    @pytest.fixture(params=["direct", "port-forward", "scripted"])
    def says(
        self, request: pytest.FixtureRequest, tenant: Agent, forwarder: tuple[ApiServer, PortForwarder]
    ) -> Callable[[Activity | None], ActivityProbe]:
        async def dial(session_id: SessionId) -> ByteStream:
            api, real = forwarder
            api.add_pod("sessions", "pod", {"uuid": session_id}, p8081=tenant.port)
            return await real.open(PodPort("sessions", f"uuid={session_id}", 8081))

        def make(activity: Activity | None) -> ActivityProbe:
            if activity is None:
                tenant.says({}, "503 Not Yet")
            else:
                tenant.says(as_said(activity))
            if request.param == "scripted":
                return ScriptedProbe(activity)
            return direct(tenant) if request.param == "direct" else AgentProbe(dial, lambda _: ["token"])

        return make

    @pytest.mark.parametrize("activity", [Activity(), BUSY, None], ids=["idle", "busy", "silent"])
    async def test_the_answer_is_the_agents(
        self, says: Callable[[Activity | None], ActivityProbe], activity: Activity | None
    ) -> None:
        assert await says(activity).ask(WORKSPACE) == activity

    async def test_one_that_asks_nobody_says_idle(self) -> None:
        assert await SilentWorkspaceProbe().ask(WORKSPACE) == Activity()


async def test_the_question_carries_the_sessions_own_token(tenant: Agent, probe: AgentProbe) -> None:
    tenant.says(as_said(BUSY) | {"something_newer": [1]})
    assert await probe.ask(WORKSPACE) == BUSY
    (head,) = tenant.requests
    assert head.startswith("GET /v1/activity HTTP/1.1\r\n")
    assert f"authorization: bearer token-of-{SESSION}\r\n" in head.lower()


async def test_a_pod_that_was_started_with_the_key_before_is_asked_with_it(tenant: Agent) -> None:
    async def dial(_: SessionId) -> ByteStream:
        tenant.answer = plain(GOOD) if tenant.requests else plain("{}", "401 Unauthorized")
        return await TcpStream.connect(HOST, tenant.port)

    assert await AgentProbe(dial, lambda _: ["new", "before"]).ask(WORKSPACE) == BUSY
    assert ["new" in tenant.requests[0].lower(), "bearer before\r" in tenant.requests[1].lower()] == [True, True]


async def test_a_proxy_of_the_environment_does_not_get_the_token(
    tenant: Agent, probe: AgentProbe, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("http_proxy", "http://127.0.0.1:9")
    tenant.says(as_said(BUSY))
    assert await probe.ask(WORKSPACE) == BUSY


GOOD = json.dumps(as_said(BUSY))
HOSTILE = {
    "unauthorized": plain(GOOD, "401 Unauthorized"),
    "redirect": plain(GOOD, "302 Found").replace(b"Content-Length", b"Location: http://127.0.0.1:9/\r\nContent-Length"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n",
    "nothing": b"",
    "cut in the head": b"HTTP/1.1 200 OK\r\nContent-",
    "cut in the body": plain(GOOD)[:-3],
    "not json": plain("{"),
    "not utf-8": plain("x").replace(b"x", b"\xff"),
    "a list": plain("[]"),
    "null": plain("null"),
    "an empty object": plain("{}"),
    "deep": plain("[" * 20000),
    "a word for a number": plain('{"message_running": false, "hold": "12"}'),
    "a number for a flag": plain('{"message_running": 1}'),
    "a flag for a number": plain('{"message_running": false, "hold": true}'),
    "negative": plain('{"message_running": false, "editor_input": -0.001}'),
    "not a number": plain('{"message_running": false, "editor_input": NaN}'),
    "infinite": plain('{"message_running": false, "editor_input": Infinity}'),
    "beyond every age": plain('{"message_running": false, "editor_input": 1e300}'),
    "long": plain(json.dumps({"message_running": False, "x": "y" * 70_000})),
    "long head": b"HTTP/1.1 200 OK\r\n" + b"a: b\r\n" * 12_000 + b"\r\n",
    "head without an end": b"HTTP/1.1 200 OK\r\na: " + b"b" * 60_000,
    "crumbs": b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + b"1\r\n1\r\n" * 10_000 + b"0\r\n\r\n",
    "wait for it": b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000 + plain(GOOD),
    "switching": b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
}


@pytest.mark.parametrize("answer", HOSTILE.values(), ids=HOSTILE.keys())
async def test_whatever_else_is_no_answer(
    tenant: Agent, probe: AgentProbe, answer: bytes, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG, logger="sessionctl")
    tenant.answer = answer
    assert await probe.ask(WORKSPACE) is None
    (line,) = caplog.records
    assert line.levelno == logging.DEBUG
    assert line.__dict__["session"] == SESSION
    assert len(line.getMessage()) < 100


async def test_a_body_without_an_end_is_cut_off(tenant: Agent, probe: AgentProbe) -> None:
    """A gigabyte, if anybody took it."""
    tenant.answer = b"HTTP/1.1 200 OK\r\n\r\n" + b" " * 65_536
    tenant.again = 16_384
    began = time.monotonic()
    assert await probe.ask(WORKSPACE) is None
    assert time.monotonic() - began < DEADLINE


async def test_a_slow_drip_is_cut_off(tenant: Agent, probe: AgentProbe) -> None:
    tenant.says(as_said(BUSY))
    tenant.drip_seconds = 0.05
    began = time.monotonic()
    assert await probe.ask(WORKSPACE) is None
    assert DEADLINE <= time.monotonic() - began < 2 * DEADLINE


async def test_nobody_there(probe: AgentProbe, tenant: Agent) -> None:
    tenant._server.close()
    assert await probe.ask(WORKSPACE) is None


async def test_no_pod_and_no_api_server(forwarder: tuple[ApiServer, PortForwarder]) -> None:
    api, real = forwarder

    async def dial(session_id: SessionId) -> ByteStream:
        return await real.open(PodPort("sessions", f"uuid={session_id}", 8081))

    probe = AgentProbe(dial, lambda _: ["token"])
    assert await probe.ask(WORKSPACE) is None
    api.add_pod("sessions", "pod", {"uuid": SESSION}, p8081=0)
    assert await probe.ask(WORKSPACE) is None
    api._server.close()
    await api.cut()
    assert await probe.ask(WORKSPACE) is None


async def test_being_cancelled_is_no_answer_either(tenant: Agent, probe: AgentProbe) -> None:
    tenant.says(as_said(BUSY))
    tenant.drip_seconds = 0.05
    asking = asyncio.create_task(probe.ask(WORKSPACE))
    await asyncio.sleep(0.05)
    asking.cancel()
    with pytest.raises(asyncio.CancelledError):
        await asking
