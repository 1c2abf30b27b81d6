"""Shell completion of session ids; silent when the cluster cannot be asked."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.cli.run import call
from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from sessionctl.factory import Factory


def session_ids(incomplete: str) -> list[str]:
    """Return the sessions whose id starts with what was typed."""

    async def ask(factory: Factory) -> list[str]:
        return sorted(w.session_id for w in await factory.cluster.list_workspaces())

    try:
        return [session_id for session_id in call(None, ask) if session_id.startswith(incomplete)]
    except SessionctlError:
        return []
