"""Wake and sleep: Redis first, then one patch of the Deployment (DESIGN 5)."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING, Final, TypeVar

from sessionctl.errors import (
    ClusterError,
    ConflictError,
    DemandGateClosedError,
    ForbiddenError,
    NotFoundError,
    QueueFullError,
    StoreError,
    UnavailableError,
)
from sessionctl.models import EnqueueOutcome, EventKind, MessageOutcome, ReleaseOutcome

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sessionctl.core.journal import Journal
    from sessionctl.core.quotas import Quotas
    from sessionctl.models import Enqueued, Record, SessionId, Woken, Workspace
    from sessionctl.ports import Clock, Cluster, ClusterView, Store

SLEEP_ATTEMPTS: Final = 5
"""The status of a Deployment that is just starting moves its resource version several times."""


PATCH_PATIENCE: Final = timedelta(seconds=30)
"""So long the patch of a wake may be on its way: as long as those of a release are waited for (``FRESH_MS``)."""
FULL_RETRY_SECONDS: Final = 5.0
_MILLISECOND: Final = timedelta(milliseconds=1)

Answer = TypeVar("Answer")


def unknown_session(session_id: SessionId) -> NotFoundError:
    """Return the error for a session that neither Redis nor the cluster knows."""
    return NotFoundError(f"there is no session {session_id}", hint="See: sessionctl list")


def deleted_session(session_id: SessionId) -> ConflictError:
    """Return the error for a session that is being deleted."""
    msg = f"session {session_id} is deleted"
    return ConflictError(msg, hint=f"Undo it with: sessionctl restore {session_id}")


def _woken_meanwhile(session_id: SessionId) -> ConflictError:
    msg = f"session {session_id} was woken or changed meanwhile"
    return ConflictError(msg, hint=f"If it should sleep all the same: sessionctl sleep {session_id}")


def _nobody(_: SessionId) -> None:
    """Whoever delivers chats in another process finds them by itself."""


class DemandService:
    """Changes whether one session should be awake; ``tell`` hears of every session that a chat waits for.

    ``tenant_bytes`` of messages may wait for all sessions of a tenant; 0 is no limit.
    """

    def __init__(
        self,
        cluster: Cluster,
        store: Store,
        clock: Clock,
        journal: Journal,
        quotas: Quotas | None = None,
        *,
        hold: timedelta,
        view: ClusterView | None = None,
        tenant_bytes: int = 0,
        tell: Callable[[SessionId], None] = _nobody,
    ) -> None:
        """Make it; ``view`` is what a session that is awake is seen in, the cluster itself where there is none."""
        self._cluster = cluster
        self._view = view or cluster
        self._store = store
        self._clock = clock
        self._journal = journal
        self._quotas = quotas
        self._hold = hold
        self._tenant_bytes = tenant_bytes
        self._tell = tell

    async def wake(self, session_id: SessionId) -> str | None:
        """Wake the session; idempotent.

        Returns None, or a sentence when the cluster did not take the patch: the demand is stored, and KEDA or the
        watch guard wakes the session. Raises NotFoundError, ConflictError (deleted), QuotaExceededError and StoreError.
        """
        await self._admit(session_id)
        return (await self._wake(session_id))[1]

    async def meet_demand(self, workspace: Workspace) -> bool:
        """Wake a session that was seen asleep with demand in its list; returns whether the cluster was asked to.

        Raises as ``wake`` does.
        """
        patched, _ = await self._wake(workspace.session_id, guard=workspace)
        return patched

    async def _admit(self, session_id: SessionId) -> None:
        """Raise QuotaExceededError before anything is stored: demand that is stored is met."""
        if self._quotas is not None:
            await self._quotas.admit_wake(session_id)

    async def _wake(self, session_id: SessionId, guard: Workspace | None = None) -> tuple[bool, str | None]:
        woken: Woken = await self._with_record(session_id, lambda: self._store.wake(session_id))
        patched, notice = await self._patch(session_id, woken)
        # After the patch: nobody who wants to be woken waits for history.
        if patched and guard is not None:
            # Every manager's guard sees the same sleep, though perhaps another version of the object.
            once = f"{guard.woken_at}/{guard.slept_at}"
            self._journal.note(session_id, EventKind.GUARD_WOKEN, "it slept against its demand", once=once)
        elif patched:
            self._journal.note(session_id, EventKind.WOKEN)
        return patched, notice

    async def enqueue(
        self, session_id: SessionId, message_id: str, message: str, max_waiting: int
    ) -> tuple[Enqueued, str | None]:
        """Store a chat, once per message id, and wake its session; otherwise as ``wake``.

        Returns what was stored, and the sentence of ``wake``. Raises QueueFullError too, when ``max_waiting`` messages
        wait already, or as many bytes as its tenant may have waiting.
        """
        await self._admit(session_id)
        done = await self._with_record(
            session_id,
            lambda: self._store.enqueue(
                session_id, message_id, message, max_waiting, self._hold, tenant_bytes=self._tenant_bytes
            ),
        )
        if done.outcome is EnqueueOutcome.FULL:
            msg = f"as many messages as may wait for session {session_id} wait already"
            raise QueueFullError(msg, retry_after=FULL_RETRY_SECONDS)
        if done.outcome is EnqueueOutcome.TENANT_FULL:
            msg = f"messages of {self._tenant_bytes} bytes wait for all sessions of its tenant, as many as may"
            raise QueueFullError(msg, retry_after=FULL_RETRY_SECONDS)
        if done.ended is not None:
            # A repetition of long ago wakes nobody.
            return done, None
        # Whoever delivers need not wait for the patch, which a running pod does not need.
        self._tell(session_id)
        try:
            patched, notice = await self._patch(session_id, done.woken)
        except StoreError as error:
            # It is stored: whoever is told of a failure would send it again.
            patched, notice = False, f"stored; its session is woken by others ({error.message})"
        if patched:
            self._journal.note(session_id, EventKind.WOKEN, "by a message")
        return done, notice

    async def touch(self, workspace: Workspace, age: timedelta) -> None:
        """Record activity ``age`` ago of a workspace seen at replicas 1; does nothing for one seen asleep."""
        if workspace.replicas == 0:
            return
        woken = await self._with_record(workspace.session_id, lambda: self._store.touch(workspace.session_id, age))
        if woken.fresh:
            await self._patch(workspace.session_id, woken)

    async def sleep(self, session_id: SessionId, *, force: bool = False) -> None:
        """Put the session to sleep now, whatever its idle time; ``force`` cancels the messages that wait.

        Without ``force`` it does not overtake a wake whose patch may still be on its way.

        Raises NotFoundError, ConflictError (deleted, messages wait, or woken meanwhile) and DemandGateClosedError.
        """
        # Before the Deployment: a wake after this makes the release answer that somebody woke it.
        record = await self._recorded(session_id)
        first = await self._live(session_id)
        if force:
            await self._store.settle_waiting(session_id, MessageOutcome.CANCELLED, "its session was put to sleep")
        noted = first
        for _ in range(SLEEP_ATTEMPTS):
            if noted.woken_at != first.woken_at:
                break
            if not force:
                # A wake whose patch failed looks the same: whoever forces a sleep need not wait until that is certain.
                await self._require_patched(noted, record)
            await self._release(session_id, record.woken_at)
            if noted.replicas == 0:
                return
            try:
                await self._cluster.sleep_workspace(
                    session_id, noted.resource_version, int(self._clock.now().timestamp() * 1000)
                )
            except ConflictError:
                noted = await self._live(session_id)
                continue
            self._journal.note(session_id, EventKind.SLEPT, "asked for")
            return
        # The release above may have taken the demand of whoever woke it: a running pod must not be left without.
        await self._wake(session_id)
        raise _woken_meanwhile(session_id)

    async def _recorded(self, session_id: SessionId) -> Record:
        record = await self._store.get_record(session_id)
        if record is None:
            await self.rebuild_record(session_id)
            record = await self._store.get_record(session_id)
        if record is None:
            raise deleted_session(session_id)
        return record

    async def _require_patched(self, workspace: Workspace, record: Record) -> None:
        """Raise ConflictError while the patch of the newest wake may be on its way.

        It would leave a pod that runs without demand, until KEDA's cooldown is over.
        """
        # Nobody woke it since its last release; a record that was rebuilt has both times of its rebuilding.
        if record.woken_at <= max(workspace.woken_at or 0, record.released_at or 0):
            return
        # Whoever died before its patch has left it to KEDA, which notes no time on the Deployment.
        age = await self._store.get_time() - record.woken_at
        if abs(age) < PATCH_PATIENCE / _MILLISECOND:
            raise _woken_meanwhile(workspace.session_id)

    async def _release(self, session_id: SessionId, woken_at: int) -> None:
        """Take the demand away, of this wake and none after it."""
        outcome = await self._store.release(session_id, timedelta(), force=True, woken_at=woken_at)
        match outcome:
            case ReleaseOutcome.RELEASED:
                return
            case ReleaseOutcome.ACTIVE:
                raise _woken_meanwhile(session_id)
            case ReleaseOutcome.WAITING:
                msg = f"session {session_id} has messages that wait or run"
                raise ConflictError(msg, hint="Let them end, or cancel them.")
            case ReleaseOutcome.GATED:
                msg = "Redis restarted and what it forgot is not restored yet: nothing may sleep"
                raise DemandGateClosedError(msg, hint="Run: sessionctl sweep")
            case _:
                msg = f"session {session_id} could not be released: {outcome}"
                raise ConflictError(msg, hint="Try again.")

    async def rebuild_record(self, session_id: SessionId) -> Workspace:
        """Write the session's record from the live object; raises NotFoundError and ConflictError (deleted)."""
        workspace = await self._live(session_id)
        if not await self._store.ensure_record(workspace):
            raise deleted_session(session_id)
        self._journal.note(session_id, EventKind.RECORD_REBUILT, "Redis had no record of it")
        return workspace

    async def _live(self, session_id: SessionId) -> Workspace:
        workspace = await self._cluster.find_workspace(session_id)
        if workspace is None:
            volume = await self._cluster.find_volume(session_id)
            raise unknown_session(session_id) if volume is None else deleted_session(session_id)
        if workspace.deleted_at is not None:
            raise deleted_session(session_id)
        return workspace

    async def _with_record(self, session_id: SessionId, script: Callable[[], Awaitable[Answer]]) -> Answer:
        try:
            return await script()
        except NotFoundError:
            await self.rebuild_record(session_id)
        return await script()

    async def _is_seen_awake(self, session_id: SessionId) -> bool:
        """Say whether the session is seen at replicas 1; the watch guard covers a view that is a moment behind."""
        view = self._view if self._view.stale_for() is None else self._cluster
        try:
            seen = await view.find_workspace(session_id)
        except UnavailableError:
            # It has not been filled yet.
            seen = await self._cluster.find_workspace(session_id)
        return seen is not None and bool(seen.replicas)

    async def _patch(self, session_id: SessionId, woken: Woken) -> tuple[bool, str | None]:
        """Return whether the Deployment was patched, and a sentence when it should have been."""
        try:
            if not woken.fresh:
                if await self._is_seen_awake(session_id):
                    return False, None
                # Whoever put it to sleep since the script ran may have taken the demand along.
                woken = await self._store.wake(session_id)
            await self._cluster.wake_workspace(session_id, woken.last_active)
        except (ClusterError, ForbiddenError, ConflictError) as error:
            # An API server that has just started refuses everybody until it has read its roles.
            return False, f"stored; it takes effect when the cluster is back ({error.message})"
        except NotFoundError:
            raise unknown_session(session_id) from None
        return True, None
