"""Whether an editor answers: asked of honest ones, and of all that tenant code may be instead."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sessionctl.adapters import editor
from sessionctl.adapters.agent_http import ByteStream, TcpStream
from sessionctl.adapters.editor import HttpEditorProbe
from sessionctl.errors import ClusterError
from sessionctl.models import SessionId
from sessionctl.testing.editors import ScriptedEditors
from tests.support.tcp_server import HOST, TcpServer
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Callable

    from sessionctl.ports import EditorProbe

SESSION = SessionId("5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11")
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\n{}"


class Editor(TcpServer):
    """Reads a request and answers with bytes as they are, again and again while it is told to."""

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.answer = OK
        self.for_ever = False
        self.silent = False
        self.requests: list[str] = []

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        if self.silent:
            await asyncio.sleep(3600)
        writer.write(self.answer)
        while self.for_ever:
            writer.write(self.answer)
            await writer.drain()


@pytest_asyncio.fixture
async def tenant() -> AsyncIterator[Editor]:
    async with Editor() as started:
        yield started


def asking(port: int) -> HttpEditorProbe:
    async def dial(_: SessionId) -> ByteStream:
        return await TcpStream.connect(HOST, port)

    return HttpEditorProbe(dial)


class TestContract:
    """Of the port: the real probe, and the fake that the tests of the wake page use."""

    @pytest.fixture(params=["http", "scripted"])
    def says(self, request: pytest.FixtureRequest, tenant: Editor) -> Callable[[bool], EditorProbe]:
        def make(there: bool) -> EditorProbe:
            tenant.answer = OK if there else b"HTTP/1.1 503 Not Yet\r\n\r\n"
            scripted = ScriptedEditors()
            if there:
                scripted.open.add(SESSION)
            return scripted if request.param == "scripted" else asking(tenant.port)

        return make

    @pytest.mark.parametrize("there", [True, False])
    async def test_it_says_whether_the_editor_answers(self, says: Callable[[bool], EditorProbe], there: bool) -> None:
        assert await says(there).answers(SESSION) is there


async def test_the_question_carries_no_credential(tenant: Editor) -> None:
    assert await asking(tenant.port).answers(SESSION)
    (head,) = tenant.requests
    assert head.startswith("GET /healthz HTTP/1.1\r\n")
    assert "authorization" not in head.lower()
    assert "cookie" not in head.lower()


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 302 Found\r\nLocation: http://127.0.0.1:9/\r\nContent-Length: 0\r\n\r\n",
        b"HTTP/1.1 404 Not Found\r\nContent-Length: 0\r\n\r\n",
        b"SSH-2.0-OpenSSH_9.6\r\n",
        b"HTTP/1.1 200 OK\r\nContent-",
        b"\x00" * 65536,
        b"",
    ],
)
async def test_what_is_no_editor_is_none(tenant: Editor, answer: bytes) -> None:
    tenant.answer = answer
    assert not await asking(tenant.port).answers(SESSION)


@pytest.mark.parametrize("head", [b"HTTP/1.1 100 Continue\r\n\r\n", b"X" * 4096], ids=["heads", "a head"])
async def test_what_never_ends_is_given_up(tenant: Editor, monkeypatch: pytest.MonkeyPatch, head: bytes) -> None:
    monkeypatch.setattr(editor, "ANSWER_SECONDS", 5)
    tenant.answer, tenant.for_ever = head, True
    assert not await asyncio.wait_for(asking(tenant.port).answers(SESSION), 4)


async def test_what_is_silent_is_given_up(tenant: Editor, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editor, "ANSWER_SECONDS", 0.05)
    tenant.silent = True
    assert not await asking(tenant.port).answers(SESSION)


@pytest.mark.parametrize("error", [ConnectionRefusedError(), OSError("no such host"), ClusterError("no pod")])
async def test_nobody_there_is_no_error(error: Exception) -> None:
    async def dial(_: SessionId) -> ByteStream:
        raise error

    assert not await HttpEditorProbe(dial).answers(SESSION)


async def test_being_cancelled_is_not_swallowed_and_drops_the_connection(tenant: Editor) -> None:
    tenant.silent = True
    question = asyncio.create_task(asking(tenant.port).answers(SESSION))
    await until(lambda: tenant.requests, "it is asked")
    question.cancel()
    with pytest.raises(asyncio.CancelledError):
        await question
