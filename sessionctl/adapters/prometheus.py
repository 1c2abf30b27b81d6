"""``Metrics`` for Prometheus: a registry of its own, and only labels whose values are few.

A module of its own, so that commands, which nobody measures, do not load the library.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, TypeVar

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram
from prometheus_client.exposition import CONTENT_TYPE_LATEST, generate_latest
from prometheus_client.metrics_core import GaugeMetricFamily, Metric
from prometheus_client.registry import Collector

from sessionctl.models import Dependency, EventKind, Loop, MessageOutcome, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping, Sequence

    from sessionctl.ports import Clock

Made = TypeVar("Made")

_START_SECONDS: Final = (0.25, 0.5, 1, 2, 3, 5, 8, 13, 20, 30, 60, 120, 300, 600)
_HELM_SECONDS: Final = (0.1, 0.2, 0.3, 0.5, 0.75, 1, 2, 5, 10, 30, 60)
_LOOP_SECONDS: Final = (0.001, 0.01, 0.1, 0.5, 1, 5, 15, 60, 300)
_REQUEST_SECONDS: Final = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1, 2.5, 5, 10, 30)
_METHODS: Final = frozenset({"GET", "POST", "DELETE", "HEAD", "OPTIONS", "PUT", "PATCH"})
_VERBS: Final = frozenset({"install", "upgrade", "uninstall", "get", "list"})
_MOST_ROUTES: Final = 64
_OTHER: Final = "other"
_WAITING: Final = frozenset({Loop.GUARD})
"""Loops whose pass waits for something to happen: neither its length nor its age says anything."""
LABEL_VALUES: Final[Mapping[str, Sequence[str]]] = {
    "kind": tuple(EventKind),
    "verb": (*sorted(_VERBS), _OTHER),
    "failed": ("false", "true"),
    "loop": tuple(loop for loop in Loop if loop not in _WAITING),
    "dependency": tuple(Dependency),
    "status": tuple(SessionStatus),
    "outcome": tuple(MessageOutcome),
    "method": (*sorted(_METHODS), _OTHER),
}
"""What labels can be, but for ``route`` and the ``status`` of requests."""


class _LoopAges(Collector):
    """Ages at the moment of the scrape: a loop that hangs grows old, though it reports nothing."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        now = clock.monotonic()
        self._last_good = dict.fromkeys((loop for loop in Loop if loop not in _WAITING), now)

    def succeeded(self, loop: Loop) -> None:
        """Note a good pass."""
        if loop not in _WAITING:
            self._last_good[loop] = self._clock.monotonic()

    def collect(self) -> Iterable[Metric]:
        """Return the ages."""
        family = GaugeMetricFamily(
            "sessionctl_loop_age_seconds",
            "Seconds since a background loop last made a pass without an error, or since the start of the process.",
            labels=["loop"],
        )
        now = self._clock.monotonic()
        for loop, at in self._last_good.items():
            family.add_metric([loop], now - at)
        yield family


