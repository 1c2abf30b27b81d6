"""``ActivityProbe`` for workspaces that serve nothing."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.models import Activity

if TYPE_CHECKING:
    from sessionctl.models import Workspace


class SilentWorkspaceProbe:
    """``idle.probe: none``: nobody is asked, ``last_active`` alone judges; for simulated pods."""

    async def ask(self, workspace: Workspace) -> Activity:  # noqa: ARG002 - the port's signature
        """See ``ports.ActivityProbe``."""
        return Activity()
