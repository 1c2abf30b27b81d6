"""Chats with agents: what the port promises, of a real agent and of the fake; and what tenant code may do instead."""

from __future__ import annotations

import asyncio
import json
import shutil
from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from datetime import timedelta
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from sessionctl.adapters import agents as adapter
from sessionctl.adapters.agent_http import ByteStream, TcpStream
from sessionctl.adapters.agent_lines import MAX_REASON_CHARACTERS
from sessionctl.adapters.agents import HttpAgents
from sessionctl.errors import AgentError, UnavailableError
from sessionctl.models import AgentMessage, MessageOutcome, Progress, ReplyDelta, ReplyEnd, SessionId
from sessionctl.ports import Agents
from sessionctl.testing.agents import FakeAgents
from sessionctl.wire import MAX_LINE_BYTES
from tests.agent.process import TOKEN, AgentProcess
from tests.agent.process import Agents as Processes
from tests.support.tcp_server import HOST, TcpServer
from tests.support.waiting import until

SESSION = SessionId("5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11")
WORDS = "one two three"
NOTHING = Progress()
PATIENT = timedelta(seconds=30)
SHORT = timedelta(seconds=0.5)

Line = ReplyDelta | ReplyEnd


def asks(text: str = WORDS, message_id: str = "m1", resume: Progress = NOTHING, *, begun: bool = False) -> AgentMessage:
    return AgentMessage(SESSION, message_id, text, "alice", resume=resume, begun=begun)


async def answer(agents: Agents, message: AgentMessage) -> list[Line]:
    async with agents.send(message) as lines:
        return [line async for line in lines]


def words(lines: list[Line]) -> list[str]:
    return [line.text for line in lines if isinstance(line, ReplyDelta)]


def end(lines: list[Line]) -> tuple[int, int, MessageOutcome]:
    last = lines[-1]
    assert isinstance(last, ReplyEnd)
    return last.attempt, last.seq, last.outcome


class Stage(Protocol):
    """A session's agent of the kind ``command``, whose words but the first come when gates are opened."""

    agents: Agents

    def open_gates(self, *numbers: int) -> None: ...

    async def restart(self, *, with_files: bool = False) -> None: ...

    async def end(self) -> None: ...


class RealStage:
    def __init__(self, folder: Path) -> None:
        self._processes = Processes(folder)
        self._take(self._processes.staged("gated-command"))
        self.agents: Agents = HttpAgents(self._dial, lambda _: TOKEN, PATIENT)

    async def _dial(self, _: SessionId) -> ByteStream:
        return await TcpStream.connect(HOST, self._port)

    def _take(self, process: AgentProcess) -> None:
        self._process = process.ready()
        self._port = process.port

    def open_gates(self, *numbers: int) -> None:
        for number in numbers:
            self._processes.open_gate(number)

    async def restart(self, *, with_files: bool = False) -> None:
        await self.end()
        if with_files:
            shutil.rmtree(self._processes.workspace)
            self._processes.workspace.mkdir()
        await asyncio.to_thread(self._take, self._processes.staged("gated-command"))

    async def end(self) -> None:
        self._process.kill()

    def close(self) -> None:
        self._processes.close()


class FakeStage:
    def __init__(self) -> None:
        self._gates: dict[int, asyncio.Event] = {}
        self._fake = FakeAgents(self._reply, repeatable=False)
        self.agents: Agents = self._fake

    async def _reply(self, message: str) -> AsyncGenerator[str, None]:
        for number, word in enumerate(message.split()):
            if number:
                await self._gates.setdefault(number, asyncio.Event()).wait()
            yield word

    def open_gates(self, *numbers: int) -> None:
        for number in numbers:
            self._gates.setdefault(number, asyncio.Event()).set()

    async def restart(self, *, with_files: bool = False) -> None:
        await self._fake.kill(SESSION, with_files=with_files)
        self._fake.away.discard(SESSION)

    async def end(self) -> None:
        self._fake.away.add(SESSION)
        await self._fake.kill(SESSION)

    async def close(self) -> None:
        await self._fake.close()


