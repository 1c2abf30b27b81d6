"""``Agents`` over HTTP: a connection for each message, bounded in every direction (DESIGN 7).

The agent is tenant code. What it sends is read as fast as its tenant may write and no faster, is given up when it is
silent for too long, and is held in memory only as far as one line and two readings go.
"""

from __future__ import annotations

import asyncio
import json
from collections import deque
from contextlib import asynccontextmanager
from http import HTTPStatus
from typing import TYPE_CHECKING, Final
from urllib.parse import quote, urlencode

from pydantic import ValidationError

from sessionctl.adapters.agent_http import CONNECT_SECONDS, Exchange
from sessionctl.adapters.agent_lines import LineReader
from sessionctl.errors import AgentError, SessionctlError, UnavailableError
from sessionctl.models import ChatEntry, ChatPage, ReplyEnd
from sessionctl.wire import AgentConversation

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable
    from datetime import timedelta

    from sessionctl.adapters.agent_http import Dial
    from sessionctl.models import AgentMessage, ReplyDelta, SessionId

MESSAGES: Final = "/v1/messages"
CONVERSATION: Final = "/v1/conversation"
EDITOR_CONNECTIONS: Final = "/v1/editor/connections"
PAGE_SECONDS: Final = 10.0
CLOSE_SECONDS: Final = 2.0
MAX_PAGE_BYTES: Final = 4 << 20
END_SECONDS: Final = 1.0
"""So long an answer may stay open after its last line; an honest one ends at once."""
PIECE_COST: Final = 512
"""Each line and each piece counts as so many bytes more: to take them apart costs time, however short they are."""

_BUSY: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
"""The agent's own word for it is 503; the others are those of a proxy beside it."""


def unlimited(_session_id: SessionId, _size: int) -> float:
    """Charge nothing."""
    return 0.0


class HttpAgents:
    """Speaks with the agents of all sessions.

    ``charge`` notes so many bytes that a session's agent has sent, and answers how many seconds to wait with the next.
    """

    def __init__(
        self,
        dial: Dial,
        token: Callable[[SessionId], str],
        silence_limit: timedelta,
        charge: Callable[[SessionId, int], float] = unlimited,
    ) -> None:
        self._dial = dial
        self._token = token
        self._silence = silence_limit.total_seconds()
        self._charge = charge

    @asynccontextmanager
    async def send(self, message: AgentMessage) -> AsyncGenerator[AsyncIterator[ReplyDelta | ReplyEnd], None]:
        """See ``ports.Agents``."""
        resume = message.resume
        query = {"from_seq": resume.seq + 1, "attempt": max(1, resume.attempt)}
        target = f"{MESSAGES}?{urlencode(query)}{'&begun=true' if message.begun else ''}"
        body = {"id": message.message_id, "message": message.message, "user_id": message.user_id}
        async with self._connected(message.session_id) as exchange:
            encoded = json.dumps(body, ensure_ascii=False).encode("utf-8", "replace")
            status = await self._ask(exchange, message.session_id, "POST", target, encoded)
            if status != HTTPStatus.OK:
                raise _refusal(status)
            yield _Answer(exchange, message, self._silence, self._charge)

    async def cancel(self, session_id: SessionId, message_id: str) -> bool:
        """See ``ports.Agents``."""
        async with self._connected(session_id) as exchange:
            status = await self._ask(exchange, session_id, "DELETE", f"{MESSAGES}/{quote(message_id, safe='')}")
        if status == HTTPStatus.NOT_FOUND:
            return False
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(status)
        return True

    async def close_editor(self, session_id: SessionId) -> None:
        """See ``ports.Agents``."""
        try:
            async with asyncio.timeout(CLOSE_SECONDS), self._connected(session_id) as exchange:
                status = await self._ask(exchange, session_id, "DELETE", EDITOR_CONNECTIONS)
        except TimeoutError as error:
            raise _silent(CLOSE_SECONDS) from error
        if not HTTPStatus.OK <= status < HTTPStatus.MULTIPLE_CHOICES:
            raise _refusal(status)

    async def read_conversation(self, session_id: SessionId, before: str | None, limit: int) -> ChatPage:
        """See ``ports.Agents``."""
        query = {"limit": str(limit)} | ({"before": before} if before is not None else {})
        try:
            async with asyncio.timeout(PAGE_SECONDS), self._connected(session_id) as exchange:
                status = await self._ask(exchange, session_id, "GET", f"{CONVERSATION}?{urlencode(query)}")
                if status != HTTPStatus.OK:
                    raise _refusal(status)
                return _page(await self._body(exchange, session_id), limit)
        except TimeoutError as error:
            raise _silent(PAGE_SECONDS) from error

    @asynccontextmanager
    async def _connected(self, session_id: SessionId) -> AsyncGenerator[Exchange, None]:
        try:
            async with asyncio.timeout(CONNECT_SECONDS):
                stream = await self._dial(session_id)
        except (OSError, SessionctlError) as error:
            raise UnavailableError("the agent cannot be reached") from error
        try:
            yield Exchange(stream)
        finally:
            stream.close()

    async def _ask(
        self, exchange: Exchange, session_id: SessionId, method: str, target: str, body: bytes | None = None
    ) -> int:
        try:
            async with asyncio.timeout(self._silence):
                return await exchange.ask(method, target, self._token(session_id), body)
        except TimeoutError as error:
            raise _silent(self._silence) from error

    async def _body(self, exchange: Exchange, session_id: SessionId) -> bytes:
        body, pieces = bytearray(), exchange.pieces
        while data := await exchange.read():
            body += data
            cost = len(data) + PIECE_COST * (exchange.pieces - pieces)
            pieces = exchange.pieces
            if len(body) > MAX_PAGE_BYTES:
                raise AgentError(f"the agent's answer has more than {MAX_PAGE_BYTES} bytes")
            await asyncio.sleep(self._charge(session_id, cost))
        return bytes(body)


