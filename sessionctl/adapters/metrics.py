"""``Metrics``: of a process that nobody watches."""

from __future__ import annotations

from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessionctl.models import Dependency, EventKind, Loop, MessageOutcome, SessionStatus


class NoMetrics:
    """For commands: they are over before anybody could ask."""

    def count(self, kind: EventKind) -> None:
        """See ``ports.Metrics``."""

    def observe_start(self, seconds: float) -> None:
        """See ``ports.Metrics``."""

    def observe_helm(self, verb: str, seconds: float, *, failed: bool) -> None:
        """See ``ports.Metrics``."""

    def loop_ended(self, loop: Loop, seconds: float, *, failed: bool) -> None:
        """See ``ports.Metrics``."""

    def set_health(self, dependency: Dependency, *, healthy: bool) -> None:
        """See ``ports.Metrics``."""

    def set_sessions(self, counts: Mapping[SessionStatus, int], waiting: int) -> None:
        """See ``ports.Metrics``."""

    def count_message(self, outcome: MessageOutcome) -> None:
        """See ``ports.Metrics``."""

    def set_deliveries(self, sessions: int) -> None:
        """See ``ports.Metrics``."""

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """See ``ports.Metrics``."""

    def render(self) -> tuple[bytes, str]:
        """See ``ports.Metrics``."""
        return b"", "text/plain"
