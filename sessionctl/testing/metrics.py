"""``Metrics`` that a test can read."""

from __future__ import annotations

from collections import Counter
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessionctl.models import Dependency, EventKind, Loop, MessageOutcome, SessionStatus


class CountingMetrics:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.counts: Counter[EventKind] = Counter()
        self.starts: list[float] = []
        self.helm: list[tuple[str, bool]] = []
        self.passes: Counter[tuple[Loop, bool]] = Counter()
        self.health: dict[Dependency, bool] = {}
        self.sessions: Mapping[SessionStatus, int] = {}
        self.waiting = 0
        self.messages: Counter[MessageOutcome] = Counter()
        self.deliveries = 0
        self.requests: Counter[tuple[str, str, int]] = Counter()

    def count(self, kind: EventKind) -> None:
        """See ``ports.Metrics``."""
        self.counts[kind] += 1

    def observe_start(self, seconds: float) -> None:
        """See ``ports.Metrics``."""
        self.starts.append(seconds)

    def observe_helm(self, verb: str, seconds: float, *, failed: bool) -> None:  # noqa: ARG002 - one that took no time
        """See ``ports.Metrics``."""
        self.helm.append((verb, failed))

    def loop_ended(self, loop: Loop, seconds: float, *, failed: bool) -> None:  # noqa: ARG002
        """See ``ports.Metrics``."""
        self.passes[loop, failed] += 1

    def set_health(self, dependency: Dependency, *, healthy: bool) -> None:
        """See ``ports.Metrics``."""
        self.health[dependency] = healthy

    def set_sessions(self, counts: Mapping[SessionStatus, int], waiting: int) -> None:
        """See ``ports.Metrics``."""
        self.sessions, self.waiting = counts, waiting

    def count_message(self, outcome: MessageOutcome) -> None:
        """See ``ports.Metrics``."""
        self.messages[outcome] += 1

    def set_deliveries(self, sessions: int) -> None:
        """See ``ports.Metrics``."""
        self.deliveries = sessions

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:  # noqa: ARG002
        """See ``ports.Metrics``."""
        self.requests[method, route, status] += 1

    def render(self) -> tuple[bytes, str]:
        """See ``ports.Metrics``."""
        return b"", "text/plain"
