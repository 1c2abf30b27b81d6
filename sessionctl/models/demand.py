"""What Redis holds, and what its scripts answer."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from sessionctl.models.basics import Owner
    from sessionctl.models.events import MessageOutcome


@dataclass(frozen=True)
class Record:
    """``session:<uuid>`` of Redis: can be rebuilt from the cluster at any time."""

    owner: Owner
    last_active: int
    """Milliseconds since the epoch by the clock of Redis."""
    released_at: int | None = None
    woken_at: int = 0
    """The newest wake that has to patch the Deployment, whether or not its patch is there yet."""


@dataclass(frozen=True)
class Queue:
    """What the demand list holds: our own entry, chats our enqueue recorded, and demand from outside."""

    awake: int
    chats: int
    outside: int

    @property
    def length(self) -> int:
        """The number KEDA compares with zero."""
        return self.awake + self.chats + self.outside


@dataclass(frozen=True)
class Woken:
    """Answer of the wake script: ``patch`` says that the Deployment has to be patched whatever it shows."""

    fresh: bool
    last_active: int


class ReleaseOutcome(StrEnum):
    """Answers of the release script (DESIGN 5)."""

    RELEASED = "released"
    ADOPTED = "adopted"
    ACTIVE = "active"
    WAITING = "waiting"
    GATED = "gated"
    UNKNOWN = "unknown"


class EnqueueOutcome(StrEnum):
    """Answers of the enqueue script beyond the wake it contains."""

    ADDED = "added"
    KNOWN = "known"
    FULL = "full"
    TENANT_FULL = "tenant-full"
    """As many bytes as may wait for all sessions of its tenant."""


@dataclass(frozen=True)
class Enqueued:
    """Answer of the enqueue script."""

    outcome: EnqueueOutcome
    woken: Woken
    event_id: str = ""
    """Of its ``message-queued`` event: everything that happens to the message comes after it."""
    ended: MessageOutcome | None = None
    """A message that is known, and had this outcome already."""


@dataclass(frozen=True)
class Epoch:
    """Whose demand has been restored: open when ``value`` is the run id of the Redis that answers."""

    run_id: str
    value: str

    @property
    def is_open(self) -> bool:
        """Whether sessions may be put to sleep."""
        return self.value == self.run_id


@dataclass(frozen=True)
class RedisEndpoint:
    """How to reach the platform's Redis; the password is never printed."""

    host: str
    port: int
    database: int
    tls: bool
    username: str
    password: str
    keda_username: str

    def __repr__(self) -> str:
        """Leave the password out of logs and tracebacks."""
        return f"RedisEndpoint({self.host}:{self.port}/{self.database}, user {self.username})"


@dataclass(frozen=True)
class WaitingMessage:
    """A chat that is in the demand list."""

    message_id: str
    message: str
    running: bool = False


@dataclass(frozen=True)
class RateLimit:
    """So many requests a second, and so many at once (GCRA); ``key`` names who is limited."""

    key: str
    rate: float
    burst: int


@dataclass(frozen=True)
class Remembered:
    """What an idempotency key is bound to; ``fresh`` says that this call bound it."""

    value: str
    fingerprint: str
    fresh: bool
