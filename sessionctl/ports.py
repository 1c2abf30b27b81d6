"""What core needs of the world. Adapters implement these; nothing here knows how."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Mapping, Sequence
    from datetime import datetime, timedelta

    from sessionctl.models import (
        Activity,
        Enqueued,
        Epoch,
        JsonObject,
        JsonValue,
        Pod,
        Queue,
        Record,
        Release,
        ReleaseOutcome,
        Scaler,
        SessionId,
        Volume,
        WatchEvent,
        Woken,
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


class Cluster(Protocol):
    """The sessions namespace of a Kubernetes cluster; every method raises ClusterError."""

    async def find_workspace(self, session_id: SessionId) -> Workspace | None:
        """Read the session's Deployment from the API server."""
        ...

    async def list_workspaces(self) -> Sequence[Workspace]:
        """Read every session's Deployment from the API server, not from a cache."""
        ...

    def watch_workspaces(self, session_id: SessionId | None = None) -> AsyncGenerator[WatchEvent[Workspace], None]:
        """Follow all sessions or one: each (re)list as one event, then the changes; ends with an error of the watch."""
        ...

    async def wake_workspace(self, session_id: SessionId, woken_at: int) -> None:
        """Patch replicas to 1 with a unique ``woken-at``, and forget a failure; raises NotFoundError."""
        ...

    async def sleep_workspace(
        self, session_id: SessionId, resource_version: str, slept_at: int, *, failed: str | None = None
    ) -> None:
        """Patch replicas to 0 if the object still is the one noted; raises ConflictError if not.

        ``failed`` is why its start was given up, remembered until the next wake.
        """
        ...

    async def clear_failure(self, session_id: SessionId) -> None:
        """Forget why an earlier start was given up; does nothing when the session is gone."""
        ...

    async def list_pods(self, session_id: SessionId) -> Sequence[Pod]:
        """Read the session's pods, ending ones included."""
        ...

    async def find_trouble(self, kind: str, name: str) -> str | None:
        """Return what events last said of one object. Scans the events of the namespace: only when in doubt."""
        ...

    async def mark_workspace_slept(self, session_id: SessionId, slept_at: int) -> None:
        """Note that the session was awake once and forget a failure, without touching its replicas."""
        ...

    async def mark_workspace_deleted(self, session_id: SessionId, at: datetime, *, purge: bool) -> None:
        """Annotate the Deployment; does nothing when it is gone."""
        ...

    async def find_volume(self, session_id: SessionId) -> Volume | None:
        """Read the session's PersistentVolumeClaim."""
        ...

    async def list_volumes(self) -> Sequence[Volume]:
        """Read the volumes of all sessions, deleted ones included."""
        ...

    async def mark_volume_deleted(self, session_id: SessionId, at: datetime, *, purge: bool) -> None:
        """Annotate the volume; does nothing when it is gone."""
        ...

    async def clear_volume_deleted(self, session_id: SessionId) -> None:
        """Take those annotations off again."""
        ...

    async def remove_volume(self, session_id: SessionId) -> None:
        """Delete the volume and its files; succeeds when it is gone."""
        ...

    async def find_scaler(self, session_id: SessionId) -> Scaler | None:
        """Read the session's ScaledObject."""
        ...

    async def list_scalers(self) -> Sequence[Scaler]:
        """Read every session's ScaledObject."""
        ...

    async def nudge_scaler(self, scaler: Scaler) -> None:
        """Toggle ``force-activation`` between absent and "false", which makes KEDA look at once."""
        ...

    async def drop_release_revision(self, session_id: SessionId, revision: int) -> None:
        """Remove the record of a pending revision, so that Helm accepts an upgrade again."""
        ...

    async def list_leftovers(self, session_id: SessionId) -> Sequence[str]:
        """Name every object that carries the session's label, as ``kind/name``."""
        ...


