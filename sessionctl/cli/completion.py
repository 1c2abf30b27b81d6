"""Shell completion of ids; silent when nobody can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.cli.run import ask
from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from sessionctl.cli.backend import Backend

MOST_MESSAGES: Final = 100


def session_ids(incomplete: str) -> list[str]:
    """Return the sessions whose id starts with what was typed."""

    async def work(backend: Backend) -> list[str]:
        return sorted(await backend.list_ids())

    try:
        return [session_id for session_id in ask(None, work) if session_id.startswith(incomplete)]
    except SessionctlError:
        return []


def message_ids(uuid: str, incomplete: str) -> list[str]:
    """Return the messages of a session that wait or run, and whose id starts with what was typed."""
    from sessionctl.core.identity import parse_session_id

    async def work(backend: Backend) -> list[str]:
        page = await backend.messages(parse_session_id(uuid), None, MOST_MESSAGES)
        return [each.message_id for each in page.messages if each.status in {"queued", "running"}]

    try:
        return [message_id for message_id in ask(None, work) if message_id.startswith(incomplete)]
    except SessionctlError:
        return []