class _Answer:
    """The lines of one answer."""

    def __init__(
        self, exchange: Exchange, message: AgentMessage, silence: float, charge: Callable[[SessionId, int], float]
    ) -> None:
        self._exchange = exchange
        self._session_id = message.session_id
        self._lines = LineReader(message.resume)
        self._pieces = exchange.pieces
        self._silence = self._patience = silence
        self._charge = charge
        self._ready: deque[ReplyDelta | ReplyEnd] = deque()
        self._over = False

    def __aiter__(self) -> _Answer:
        return self

    async def __anext__(self) -> ReplyDelta | ReplyEnd:
        while not self._ready:
            if self._over:
                raise StopAsyncIteration
            data = await self._read()
            if not data:
                raise UnavailableError("the agent's answer was cut off")
            self._ready.extend(self._lines.feed(data))
        found = self._ready.popleft()
        if isinstance(found, ReplyEnd):
            await self._see_its_end()
            self._over = True
        return found

    async def _read(self) -> bytes:
        """Return what comes next; only the time that nothing came counts as silence, and only a line ends it."""
        clock = asyncio.get_running_loop().time
        began = clock()
        try:
            async with asyncio.timeout(self._patience):
                data = await self._exchange.read()
        except TimeoutError as error:
            raise _silent(self._silence) from error
        lines = data.count(b"\n")
        self._patience = self._silence if lines else self._patience - (clock() - began)
        cost = len(data) + PIECE_COST * (lines + self._exchange.pieces - self._pieces)
        self._pieces = self._exchange.pieces
        if pause := self._charge(self._session_id, cost):
            await asyncio.sleep(pause)
        return data

    async def _see_its_end(self) -> None:
        """Make sure that nothing follows; what has been said stays said if the connection is lost now."""
        try:
            async with asyncio.timeout(END_SECONDS):
                while data := await self._read():
                    self._lines.feed(data)
        except (TimeoutError, UnavailableError):
            pass


def _refusal(status: int) -> AgentError | UnavailableError:
    if status in _BUSY:
        return UnavailableError(f"the agent does not take messages at this moment ({status})")
    return AgentError(f"the agent refused with status {status}")


def _silent(seconds: float) -> UnavailableError:
    return UnavailableError(f"the agent was silent for {seconds:g} s")


def _page(body: bytes, limit: int) -> ChatPage:
    try:
        read = AgentConversation.model_validate_json(body)
    except ValidationError:
        raise AgentError("the agent's answer is no conversation") from None
    messages = read.messages[-limit:]
    entries = tuple(
        ChatEntry(
            message_id=entry.id,
            message=entry.message,
            running=entry.outcome is None,
            outcome=entry.outcome,
            reason=entry.reason or "",
            reply=entry.reply,
            at=entry.at,
        )
        for entry in messages
    )
    more = read.more or len(messages) < len(read.messages)
    return ChatPage(entries, partial=False, cursor=entries[0].message_id if entries and more else None)