class PrometheusMetrics:
    """Counts and measures of one process."""

    def __init__(self, clock: Clock) -> None:
        self.registry = CollectorRegistry()
        self.labels: dict[str, Sequence[str]] = {"sessionctl_loop_age_seconds": ("loop",)}
        """Of each family, by its name."""
        self._events = self._made(
            Counter,
            "sessionctl_session_events",
            "What happened to sessions, by kind of event; each is counted by the manager that recorded it.",
            "kind",
        )
        self._starts = self._made(
            Histogram,
            "sessionctl_start_seconds",
            "From the wake to the ready pod, by the clock of Redis.",
            buckets=_START_SECONDS,
        )
        self._helm = self._made(
            Histogram, "sessionctl_helm_seconds", "Runs of Helm.", "verb", "failed", buckets=_HELM_SECONDS
        )
        self._loops = self._made(
            Histogram,
            "sessionctl_loop_seconds",
            "Passes of the background loops.",
            "loop",
            "failed",
            buckets=_LOOP_SECONDS,
        )
        self._ages = _LoopAges(clock)
        self.registry.register(self._ages)
        self._health = self._made(
            Gauge,
            "sessionctl_dependency_up",
            "Whether something the manager needs answers: 1 or 0; 0 until it was asked.",
            "dependency",
        )
        self._sessions = self._made(
            Gauge, "sessionctl_sessions", "Sessions by status; every manager tells of all.", "status"
        )
        self._waiting = self._made(
            Gauge,
            "sessionctl_messages_waiting",
            "Chats and other demand in the lists of awake sessions; every manager tells of all.",
        )
        self._messages = self._made(
            Counter,
            "sessionctl_messages",
            "Chats that were delivered or given up, by outcome; each is counted by the manager that ended it.",
            "outcome",
        )
        self._deliveries = self._made(
            Gauge, "sessionctl_deliveries", "Sessions whose chats this manager is delivering."
        )
        self._requests_total = self._made(
            Counter, "sessionctl_http_requests", "Requests of the Session API.", "method", "route", "status"
        )
        self._requests = self._made(
            Histogram,
            "sessionctl_http_request_seconds",
            "Requests of the Session API, from their head to the end of the answer.",
            "method",
            "route",
            "status",
            buckets=_REQUEST_SECONDS,
        )
        self._routes: set[str] = set()
        # A series that appears with its first value has no rate before its second: alerts would miss the first.
        for kind in EventKind:
            self._events.labels(kind)
        for outcome in MessageOutcome:
            self._messages.labels(outcome)
        for dependency in Dependency:
            self._health.labels(dependency)

    def _made(self, make: Callable[..., Made], name: str, text: str, *labels: str, **options: object) -> Made:
        self.labels[name] = labels
        return make(name, text, labels, registry=self.registry, **options)

    def count(self, kind: EventKind) -> None:
        """See ``ports.Metrics``."""
        self._events.labels(kind).inc()

    def observe_start(self, seconds: float) -> None:
        """See ``ports.Metrics``."""
        self._starts.observe(seconds)

    def observe_helm(self, verb: str, seconds: float, *, failed: bool) -> None:
        """See ``ports.Metrics``."""
        self._helm.labels(verb if verb in _VERBS else _OTHER, _word(failed)).observe(seconds)

    def loop_ended(self, loop: Loop, seconds: float, *, failed: bool) -> None:
        """See ``ports.Metrics``."""
        if loop not in _WAITING:
            self._loops.labels(loop, _word(failed)).observe(seconds)
        if not failed:
            self._ages.succeeded(loop)

    def set_health(self, dependency: Dependency, *, healthy: bool) -> None:
        """See ``ports.Metrics``."""
        self._health.labels(dependency).set(int(healthy))

    def set_sessions(self, counts: Mapping[SessionStatus, int], waiting: int) -> None:
        """See ``ports.Metrics``."""
        for status in SessionStatus:
            self._sessions.labels(status).set(counts.get(status, 0))
        self._waiting.set(waiting)

    def count_message(self, outcome: MessageOutcome) -> None:
        """See ``ports.Metrics``."""
        self._messages.labels(outcome).inc()

    def set_deliveries(self, sessions: int) -> None:
        """See ``ports.Metrics``."""
        self._deliveries.set(sessions)

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """See ``ports.Metrics``."""
        if route not in self._routes and len(self._routes) >= _MOST_ROUTES:
            route = _OTHER
        self._routes.add(route)
        labels = (method if method in _METHODS else _OTHER, route, str(status))
        self._requests.labels(*labels).observe(seconds)
        self._requests_total.labels(*labels).inc()

    def render(self) -> tuple[bytes, str]:
        """See ``ports.Metrics``."""
        return generate_latest(self.registry), CONTENT_TYPE_LATEST


def _word(flag: bool) -> str:  # noqa: FBT001 - of a label
    return "true" if flag else "false"