class TestContract:
    @pytest_asyncio.fixture(params=["real", "fake"])
    async def stage(self, request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[Stage]:
        if request.param == "real":
            real = RealStage(tmp_path)
            yield real
            real.close()
        else:
            fake = FakeStage()
            yield fake
            await fake.close()

    async def test_a_message_is_answered_once_and_repeated_from_where_it_is_wanted(self, stage: Stage) -> None:
        stage.open_gates(1, 2)
        first = await answer(stage.agents, asks())
        assert first == [
            ReplyDelta(1, 1, "one"),
            ReplyDelta(1, 2, "two"),
            ReplyDelta(1, 3, "three"),
            ReplyEnd(1, 4, MessageOutcome.DONE),
        ]
        assert await answer(stage.agents, asks()) == first
        assert await answer(stage.agents, asks(resume=Progress(1, 2), begun=True)) == first[2:]
        with pytest.raises(AgentError):
            await answer(stage.agents, asks("another text"))

    async def test_whoever_comes_later_joins_and_another_message_waits(self, stage: Stage) -> None:
        async with stage.agents.send(asks()) as lines:
            assert await anext(lines) == ReplyDelta(1, 1, "one")
            with pytest.raises(UnavailableError):
                await answer(stage.agents, asks(message_id="m2"))
            async with stage.agents.send(asks(resume=Progress(1, 1))) as more:
                stage.open_gates(1, 2)
                assert [line async for line in more] == [line async for line in lines]

    async def test_a_running_message_is_cancelled_and_says_so(self, stage: Stage) -> None:
        assert not await stage.agents.cancel(SESSION, "unknown")
        async with stage.agents.send(asks()) as lines:
            assert await anext(lines) == ReplyDelta(1, 1, "one")
            assert await stage.agents.cancel(SESSION, "m1")
            assert end([line async for line in lines]) == (1, 2, MessageOutcome.CANCELLED)
        # The same once more changes nothing.
        assert await stage.agents.cancel(SESSION, "m1")
        assert end(await answer(stage.agents, asks())) == (1, 2, MessageOutcome.CANCELLED)

    async def test_a_death_cuts_the_answer_off_and_the_same_again_has_its_end(self, stage: Stage) -> None:
        async with stage.agents.send(asks()) as lines:
            assert await anext(lines) == ReplyDelta(1, 1, "one")
            await stage.end()
            with pytest.raises(UnavailableError):
                await anext(lines)
        with pytest.raises(UnavailableError):
            await answer(stage.agents, asks())
        with pytest.raises(UnavailableError):
            await stage.agents.cancel(SESSION, "m1")
        await stage.restart()
        assert end(await answer(stage.agents, asks(resume=Progress(1, 1)))) == (1, 2, MessageOutcome.INTERRUPTED)

    async def test_what_was_begun_is_not_begun_again_where_its_files_are_lost(self, stage: Stage) -> None:
        stage.open_gates(1, 2)
        await answer(stage.agents, asks())
        await stage.restart(with_files=True)
        assert end(await answer(stage.agents, asks(resume=Progress(1, 2), begun=True))) == (
            1,
            3,
            MessageOutcome.INTERRUPTED,
        )
        assert end(await answer(stage.agents, asks(message_id="m2", begun=True))) == (1, 1, MessageOutcome.INTERRUPTED)

    async def test_the_conversation_comes_in_pages(self, stage: Stage) -> None:
        stage.open_gates(1, 2)
        for number in range(3):
            await answer(stage.agents, asks(f"{number} b", f"m{number}"))
        newest = await stage.agents.read_conversation(SESSION, None, 2)
        assert [(entry.message_id, entry.message, entry.reply) for entry in newest.entries] == [
            ("m1", "1 b", "1b"),
            ("m2", "2 b", "2b"),
        ]
        assert {(entry.outcome, entry.running) for entry in newest.entries} == {(MessageOutcome.DONE, False)}
        oldest = await stage.agents.read_conversation(SESSION, newest.cursor, 2)
        assert ([entry.message_id for entry in oldest.entries], oldest.cursor) == (["m0"], None)


Behaviour = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]


