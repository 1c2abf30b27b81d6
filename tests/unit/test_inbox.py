from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager

import pytest

from sessionctl.core.inbox import LINE_COST, MOST_UNTAKEN, Inbox, Piece
from sessionctl.errors import AgentError, UnavailableError
from sessionctl.models import MessageOutcome, ReplyDelta, ReplyEnd
from tests.support.waiting import until

Line = ReplyDelta | ReplyEnd
END = ReplyEnd(2, 2, MessageOutcome.DONE)


async def said(*lines: Line | Exception) -> AsyncGenerator[Line, None]:
    for line in lines:
        if isinstance(line, Exception):
            raise line
        yield line


@asynccontextmanager
async def filled(lines: AsyncIterator[Line]) -> AsyncGenerator[Inbox, None]:
    inbox = Inbox(lines)
    filling = asyncio.create_task(inbox.fill())
    try:
        yield inbox
    finally:
        filling.cancel()
        await asyncio.gather(filling, return_exceptions=True)


async def test_lines_of_one_attempt_come_together_and_those_of_another_by_themselves() -> None:
    lines: list[Line] = [ReplyDelta(1, 1, "a"), ReplyDelta(1, 2, "b"), ReplyDelta(2, 1, "c"), END]
    async with filled(said(*lines)) as inbox:
        await asyncio.sleep(0)
        assert [await inbox.take() for _ in range(3)] == [
            Piece(ReplyDelta(1, 2, "ab"), 1),
            Piece(ReplyDelta(2, 1, "c"), 1),
            END,
        ]


async def test_what_goes_wrong_comes_after_all_that_came_before_it() -> None:
    async with filled(said(ReplyDelta(1, 1, "a"), AgentError("wrong"))) as inbox:
        await asyncio.sleep(0)
        assert await inbox.take() == Piece(ReplyDelta(1, 1, "a"), 1)
        with pytest.raises(AgentError):
            await inbox.take()


async def test_lines_without_an_end_were_cut_off() -> None:
    async with filled(said()) as inbox:
        with pytest.raises(UnavailableError):
            await inbox.take()


async def test_no_more_is_read_than_has_room_until_somebody_takes() -> None:
    read, text = 0, "x" * 1000

    async def endless() -> AsyncGenerator[Line, None]:
        nonlocal read
        while True:
            read += 1
            yield ReplyDelta(1, read, text)

    most = MOST_UNTAKEN // (LINE_COST + len(text)) + 2
    async with filled(endless()) as inbox:
        await until(lambda: read == most, "it is full")
        await asyncio.sleep(0)
        assert read == most
        piece = await inbox.take()
        assert isinstance(piece, Piece)
        assert (piece.first_seq, piece.delta.seq) == (1, most - 1)
        await until(lambda: read > most, "it is read on")


async def test_an_endless_answer_that_has_failed_says_nothing_more() -> None:
    async def endless() -> AsyncGenerator[Line, None]:
        seq = 0
        while True:
            seq += 1
            yield ReplyDelta(1, seq, "x")
            await asyncio.sleep(0)

    async with filled(endless()) as inbox:
        await inbox.take()
        inbox.fail(AgentError("not heeded"))
        with pytest.raises(AgentError):
            await inbox.take()
        await asyncio.sleep(0)
        with pytest.raises(AgentError):
            await inbox.take()
