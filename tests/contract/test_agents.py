"""Chats with agents: what the port promises, of a real agent and of the fake."""

from __future__ import annotations

import asyncio
import shutil
from collections.abc import AsyncGenerator, AsyncIterator
from pathlib import Path
from typing import Protocol

import pytest
import pytest_asyncio

from sessionctl.adapters.agent_http import ByteStream, TcpStream
from sessionctl.adapters.agents import HttpAgents
from sessionctl.errors import AgentError, UnavailableError
from sessionctl.models import MessageOutcome, Progress, ReplyDelta, ReplyEnd, SessionId
from sessionctl.ports import Agents
from sessionctl.testing.agents import FakeAgents
from tests.agent.process import TOKEN, AgentProcess
from tests.agent.process import Agents as Processes
from tests.contract.answers import PATIENT, SESSION, answer, asks, end
from tests.support.tcp_server import HOST


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
        self.agents: Agents = HttpAgents(self._dial, lambda _: [TOKEN], PATIENT)

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