class DemandStore(Protocol):
    """The demand list of DESIGN 5: each method is one atomic script; all raise StoreError."""

    async def wake(self, session_id: SessionId) -> Woken:
        """Put ``awake`` in the list; raises NotFoundError without a record and ConflictError with a tombstone."""
        ...

    async def touch(self, session_id: SessionId, age: timedelta) -> Woken:
        """As wake, for activity ``age`` ago; only for a session whose Deployment is seen at 1."""
        ...

    async def enqueue(self, session_id: SessionId, message_id: str, message: str, max_waiting: int) -> Enqueued:
        """Wake, and append the message once per message id."""
        ...

    async def release(self, session_id: SessionId, release_after: timedelta, *, force: bool) -> ReleaseOutcome:
        """Take the session's own demand away if nobody works."""
        ...

    async def give_up(self, session_id: SessionId, woken_at: int) -> ReleaseOutcome:
        """Take all demand but waiting chats away, because the pod does not start.

        Answers ``active`` when the record's ``woken_at`` is another: somebody woke the session since it was read.
        """
        ...

    async def get_time(self) -> int:
        """Read the clock of Redis, in milliseconds since the epoch."""
        ...

    async def get_queue(self, session_id: SessionId) -> Queue:
        """Say what the list holds."""
        ...

    async def list_demanded(self, session_ids: Sequence[SessionId]) -> Sequence[SessionId]:
        """Return those whose list is not empty."""
        ...


class RecordStore(Protocol):
    """``session:<uuid>``, the index of users, and tombstones; all raise StoreError."""

    async def get_record(self, session_id: SessionId) -> Record | None:
        """Read one record."""
        ...

    async def get_idle_times(self, session_ids: Sequence[SessionId]) -> Sequence[timedelta | None]:
        """Return the age of each session's last activity by the clock of Redis; None without a record."""
        ...

    async def ensure_record(self, workspace: Workspace) -> bool:
        """Write the record if there is none; False when a tombstone forbids it."""
        ...

    async def list_record_ids(self) -> Sequence[SessionId]:
        """Return the sessions that have a record."""
        ...

    async def bury(self, session_id: SessionId, owner_tenant: str, owner_user: str, retention: timedelta) -> None:
        """Write the tombstone and remove record, demand and index entry in one step."""
        ...

    async def unbury(self, workspace: Workspace) -> None:
        """Remove the tombstone and write the record in one step."""
        ...


class GateStore(Protocol):
    """Whose demand has been restored, and KEDA's access (DESIGN 5, the gate); all raise StoreError."""

    async def get_epoch(self) -> Epoch:
        """Read the epoch and the run id of the Redis that answers."""
        ...

    async def admit_keda(self) -> bool:
        """Switch KEDA's user on if the gate is open, in one transaction, on one connection, without retry."""
        ...

    async def shut_out_keda(self) -> None:
        """Switch KEDA's user off and end its connections."""
        ...

    async def begin_restore(self, run_id: str) -> str | None:
        """Set or join the token of this run's restore; None when Redis restarted meanwhile."""
        ...

    async def restore(self, token: str, workspace: Workspace) -> bool:
        """Write one session's record, and its demand if it is awake; False when the token is no longer current."""
        ...

    async def open_gate(self, token: str) -> bool:
        """Replace the token by the run id; False when it is no longer current."""
        ...


class Store(DemandStore, RecordStore, GateStore, Protocol):
    """All of Redis."""


class ActivityProbe(Protocol):
    """Asks a workspace what goes on in it."""

    async def ask(self, workspace: Workspace) -> Activity | None:
        """Return its activity; None when there is no answer, whatever the cause: never raises."""
        ...


class ProfileRenderer(Protocol):
    """Turns a profile into values of the session chart."""

    def render(self, profile: str, context: Mapping[str, str]) -> JsonObject:
        """Render ``profiles/<name>.yaml.j2``; raises NotFoundError or ConfigurationError."""
        ...

    def names(self) -> Sequence[str]:
        """Return the profiles there are."""
        ...
