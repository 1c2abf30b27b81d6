"""``ActivityProbe`` that asks the agent of a session.

The agent is tenant code: whatever it answers, or does not, costs a bounded time, a bounded number of bytes and one line
of the log (DESIGN 7).
"""

from __future__ import annotations

import asyncio
import logging
import math
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.agent_http import Exchange
from sessionctl.errors import AgentError, SessionctlError
from sessionctl.models import Activity
from sessionctl.wire import AgentActivity

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sessionctl.adapters.agent_http import Dial
    from sessionctl.models import SessionId, Workspace

ANSWER_SECONDS: Final = 3.0
MAX_ANSWER_BYTES: Final = 65536
MAX_PIECES: Final = 100
"""An honest answer has a handful; thousands of tiny chunks would cost more time than they take on the wire."""
PATH: Final = "/v1/activity"

_log = logging.getLogger(__name__)


class AgentProbe:
    """Asks ``GET /v1/activity`` over a new connection each time; for the tokens see ``HttpAgents``."""

    def __init__(self, dial: Dial, tokens: Callable[[SessionId], Sequence[str]]) -> None:
        self._dial = dial
        self._tokens = tokens

    async def ask(self, workspace: Workspace) -> Activity | None:
        """See ``ports.ActivityProbe``."""
        session_id = workspace.session_id
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                return _activity(await self._get(session_id))
        except Exception as error:  # noqa: BLE001 - nothing a tenant's code does may stop the sweeper
            # A tenant's text would be a tenant's line in the log: only its kind is named for what is not our own error.
            _log.debug("no answer of the agent: %s", _named(error), extra={"session": session_id})
            return None

    async def _get(self, session_id: SessionId) -> bytes:
        """Ask and return the body of a 200; raises whatever goes wrong."""
        status = 0
        for token in self._tokens(session_id):
            stream = await self._dial(session_id)
            try:
                exchange = Exchange(stream)
                status = await exchange.ask("GET", PATH, token)
                if status == HTTPStatus.OK:
                    return await _body(exchange)
            finally:
                stream.close()
            if status != HTTPStatus.UNAUTHORIZED:
                break
        raise AgentError(f"status {status}")


async def _body(exchange: Exchange) -> bytes:
    body = b""
    while data := await exchange.read():
        body += data
        if exchange.received > MAX_ANSWER_BYTES:
            raise AgentError(f"more than {MAX_ANSWER_BYTES} bytes")
        if exchange.pieces > MAX_PIECES:
            raise AgentError(f"more than {MAX_PIECES} pieces")
    return body


def _activity(body: bytes) -> Activity:
    said = AgentActivity.model_validate_json(body, strict=True)
    if "message_running" not in said.model_fields_set:
        # Every agent says this much; what only looks like one must not put a working user to sleep.
        raise AgentError("it says nothing")
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
        raise AgentError("an age that is none")
    return timedelta(seconds=seconds)


def _named(error: Exception) -> str:
    if isinstance(error, SessionctlError):
        return str(error)
    return type(error).__name__
