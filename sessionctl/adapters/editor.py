"""``EditorProbe`` that asks the editor of a session: what answers there is tenant code, and costs a bounded time."""

from __future__ import annotations

import asyncio
import logging
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.agent_http import Exchange

if TYPE_CHECKING:
    from sessionctl.adapters.agent_http import Dial
    from sessionctl.models import SessionId

ANSWER_SECONDS: Final = 2.0
"""As long as the router waits for a connection."""
PATH: Final = "/healthz"

_log = logging.getLogger(__name__)


class HttpEditorProbe:
    """Asks ``GET /healthz`` over a new connection each time, as the router comes: without a credential."""

    def __init__(self, dial: Dial) -> None:
        self._dial = dial

    async def answers(self, session_id: SessionId) -> bool:
        """See ``ports.EditorProbe``."""
        try:
            async with asyncio.timeout(ANSWER_SECONDS):
                stream = await self._dial(session_id)
                try:
                    return await Exchange(stream).ask("GET", PATH) == HTTPStatus.OK
                finally:
                    stream.close()
        except Exception as error:  # noqa: BLE001 - nothing a tenant's code does may end who waits for it
            _log.debug("the editor does not answer: %s", type(error).__name__, extra={"session": session_id})
            return False
