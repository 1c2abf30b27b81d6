"""``ActivityProbe`` that asks the agent of a session.

The agent is tenant code: whatever it answers, or does not, costs a bounded time, a bounded number of bytes and one line
of the log (DESIGN 7).
"""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import timedelta
from typing import TYPE_CHECKING, Final, Protocol

import h11

from sessionctl.errors import SessionctlError
from sessionctl.models import Activity
from sessionctl.wire import AgentActivity

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sessionctl.models import SessionId, Workspace

ANSWER_SECONDS: Final = 3.0
MAX_ANSWER_BYTES: Final = 65536
MAX_EVENTS: Final = 100
"""An honest answer has a handful; thousands of tiny chunks would cost more time than they take on the wire."""
READ_BYTES: Final = 8192
"""h11 measures a head that does not end only between two readings."""
PATH: Final = "/v1/activity"

_OK: Final = 200

_log = logging.getLogger(__name__)


class ByteStream(Protocol):
    """One connection to an agent."""

    async def read(self) -> bytes:
        """Return what comes next, nothing at the end."""
        ...

    async def write(self, data: bytes) -> None:
        """Send."""
        ...

    def close(self) -> None:
        """Drop the connection without waiting for anybody."""
        ...


class TcpStream:
    """``ByteStream`` on a plain connection, made without regard to proxies: the token is for the pod alone."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    @classmethod
    async def connect(cls, host: str, port: int) -> TcpStream:
        """Connect; raises OSError."""
        return cls(*await asyncio.open_connection(host, port))

    async def read(self) -> bytes:
        """See ``ByteStream``."""
        return await self._reader.read(READ_BYTES)

    async def write(self, data: bytes) -> None:
        """See ``ByteStream``."""
        self._writer.write(data)
        await self._writer.drain()

    def close(self) -> None:
        """See ``ByteStream``."""
        self._writer.transport.abort()


class AgentProbe:
    """Asks ``GET /v1/activity`` over a new connection each time, with the token of that session."""

    def __init__(self, dial: Callable[[SessionId], Awaitable[ByteStream]], token: Callable[[SessionId], str]) -> None:
        self._dial = dial
        self._token = token

    async def ask(self, workspace: Workspace) -> Activity | None:
        """See ``ports.ActivityProbe``."""
        session_id = workspace.session_id
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                stream = await self._dial(session_id)
                try:
                    answer = await _get(stream, self._token(session_id))
                finally:
                    stream.close()
            return _activity(answer)
        except Exception as error:  # noqa: BLE001 - nothing a tenant's code does may stop the sweeper
            # A tenant's text would be a tenant's line in the log: only its kind is named for what is not our own error.
            _log.debug("no answer of the agent: %s", _named(error), extra={"session": session_id})
            return None


class _BadAnswerError(Exception):
    """The agent's answer is none; the message holds nothing that the agent wrote."""


async def _get(stream: ByteStream, token: str) -> bytes:
    """Ask and return the body of a 200; raises whatever goes wrong."""
    protocol = h11.Connection(h11.CLIENT)
    headers = [
        ("Host", "agent"),
        ("Accept", "application/json"),
        ("Authorization", f"Bearer {token}"),
        ("Connection", "close"),
    ]
    question = protocol.send(h11.Request(method="GET", target=PATH, headers=headers)) or b""
    await stream.write(question + (protocol.send(h11.EndOfMessage()) or b""))
    received, events, body = 0, 0, b""
    while True:
        event = protocol.next_event()
        if event is h11.NEED_DATA:
            data = await stream.read()
            received += len(data)
            if received > MAX_ANSWER_BYTES:
                raise _BadAnswerError(f"more than {MAX_ANSWER_BYTES} bytes")
            protocol.receive_data(data)
            continue
        events += 1
        if events > MAX_EVENTS:
            raise _BadAnswerError(f"more than {MAX_EVENTS} pieces")
        if isinstance(event, h11.Response):
            if event.status_code != _OK:
                raise _BadAnswerError(f"status {event.status_code}")
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage):
            return body
        elif not isinstance(event, h11.InformationalResponse):
            raise _BadAnswerError("it ended early")


def _activity(body: bytes) -> Activity:
    said = AgentActivity.model_validate_json(body, strict=True)
    if "message_running" not in said.model_fields_set:
        # Every agent says this much; what only looks like one must not put a working user to sleep.
        raise _BadAnswerError("it says nothing")
    return Activity(
        message_running=said.message_running,
        hold=_age(said.hold),
        editor_input=_age(said.editor_input),
        editor_connected=_age(said.editor_connected),
    )


def _age(seconds: float | None) -> timedelta | None:
    if seconds is None:
        return None
    if not math.isfinite(seconds) or seconds < 0:
        raise _BadAnswerError("an age that is none")
    return timedelta(seconds=seconds)


def _named(error: Exception) -> str:
    if isinstance(error, (_BadAnswerError, SessionctlError)):
        return str(error)
    return type(error).__name__
