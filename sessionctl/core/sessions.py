"""Create, delete and restore: what makes and ends a session. Each step may be the last; ``reconcile`` goes on."""

from __future__ import annotations

import asyncio
from contextlib import nullcontext
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.core.demand import deleted_session, unknown_session
from sessionctl.core.identity import new_session_id
from sessionctl.errors import ConflictError, InProgressError, NotFoundError, SessionctlError, StoreError
from sessionctl.models import EventKind, Owner, ReleaseStatus, Workspace

if TYPE_CHECKING:
    from collections.abc import Callable
    from datetime import datetime

    from sessionctl.core.journal import Journal
    from sessionctl.core.quotas import Quotas
    from sessionctl.core.releases import ReleaseService
    from sessionctl.core.waiting import Waiter
    from sessionctl.models import JsonObject, SessionId, Volume
    from sessionctl.ports import Clock, Cluster, Store

PURGED_TOMBSTONE: Final = timedelta(minutes=10)
"""After a purge the tombstone only has to outlive operations that were under way."""


@dataclass(frozen=True)
class NewSession:
    """What a session is made from; ``session_id`` makes the call repeatable."""

    user_id: str
    tenant: str
    profile: str
    session_id: SessionId | None = None


@dataclass(frozen=True)
class MadeSession:
    """A session that create made, or found made."""

    session_id: SessionId
    owner: Owner


