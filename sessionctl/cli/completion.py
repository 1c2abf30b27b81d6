"""Shell completion of session ids; silent when nobody can be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.cli.run import ask
from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from sessionctl.cli.backend import Backend


def session_ids(incomplete: str) -> list[str]:
    """Return the sessions whose id starts with what was typed."""

    async def work(backend: Backend) -> list[str]:
        return sorted(await backend.list_ids())

    try:
        return [session_id for session_id in ask(None, work) if session_id.startswith(incomplete)]
    except SessionctlError:
        return []
