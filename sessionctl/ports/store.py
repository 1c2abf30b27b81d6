"""Redis: demand, records, the gate."""

from __future__ import annotations

from typing import TYPE_CHECKING, Protocol

from sessionctl.ports.chat import DispatchStore

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from datetime import timedelta

    from sessionctl.models import (
        CodeAnswer,
        Enqueued,
        Epoch,
        EventPage,
        Login,
        MessageOutcome,
        Queue,
        RateLimit,
        Record,
        ReleaseOutcome,
        Remembered,
        SessionEvent,
        SessionId,
        StoredEvent,
        WaitingMessage,
        Woken,
        Workspace,
    )


class DemandStore(Protocol):
    """The demand list of DESIGN 5: each method is one atomic script; all raise StoreError."""

    async def wake(self, session_id: SessionId) -> Woken:
        """Put ``awake`` in the list; raises NotFoundError without a record and ConflictError with a tombstone."""
        ...

    async def touch(self, session_id: SessionId, age: timedelta) -> Woken:
        """As wake, for activity ``age`` ago; only for a session whose Deployment is seen at 1."""
        ...

    async def enqueue(
        self, session_id: SessionId, message_id: str, message: str, max_waiting: int, hold: timedelta
    ) -> Enqueued:
        """Wake, append the message once per message id, and its event, which has its text, with it.

        It is full with ``max_waiting`` messages, and with as many times 40 KiB, though one may always wait. A message
        that finds the list empty is held for ``hold``: see ``NextMessage.hold_until``. The id of a message is
        remembered for the lifetime of an idempotency key after its end.
        """
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

    async def get_lengths(self, session_ids: Sequence[SessionId]) -> Sequence[int]:
        """Return how long each list is, with whatever it holds."""
        ...

    async def list_demanded(self, session_ids: Sequence[SessionId]) -> Sequence[SessionId]:
        """Return those whose list is not empty."""
        ...


class RecordStore(Protocol):
    """``session:<uuid>``, the index of users, and tombstones; all raise StoreError."""

    async def get_record(self, session_id: SessionId) -> Record | None:
        """Read one record."""
        ...

    async def has_record(self, session_id: SessionId) -> bool:
        """Whether anything stands in the record's place, readable or not."""
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
        """Write the tombstone and remove record, demand and index entry in one step; waiting chats are cancelled."""
        ...

    async def bury_unwanted(
        self, session_id: SessionId, owner_tenant: str, owner_user: str, retention: timedelta
    ) -> bool:
        """As ``bury``, but only for a session with a record and without demand or tombstone, while the gate is open.

        Of it and a wake, one comes first: either the wake is refused, or this does nothing and answers False.
        """
        ...

    async def get_burial_age(self, session_id: SessionId) -> timedelta | None:
        """Return how long ago the tombstone was written, by the clock of Redis; None when there is none."""
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


class EventStore(Protocol):
    """``events:<uuid>``: what happened to a session, in order; all raise StoreError."""

    async def append_event(self, event: SessionEvent) -> str | None:
        """Append one event and return its id; None when an event of its kind with the same ``once`` is there already.

        The stream is capped by length and by bytes; it outlives a delete by the retention time.
        """
        ...

    async def list_events(self, session_id: SessionId, after: str | None, limit: int) -> Sequence[StoredEvent]:
        """Return the events after one id (None: from the oldest there is), oldest first.

        Fewer than ``limit``, or none, only when there are no more. Raises InvalidRequestError for what is no id.
        """
        ...

    async def read_events(self, session_id: SessionId, after: str, limit: int) -> EventPage:
        """Return the next page after one id, and where the stream stands; for whoever follows it."""
        ...

    async def wait_events(self, after: Mapping[SessionId, str], patience: timedelta) -> Sequence[StoredEvent]:
        """Return what comes after these ids, of any of these sessions; empty when nothing comes in time.

        One blocking read on a connection of its own, however many sessions.
        """
        ...


class MessageStore(Protocol):
    """Chats that wait in the demand list; all raise StoreError."""

    async def has_message(self, session_id: SessionId, message_id: str) -> bool:
        """Whether a message waits or runs; raises StoreError."""
        ...

    async def list_waiting(self, session_id: SessionId) -> Sequence[WaitingMessage]:
        """Return the chats in the demand list, in order."""
        ...

    async def settle_waiting(
        self, session_id: SessionId, outcome: MessageOutcome, reason: str, woken_at: int | None = None
    ) -> Sequence[str]:
        """Take all chats off the list, each with its one outcome as an event, in one step.

        Returns the ids of those that had no outcome before. With ``woken_at``, does nothing when the record's is
        another, because somebody has woken the session since it was read, nor while the gate is closed.
        """
        ...


class AccessStore(Protocol):
    """What expires by itself: rate limits, idempotency keys, one-time codes; all raise StoreError."""

    async def take(self, limits: Sequence[RateLimit]) -> timedelta | None:
        """Take one token of each limit (GCRA) or of none; returns how long to wait when one of them is used up."""
        ...

    async def remember(self, key: str, fingerprint: str, value: str, lifetime: timedelta) -> Remembered:
        """Bind ``value`` and the request's fingerprint to an idempotency key, unless it is bound already."""
        ...

    async def put_code(self, code: str, login: Login, state: str, lifetime: timedelta) -> None:
        """Keep a one-time login code; stored hashed.

        ``state`` names the browser it is for; empty, it becomes that of the first one which shows it.
        """
        ...

    async def open_code(self, code: str, session_id: SessionId, state: str, *, confirmed: bool) -> CodeAnswer:
        """Use a one-time login code of a session, once, in its browser.

        One that was made for no browser is opened only where its user has ``confirmed``, after it has been shown there
        without. ``state`` is never empty.
        """
        ...

    async def get_token_epoch(self, session_id: SessionId) -> int:
        """Return the number that a session's tokens must carry: this one, exactly.

        It is another one than before any revocation, any delete, and any loss of the record, which may have been the
        loss of a revocation. Without a record it is another one at every call, so that no token is valid; rebuild the
        record first. (A Redis that comes back with an older copy of its data forgets later revocations: a token is
        then valid again, until it expires.)
        """
        ...

    async def revoke_tokens(self, session_id: SessionId) -> int:
        """Make every token of the session invalid; returns the new epoch."""
        ...


class QuotaStore(Protocol):
    """How many sessions a user may have; raises StoreError."""

    async def reserve_session(self, session_id: SessionId, owner_tenant: str, owner_user: str, limit: int) -> bool:
        """Count the session in its user's index before it is made; False when the user has ``limit`` (0: no limit).

        Atomic: of calls at the same moment no more than allowed succeed. A reservation whose session was never made
        ends by itself.
        """
        ...

    async def cancel_reservation(self, session_id: SessionId, owner_tenant: str, owner_user: str) -> None:
        """Take a reservation back whose session was not made."""
        ...


class Store(
    DemandStore, RecordStore, GateStore, EventStore, MessageStore, DispatchStore, AccessStore, QuotaStore, Protocol
):
    """All of Redis."""
