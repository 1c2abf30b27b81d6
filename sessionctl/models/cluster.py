"""What the cluster holds of a session, and of Helm's releases."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Generic, TypeVar

if TYPE_CHECKING:
    from datetime import datetime

    from sessionctl.models.basics import Owner, SessionId

Item = TypeVar("Item")


@dataclass(frozen=True, slots=True)
class Workspace:
    """A session's Deployment as the API server showed it; the defaults are those of one that Helm just made."""

    session_id: SessionId
    owner: Owner
    resource_version: str = ""
    replicas: int = 0
    ready_replicas: int = 0
    keeps_volume: bool = True
    woken_at: int | None = None
    slept_at: int | None = None
    deleted_at: datetime | None = None
    purge: bool = False
    available_since: datetime | None = None
    """When the deployment controller last saw as many ready pods as are wanted; also set where none is wanted."""
    unavailable_since: datetime | None = None
    """Since when it has seen too few; one of the two is None."""
    create_failure: str = ""
    """Why no pod can be made: a quota, or an admission controller."""
    failed: str | None = None
    """Why its last start was given up; cleared by the next wake."""

    @property
    def is_starting(self) -> bool:
        """Whether it should be awake and has no ready pod."""
        return self.replicas > 0 and self.ready_replicas == 0 and self.deleted_at is None


@dataclass(frozen=True, slots=True)
class Volume:
    """A session's PersistentVolumeClaim with all that ``restore`` needs."""

    session_id: SessionId
    owner: Owner
    values: str
    deleted_at: datetime | None
    purge: bool
    being_removed: bool
    size: str = ""
    storage_class: str = ""
    access_mode: str = ""
    phase: str = ""
    """Kubernetes's word: Pending, Bound, or Lost when the PersistentVolume behind it is gone."""
    resource_version: str = ""


@dataclass(frozen=True, slots=True)
class Container:
    """What the kubelet says of one container of a pod; the exit is the present or else the last one."""

    name: str
    image: str
    running: bool = False
    started: bool = False
    """Whether it has been ready since it runs: its agent answered once."""
    waiting: str = ""
    """The kubelet's word for why it does not run, such as ImagePullBackOff."""
    message: str = ""
    restarts: int = 0
    exit_code: int | None = None
    exit_reason: str = ""


@dataclass(frozen=True, slots=True)
class Pod:
    """A session's pod, with what may keep it from being ready."""

    name: str
    created_at: datetime
    session_id: SessionId
    is_over: bool = False
    """Evicted, refused by its node, or run to its end: it never runs again."""
    ending: bool = False
    scheduled: bool = False
    ready: bool = False
    unschedulable: str = ""
    """The scheduler's message."""
    ended_by: str = ""
    """Why its node ended or refused it."""
    containers: tuple[Container, ...] = ()


@dataclass(frozen=True, slots=True)
class Scaler:
    """A session's ScaledObject: whether KEDA watches it."""

    session_id: SessionId
    resource_version: str
    ready: bool
    nudged: bool
    last_active: datetime | None = None
    """When KEDA last saw demand, in whole seconds of its clock: each look that sees some moves it."""


@dataclass(frozen=True, slots=True)
class Trouble:
    """What a warning event of the cluster says of one object."""

    name: str
    """Of the event itself."""
    about_kind: str
    about_name: str
    text: str
    seen_at: datetime

    @property
    def order(self) -> tuple[datetime, str]:
        """Of all that is said of one object, what has the greatest order counts; times are whole seconds mostly."""
        return self.seen_at, self.name


@dataclass(frozen=True, slots=True)
class WatchEvent(Generic[Item]):
    """One step of a watch: a whole list (``listed``), a changed object, or a deleted one.

    With none of the three it says that nothing has changed until now.
    """

    listed: tuple[Item, ...] | None = None
    changed: Item | None = None
    deleted: Item | None = None


@dataclass(frozen=True)
class PlatformDocuments:
    """What the platform release leaves in the cluster for its tools, as text."""

    namespace: str
    config: str
    platform: str


class ReleaseStatus(StrEnum):
    """Helm's own release states (helm ``pkg/release/common``)."""

    UNKNOWN = "unknown"
    DEPLOYED = "deployed"
    UNINSTALLED = "uninstalled"
    SUPERSEDED = "superseded"
    FAILED = "failed"
    UNINSTALLING = "uninstalling"
    PENDING_INSTALL = "pending-install"
    PENDING_UPGRADE = "pending-upgrade"
    PENDING_ROLLBACK = "pending-rollback"


@dataclass(frozen=True)
class Release:
    """The newest revision of a session's Helm release."""

    session_id: SessionId
    status: ReleaseStatus
    revision: int
    updated_at: datetime
    chart: str