class Tenant(TcpServer):
    """Does as it likes with each connection.

    Attributes:
        requests: The heads it was sent.
    """

    def __init__(self) -> None:
        super().__init__(self._answer)
        self.does: Behaviour = says(b"")
        self.requests: list[str] = []
        self.charged = 0

    async def _answer(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.requests.append((await reader.readuntil(b"\r\n\r\n")).decode())
        await self.does(reader, writer)

    def agents(self, silence: timedelta = PATIENT, pause: float = 0.0) -> HttpAgents:
        async def dial(_: SessionId) -> ByteStream:
            return await TcpStream.connect(HOST, self.port)

        def charge(_: SessionId, size: int) -> float:
            self.charged += size
            return pause

        return HttpAgents(dial, lambda session_id: f"token-of-{session_id}", silence, charge)


def says(data: bytes, *, then: float = 0.0) -> Behaviour:
    async def do(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(data)
        await writer.drain()
        await asyncio.sleep(then)

    return do


def repeats(head: bytes, data: bytes, pause: float = 0.0) -> Behaviour:
    """For ever."""

    async def do(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(head)
        while True:
            writer.write(data)
            await writer.drain()
            await asyncio.sleep(pause)

    return do


def plain(body: bytes | str, status: str = "200 OK", more: int = 0) -> bytes:
    data = body.encode() if isinstance(body, str) else body
    return f"HTTP/1.1 {status}\r\nContent-Length: {len(data) + more}\r\n\r\n".encode() + data


def delta(seq: int, text: str = "x", attempt: int = 1, **more: object) -> str:
    return json.dumps({"seq": seq, "attempt": attempt, "delta": text} | more) + "\n"


def last(seq: int, outcome: str = "done", attempt: int = 1, **more: object) -> str:
    return json.dumps({"seq": seq, "attempt": attempt, "outcome": outcome} | more) + "\n"


ENDLESS = b"HTTP/1.1 200 OK\r\nContent-Length: 1073741824\r\n\r\n"
CHUNKED = b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"


@pytest_asyncio.fixture
async def tenant() -> AsyncIterator[Tenant]:
    async with Tenant() as started:
        yield started


REFUSED: dict[str, bytes | Behaviour] = {
    "unauthorized": plain("{}", "401 Unauthorized"),
    "another body": plain("{}", "409 Conflict"),
    "a bug": plain("{}", "500 Internal Server Error"),
    "redirect": plain("", "307 Temporary Redirect\r\nLocation: /elsewhere"),
    "no content": b"HTTP/1.1 204 No Content\r\n\r\n",
    "not http": b"SSH-2.0-OpenSSH_9.6\r\n\r\n",
    "head without an end": b"HTTP/1.1 200 OK\r\na: " + b"b" * 200_000,
    "heads": b"HTTP/1.1 100 Continue\r\n\r\n" * 2_000,
    "not json": plain("{\n"),
    "not utf-8": plain(b'{"seq": 1, "attempt": 1, "delta": "\xff"}\n'),
    "half a character": plain('{"seq": 1, "attempt": 1, "delta": "\\ud83d"}\n'),
    "deep": plain("[" * 30_000 + "\n"),
    "a list": plain("[1, 1, 2]\n"),
    "a word for a number": plain(delta(1).replace("1", '"1"')),
    "a fraction": plain('{"seq": 1.0, "attempt": 1, "delta": "x"}\n'),
    "a great number": plain(f'{{"seq": {"9" * 5_000}, "attempt": 1, "delta": "x"}}\n'),
    "no attempt": plain(delta(1, attempt=0)),
    "neither": plain('{"seq": 1, "attempt": 1}\n'),
    "both": plain(delta(1, outcome="done")),
    "an outcome of its own": plain(last(1, "great")),
    "begins with the second": plain(delta(2)),
    "twice the same": plain(delta(1) + delta(1)),
    "a gap": plain(delta(1) + delta(3)),
    "back to an earlier attempt": plain(delta(1, attempt=2) + delta(2, attempt=1)),
    "a later attempt from its middle": plain(delta(1) + delta(2, attempt=2)),
    "two ends": plain(last(1) + last(2)),
    "two ends in two pieces": CHUNKED + b"".join(b"%x\r\n%b\r\n" % (len(s), s) for s in (last(1).encode(),) * 2),
    "more after its end": plain(last(1) + "more"),
    "a long line": plain(delta(1, "x" * MAX_LINE_BYTES) + last(2)),
    "an endless line": repeats(ENDLESS, b"x" * 4096),
    "an endless line in crumbs": repeats(CHUNKED, b"1\r\nx\r\n" * 1000),
}


@pytest.mark.parametrize("does", REFUSED.values(), ids=REFUSED.keys())
async def test_what_breaks_the_protocol_would_not_help_again(tenant: Tenant, does: bytes | Behaviour) -> None:
    tenant.does = says(does) if isinstance(does, bytes) else does
    with pytest.raises(AgentError) as refused:
        await answer(tenant.agents(), asks())
    assert len(refused.value.message) < 200
    assert tenant.connections == 1


CUT: dict[str, bytes | Behaviour] = {
    "busy": plain("{}", "503 Service Unavailable"),
    "a proxy's word": plain("{}", "502 Bad Gateway"),
    "nothing": b"",
    "cut in the head": b"HTTP/1.1 200 OK\r\nContent-",
    "cut in the body": plain(delta(1), more=10),
    "cut in a line": plain(delta(1) + '{"seq": 2'),
    "without its end": plain(delta(1)),
    "silent at once": says(b"", then=60),
    "a head in drips": repeats(b"HTTP/1.1 200 OK\r\na: ", b"b", 0.05),
    "silent in between": says(ENDLESS + delta(1).encode(), then=60),
    "a line in drips": repeats(ENDLESS + b'{"', b"x", 0.05),
}


@pytest.mark.parametrize("does", CUT.values(), ids=CUT.keys())
async def test_what_is_cut_off_may_be_asked_for_again(tenant: Tenant, does: bytes | Behaviour) -> None:
    tenant.does = says(does) if isinstance(does, bytes) else does
    with pytest.raises(UnavailableError):
        await answer(tenant.agents(SHORT), asks())


async def test_nobody_there(tenant: Tenant) -> None:
    tenant._server.close()
    for attempt in (
        lambda: answer(tenant.agents(), asks()),
        lambda: tenant.agents().cancel(SESSION, "m1"),
        lambda: tenant.agents().read_conversation(SESSION, None, 5),
    ):
        with pytest.raises(UnavailableError):
            await attempt()


async def test_signs_of_life_keep_a_silent_answer(tenant: Tenant) -> None:
    async def does(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(CHUNKED)
        for _sign in range(10):
            await asyncio.sleep(SHORT.total_seconds() / 5)
            writer.write(b"1\r\n\n\r\n")
        writer.write(b"%x\r\n%b\r\n0\r\n\r\n" % (len(last(1)), last(1).encode()))

    tenant.does = does
    assert await answer(tenant.agents(SHORT), asks()) == [ReplyEnd(1, 1, MessageOutcome.DONE)]


async def test_whoever_reads_slowly_is_not_taken_for_silence(tenant: Tenant) -> None:
    tenant.does = says(ENDLESS + delta(1).encode() + b"\n" * 200_000 + delta(2).encode(), then=60)
    async with tenant.agents(SHORT).send(asks()) as lines:
        await anext(lines)
        await asyncio.sleep(2 * SHORT.total_seconds())
        assert await anext(lines) == ReplyDelta(1, 2, "x")


async def test_an_answer_that_stays_open_after_its_end_is_not_waited_for(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(adapter, "END_SECONDS", 0.05)
    tenant.does = says(ENDLESS + last(1, reason="r" * 5_000).encode(), then=60)
    assert await answer(tenant.agents(), asks()) == [ReplyEnd(1, 1, MessageOutcome.DONE, "r" * MAX_REASON_CHARACTERS)]


async def test_each_lines_end_is_charged_and_a_pause_stops_the_reading(tenant: Tenant) -> None:
    """A gigabyte, if anybody took it."""
    sent = 0

    async def does(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal sent
        writer.write(ENDLESS)
        for seq in range(1, 1 << 20):
            line = delta(seq, "x" * 1000).encode()
            writer.write(line)
            sent += len(line)
            await writer.drain()

    tenant.does = does
    before = 0

    async def stands_still() -> bool:
        nonlocal before
        still, before = sent == before > 0, sent
        return still

    async with tenant.agents(pause=3600).send(asks()) as lines:
        reading = asyncio.ensure_future(anext(lines))
        await until(stands_still, "nobody takes any more")
        assert not reading.done()
        assert 8192 < tenant.charged < 40_000  # one reading, and its lines
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)
    assert sent < 16 << 20  # what two ends of a connection hold


async def test_everybody_else_has_a_turn_while_crumbs_are_read(tenant: Tenant) -> None:
    turns = 0

    async def others() -> None:
        nonlocal turns
        while True:
            await asyncio.sleep(0)
            turns += 1

    tenant.does = repeats(CHUNKED, b"1\r\n\n\r\n" * 1000)
    async with tenant.agents().send(asks()) as lines:
        reading = asyncio.ensure_future(anext(lines))
        await until(lambda: tenant.charged > (1 + adapter.PIECE_COST) * 5000, "thousands of signs of life are read")
        before, charged = turns, tenant.charged
        running = asyncio.create_task(others())
        await until(lambda: tenant.charged > charged + (1 + adapter.PIECE_COST) * 5000, "thousands more")
        for task in (running, reading):
            task.cancel()
        await asyncio.gather(running, reading, return_exceptions=True)
    # Some 2,500 pieces; without the guard, others have a turn with each reading, of 1,300.
    assert turns - before > 2500 / 32 / 4


async def test_the_request_says_what_was_seen_and_carries_the_sessions_own_token(tenant: Tenant) -> None:
    bodies = []

    async def does(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        length = int(tenant.requests[-1].lower().partition("content-length: ")[2].partition("\r")[0])
        bodies.append(json.loads(await reader.readexactly(length)))
        writer.write(plain(delta(4, attempt=2) + last(1, attempt=3)))

    tenant.does = does
    agents = tenant.agents()
    found = await answer(agents, asks('"ü" \U0001f600', resume=Progress(2, 3), begun=True))
    assert found == [ReplyDelta(2, 4, "x"), ReplyEnd(3, 1, MessageOutcome.DONE)]
    (head,) = tenant.requests
    assert head.startswith("POST /v1/messages?from_seq=4&attempt=2&begun=true HTTP/1.1\r\n")
    assert f"authorization: bearer token-of-{SESSION}\r\n" in head.lower()
    assert bodies == [{"id": "m1", "message": '"ü" \U0001f600', "user_id": "alice"}]
    tenant.does = says(plain("{}", "404 Not Found"))
    assert not await agents.cancel(SESSION, "a/../b?")
    assert tenant.requests[-1].startswith("DELETE /v1/messages/a%2F..%2Fb%3F HTTP/1.1\r\n")


async def test_an_agent_that_does_not_read_its_message_is_given_up(tenant: Tenant) -> None:
    tenant.does = says(b"", then=60)
    with pytest.raises(UnavailableError):
        await answer(tenant.agents(SHORT), asks("x" * (16 << 20)))


CONVERSATIONS = {
    "nothing": plain(""),
    "not json": plain("{"),
    "another shape": plain('{"messages": [{"id": 1}], "more": false}'),
    "unknown outcome": plain('{"messages": [{"id": "a", "message": "", "reply": "", "outcome": "x", "at": 0}]}'),
    "refused": plain("{}", "404 Not Found"),
    "endless": repeats(ENDLESS, b" " * 65_536),
}


@pytest.mark.parametrize("does", CONVERSATIONS.values(), ids=CONVERSATIONS.keys())
async def test_what_is_no_conversation(tenant: Tenant, does: bytes | Behaviour) -> None:
    tenant.does = says(does) if isinstance(does, bytes) else does
    with pytest.raises(AgentError):
        await tenant.agents().read_conversation(SESSION, None, 5)
    if isinstance(does, bytes):
        assert tenant.connections == 1


async def test_a_conversation_in_drips_is_given_up(tenant: Tenant, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(adapter, "PAGE_SECONDS", 0.3)
    tenant.does = repeats(ENDLESS, b" ", 0.05)
    with pytest.raises(UnavailableError):
        await tenant.agents().read_conversation(SESSION, None, 5)


async def test_a_page_is_no_longer_than_was_asked_for(tenant: Tenant) -> None:
    at = "2026-01-01T00:00:00Z"
    entries = [{"id": f"m{n}", "message": "a", "reply": "b", "outcome": None, "at": at, "new": 1} for n in range(9)]
    tenant.does = says(plain(json.dumps({"messages": entries, "more": False})))
    page = await tenant.agents().read_conversation(SESSION, None, 2)
    assert ([entry.message_id for entry in page.entries], page.cursor) == (["m7", "m8"], "m7")
    assert page.entries[0].running


async def test_being_cancelled_drops_the_connection(tenant: Tenant) -> None:
    gone = asyncio.Event()

    async def does(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(ENDLESS + delta(1).encode())
        while await reader.read(1024):
            pass
        gone.set()

    tenant.does = does
    first = asyncio.Event()

    async def listen() -> None:
        async with tenant.agents().send(asks()) as lines:
            async for _ in lines:
                first.set()

    listening = asyncio.create_task(listen())
    await first.wait()
    listening.cancel()
    with pytest.raises(asyncio.CancelledError):
        await listening
    await gone.wait()


async def test_the_editors_connections_are_closed_by_its_agent(tenant: Tenant) -> None:
    tenant.does = says(b"HTTP/1.1 204 No Content\r\n\r\n")
    await tenant.agents().close_editor(SESSION)
    (head,) = tenant.requests
    assert head.startswith("DELETE /v1/editor/connections HTTP/1.1\r\n")
    assert f"authorization: bearer token-of-{SESSION}\r\n" in head.lower()

    fake = FakeAgents()
    await fake.close_editor(SESSION)
    assert fake.closed == [SESSION]
    fake.away.add(SESSION)
    with pytest.raises(UnavailableError):
        await fake.close_editor(SESSION)


@pytest.mark.parametrize(
    ("does", "error"),
    [
        (says(plain("{}", "404 Not Found")), AgentError),  # of before there were editors
        (says(plain("{}", "503 Not Yet")), UnavailableError),
        (says(b"SSH-2.0-OpenSSH_9.6\r\n\r\n"), AgentError),
        (says(b"", then=60), UnavailableError),
    ],
)
async def test_whoever_revokes_is_told_that_they_are_not_closed_and_not_kept_waiting(
    tenant: Tenant, monkeypatch: pytest.MonkeyPatch, does: Behaviour, error: type[Exception]
) -> None:
    monkeypatch.setattr(adapter, "CLOSE_SECONDS", 0.2)
    tenant.does = does
    with pytest.raises(error):
        await asyncio.wait_for(tenant.agents().close_editor(SESSION), 10)
