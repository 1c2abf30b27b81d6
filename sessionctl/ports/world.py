"""Time, Helm, the agents, profiles."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import datetime

    from sessionctl.models import (
        Activity,
        ApiKey,
        Dependency,
        EventKind,
        JsonObject,
        JsonValue,
        Loop,
        MessageOutcome,
        Release,
        SessionId,
        SessionStatus,
        Workspace,
    )


class Clock(Protocol):
    """Wall clock and waiting, so that tests own time."""

    def now(self) -> datetime:
        """Time of day in UTC; for people to read, never to judge idleness by."""
        ...

    def monotonic(self) -> float:
        """Seconds that never go backwards."""
        ...

    async def sleep(self, seconds: float) -> None:
        """Wait."""
        ...


class Helm(Protocol):
    """The Helm command, on the sessions namespace; every method raises HelmError."""

    async def check(self) -> str:
        """Return Helm's version; refuse one that is missing or too old."""
        ...

    async def install(self, session_id: SessionId, values: Mapping[str, JsonValue]) -> None:
        """Install the session's release; raises ConflictError when the name is in use."""
        ...

    async def upgrade(self, session_id: SessionId, values: Mapping[str, JsonValue]) -> None:
        """Upgrade the release to the chart in use; raises ConflictError when the session moved meanwhile."""
        ...

    async def uninstall(self, session_id: SessionId) -> None:
        """Remove the release; succeeds when it is not there."""
        ...

    async def get_values(self, session_id: SessionId) -> JsonObject:
        """Return the values the release was given; raises NotFoundError."""
        ...

    async def find_release(self, session_id: SessionId) -> Release | None:
        """Return the session's release in whatever state it is."""
        ...

    async def list_releases(self) -> Sequence[Release]:
        """Return every session's release. Reads all release Secrets: never on a request path."""
        ...


class ActivityProbe(Protocol):
    """Asks a workspace what goes on in it."""

    async def ask(self, workspace: Workspace) -> Activity | None:
        """Return its activity; None when there is no answer, whatever the cause: never raises."""
        ...


class EditorProbe(Protocol):
    """Asks whether a session's editor is there."""

    async def answers(self, session_id: SessionId) -> bool:
        """Whether the editor answers, as it would answer the router: never raises."""
        ...


class ProfileRenderer(Protocol):
    """Turns a profile into values of the session chart."""

    def render(self, profile: str, context: Mapping[str, str]) -> JsonObject:
        """Render ``profiles/<name>.yaml.j2``; raises NotFoundError or ConfigurationError."""
        ...

    def names(self) -> Sequence[str]:
        """Return the profiles there are."""
        ...


class KeySource(Protocol):
    """Where the API keys come from."""

    async def load(self) -> Sequence[ApiKey]:
        """Read all keys; raises ConfigurationError. Read again and again: keys change while the manager runs."""
        ...


class KeyVault(Protocol):
    """Where API keys are kept for the managers to read; every method raises ClusterError and ForbiddenError."""

    async def read(self) -> tuple[Mapping[str, str], str]:
        """Return the entries by key id, and the version of the whole; raises ConfigurationError without a vault."""
        ...

    async def write(self, key_id: str, entry: str | None, version: str) -> None:
        """Set or remove one entry; raises ConflictError when the vault no longer has this version."""
        ...


class Metrics(Protocol):
    """Counts and measures, for whoever watches the platform; never raises. ``adapters.metrics`` names them."""

    def count(self, kind: EventKind) -> None:
        """Count one event of a session."""
        ...

    def observe_start(self, seconds: float) -> None:
        """Measure one start, from the wake to the ready pod."""
        ...

    def observe_helm(self, verb: str, seconds: float, *, failed: bool) -> None:
        """Measure one run of Helm."""
        ...

    def loop_ended(self, loop: Loop, seconds: float, *, failed: bool) -> None:
        """Measure one pass of a background loop; the age of its last good pass is derived from it."""
        ...

    def set_health(self, dependency: Dependency, *, healthy: bool) -> None:
        """Note whether something the manager needs answers."""
        ...

    def set_sessions(self, counts: Mapping[SessionStatus, int], waiting: int) -> None:
        """Note how many sessions are in which state, and how many messages wait."""
        ...

    def count_message(self, outcome: MessageOutcome) -> None:
        """Count one message that was delivered, or given up, by its outcome."""
        ...

    def set_deliveries(self, sessions: int) -> None:
        """Note of how many sessions this process delivers the chats."""
        ...

    def observe_request(self, method: str, route: str, status: int, seconds: float) -> None:
        """Measure one request; ``route`` is the template, never the path itself."""
        ...

    def render(self) -> tuple[bytes, str]:
        """Return the metrics in the format Prometheus reads, and its content type."""
        ...