class SessionService:
    """Makes and ends sessions."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        releases: ReleaseService,
        waiter: Waiter,
        journal: Journal,
        clock: Clock,
        retention: timedelta,
        progress: Callable[[str], None],
        quotas: Quotas | None = None,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._releases = releases
        self._waiter = waiter
        self._journal = journal
        self._clock = clock
        self._retention = retention
        self._progress = progress
        self._quotas = quotas

    async def create(self, request: NewSession) -> MadeSession:
        """Make a session, asleep; with a given id the call may be repeated.

        Raises NotFoundError (profile), ConflictError (the id belongs to somebody else, or somebody is making it),
        QuotaExceededError, InvalidRequestError (values), HelmError, ClusterError and StoreError; after any of them
        nothing is left of what this call made.
        """
        session_id = request.session_id or new_session_id()
        owner = Owner(request.user_id, request.tenant, request.profile, self._clock.now())
        if request.session_id and (present := await self._find_own(session_id, owner)):
            return present
        values = self._releases.values_for(session_id, owner)
        await self._releases.check_helm()
        async with self._quotas.making(session_id, owner) if self._quotas else nullcontext():
            self._progress("installing the release")
            await self._install(session_id, owner, values)
        self._progress("writing the record")
        try:
            await self._write_record(session_id, owner)
        except StoreError as error:
            # The session is complete in the cluster; the record is rebuilt at its first use.
            self._progress(f"the record is written at the first use ({error.message})")
        # After the record, on its connection: nobody waits for it, and it costs no connection of its own.
        self._journal.note(session_id, EventKind.CREATED, f"of profile {owner.profile}")
        return MadeSession(session_id, owner)

    async def _write_record(self, session_id: SessionId, owner: Owner) -> None:
        workspace = Workspace(session_id=session_id, owner=owner)
        if not await self._store.ensure_record(workspace):
            # The id was purged some minutes ago, and its tombstone lives on.
            await self._store.unbury(workspace)

    async def _install(self, session_id: SessionId, owner: Owner, values: JsonObject) -> None:
        """Install the release and, meanwhile, see whether Redis is there: without it nothing is made."""
        installing = asyncio.create_task(self._install_or_undo(session_id, owner, values))
        try:
            await self._store.get_epoch()
        except StoreError:
            await installing
            await self._undo(session_id, owner)
            raise
        except BaseException:
            installing.cancel()
            await asyncio.wait([installing])
            raise
        await installing

    async def _install_or_undo(self, session_id: SessionId, owner: Owner, values: JsonObject) -> None:
        try:
            await self._releases.install(session_id, values)
        except ConflictError as error:
            msg = f"session {session_id} is being made"
            raise InProgressError(msg, hint="Try again in a moment.") from error
        except (SessionctlError, asyncio.CancelledError):
            await self._undo(session_id, owner)
            raise

    async def _undo(self, session_id: SessionId, owner: Owner) -> None:
        self._progress("undoing")
        try:
            if await self._is_ours(session_id, owner):
                await self._releases.discard(session_id)
        except SessionctlError as failure:
            # The caller has to hear why the session was not made; reconcile goes on with what is left of it.
            self._progress(f"not undone ({failure.message}); run: sessionctl reconcile")

    async def _is_ours(self, session_id: SessionId, owner: Owner) -> bool:
        """Whether what there is of the session comes from this call, not from another one with the same id."""
        volume = await self._cluster.find_volume(session_id)
        present = await self._cluster.find_workspace(session_id) or volume
        return present is None or present.owner.created_at == owner.created_at

    async def _find_own(self, session_id: SessionId, owner: Owner) -> MadeSession | None:
        workspace = await self._cluster.find_workspace(session_id)
        volume = await self._cluster.find_volume(session_id)
        present = workspace or volume
        if present is None:
            return None
        if (present.owner.user_id, present.owner.tenant) != (owner.user_id, owner.tenant):
            msg = f"session {session_id} exists already and belongs to somebody else"
            raise ConflictError(msg, hint="Leave --uuid out; a fresh one is made.")
        if present.deleted_at is not None:
            raise deleted_session(session_id)
        release = await self._releases.find(session_id)
        if workspace is None or release is None or release.status is not ReleaseStatus.DEPLOYED:
            msg = f"session {session_id} is being made, or its making was cut off"
            raise InProgressError(msg, hint="Try again in a moment; after an interruption run: sessionctl reconcile")
        return MadeSession(session_id, present.owner)

    async def delete(self, session_id: SessionId, *, purge: bool, kind: EventKind = EventKind.DELETED) -> Volume | None:
        """Delete a session; its volume stays for the retention time unless ``purge``. Idempotent.

        Returns the volume that is kept. ``kind`` is how its history calls it. Raises NotFoundError for a session of
        which nothing is left.
        """
        workspace = await self._cluster.find_workspace(session_id)
        volume = await self._cluster.find_volume(session_id)
        present = workspace or volume
        if present is None:
            raise unknown_session(session_id)
        await asyncio.gather(self._store.get_epoch(), self._releases.check_helm())
        at = present.deleted_at or self._clock.now()
        # Deployment first: marked volume and unmarked Deployment is what a restore looks like (see reconcile).
        self._progress("marking")
        if workspace is not None:
            await self._cluster.mark_workspace_deleted(session_id, at, purge=purge)
        if volume is not None:
            at = volume.deleted_at or at
            await self._cluster.mark_volume_deleted(session_id, at, purge=purge)
        await self.finish_delete(session_id, present.owner, at, purge=purge, kind=kind)
        return None if purge else volume

    async def finish_delete(
        self,
        session_id: SessionId,
        owner: Owner,
        deleted_at: datetime,
        *,
        purge: bool,
        kind: EventKind = EventKind.DELETED,
    ) -> None:
        """Do what follows the marks; every step may be repeated."""
        await self._store.bury(session_id, owner.tenant, owner.user_id, PURGED_TOMBSTONE if purge else self._retention)
        self._progress("uninstalling the release")
        await self._releases.uninstall(session_id)
        if purge:
            self._progress("removing the volume")
            await self._cluster.remove_volume(session_id)
        detail = "its files are gone for good" if purge else "its files are kept"
        self._journal.note(session_id, kind, detail, once=f"{deleted_at.isoformat()}/{purge}")

    async def restore(self, session_id: SessionId) -> None:
        """Undo a delete within its retention: same id, same files, asleep. Idempotent.

        Raises NotFoundError when there is no volume any more and ConflictError while it is being purged.
        """
        workspace = await self._cluster.find_workspace(session_id)
        volume = await self._cluster.find_volume(session_id)
        if volume is None:
            if workspace is not None and workspace.deleted_at is None:
                return
            msg = f"session {session_id} cannot be restored: it has no volume"
            raise NotFoundError(msg, hint="It was purged, its retention ended, or it never existed.")
        if volume.purge or volume.being_removed:
            msg = f"session {session_id} is being purged"
            raise ConflictError(msg, hint="It cannot be brought back; create a new session.")
        await asyncio.gather(self._store.get_epoch(), self._releases.check_helm())
        release = await self._releases.find(session_id)
        whole = release is not None and release.status is ReleaseStatus.DEPLOYED
        if workspace is None or workspace.deleted_at is not None or not whole:
            if volume.deleted_at is None:
                msg = f"session {session_id} is not deleted, but not whole either"
                raise ConflictError(msg, hint="Run: sessionctl reconcile")
            # Its retention begins anew, so that nobody removes the volume meanwhile.
            await self._cluster.mark_volume_deleted(session_id, self._clock.now(), purge=False)
            await self._reinstall(session_id, volume)
        elif volume.deleted_at is None:
            await self._store.unbury(workspace)
            return
        await self.finish_restore(session_id)

    async def _reinstall(self, session_id: SessionId, volume: Volume) -> None:
        values = self._releases.values_from(volume)
        # What an earlier delete or a restore cut off midway has left must be gone first: a ScaledObject that is
        # still ending would take the new one with it.
        self._progress("clearing what is left of the old release")
        await self._releases.uninstall(session_id)
        await self._waiter.wait_removed(session_id, with_volume=False)
        self._progress("installing the release")
        await self._releases.install(session_id, values)

    async def finish_restore(self, session_id: SessionId) -> None:
        """Do what follows the install; the mark on the volume goes last, so that reconcile knows where it was cut."""
        # The new Deployment does not know that the session was awake before its deletion.
        await self._cluster.mark_workspace_slept(session_id, int(self._clock.now().timestamp() * 1000))
        workspace = await self._cluster.find_workspace(session_id)
        if workspace is None:
            raise unknown_session(session_id)
        self._progress("writing the record")
        await self._store.unbury(workspace)
        await self._cluster.clear_volume_deleted(session_id)
        self._journal.note(session_id, EventKind.RESTORED, once=workspace.resource_version)
