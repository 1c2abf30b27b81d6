"""``reconcile``: after it every session is complete or gone, whatever was killed midway. Safe to run at any time."""

from __future__ import annotations

import logging
from contextlib import asynccontextmanager
from dataclasses import dataclass, replace
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.core.diagnosis import Repair, Sighting, diagnose
from sessionctl.errors import ConflictError, HelmError, NotFoundError, SessionctlError, StoreError
from sessionctl.models import EventKind, ReleaseStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Sequence

    from sessionctl.core.journal import Journal
    from sessionctl.core.releases import ReleaseService
    from sessionctl.core.sessions import SessionService
    from sessionctl.models import Owner, SessionId, Workspace
    from sessionctl.ports import Clock, Cluster, Helm, Store

_SPARED: Final = "it is awake and its pod might be restarted: it is repaired when it sleeps"
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Repaired:
    """One session that was not whole; ``error`` when the repair did not succeed."""

    session_id: SessionId
    repair: Repair
    error: str | None = None


class Reconciler:
    """Looks at everything once, then repairs session by session on live objects."""

    def __init__(
        self,
        *,
        helm: Helm,
        cluster: Cluster,
        store: Store,
        sessions: SessionService,
        releases: ReleaseService,
        journal: Journal,
        clock: Clock,
        retention: timedelta,
        progress: Callable[[str], None],
    ) -> None:
        self._helm = helm
        self._cluster = cluster
        self._store = store
        self._sessions = sessions
        self._releases = releases
        self._journal = journal
        self._clock = clock
        self._retention = retention
        self._progress = progress

    async def run(self, grace: timedelta, *, dry_run: bool) -> Sequence[Repaired]:
        """Repair what has been untouched for ``grace``; one failing session does not stop the others."""
        done: list[Repaired] = []
        for sighting in await self._look():
            repair = diagnose(sighting, self._clock.now(), grace, self._retention)
            if repair is None:
                continue
            self._progress(f"{sighting.session_id}: {repair}")
            error = None if dry_run else await self._repair(sighting, grace)
            done.append(Repaired(sighting.session_id, repair, error))
        return done

    async def _look(self) -> Sequence[Sighting]:
        # Releases last: create writes the release before any object, so whatever is seen here has one by then.
        records = set(await self._store.list_record_ids())
        volumes = {volume.session_id: volume for volume in await self._cluster.list_volumes()}
        workspaces = {workspace.session_id: workspace for workspace in await self._cluster.list_workspaces()}
        scalers = {scaler.session_id for scaler in await self._cluster.list_scalers()}
        releases = {release.session_id: release for release in await self._helm.list_releases()}
        return [
            Sighting(
                session_id=session_id,
                release=releases.get(session_id),
                workspace=workspaces.get(session_id),
                volume=volumes.get(session_id),
                has_record=session_id in records,
                has_scaler=session_id in scalers,
            )
            for session_id in sorted(records | volumes.keys() | workspaces.keys() | releases.keys())
        ]

    async def _repair(self, seen: Sighting, grace: timedelta) -> str | None:
        """Return why it is not repaired; None when it is, by whomever."""
        # Minutes may have passed since the look at everything, and somebody else may be at work on this one.
        session_id = seen.session_id
        try:
            live = await self._look_at(session_id)
            repair = self._diagnose(live, grace)
            if repair is None:
                return None
            try:
                refusal = await self._carry_out(repair, live, grace)
            except (ConflictError, NotFoundError, HelmError) as error:
                # Another replica's reconcile was faster with a step of it, or whoever uses the session was.
                if self._diagnose(await self._look_at(session_id), grace) != repair:
                    return None
                return error.message
        except SessionctlError as error:
            return error.message
        except Exception as error:  # noqa: BLE001
            # A mistake of ours with one session must not keep all others from being repaired.
            _log.exception("it cannot be repaired", extra={"session": session_id})
            return f"{type(error).__name__}: see the log"
        if refusal is None:
            self._note(repair, live)
        return refusal

    def _diagnose(self, sighting: Sighting, grace: timedelta) -> Repair | None:
        return diagnose(sighting, self._clock.now(), grace, self._retention)

    async def _look_at(self, session_id: SessionId) -> Sighting:
        return Sighting(
            session_id=session_id,
            volume=await self._cluster.find_volume(session_id),
            workspace=await self._cluster.find_workspace(session_id),
            has_scaler=await self._cluster.find_scaler(session_id) is not None,
            release=await self._helm.find_release(session_id),
            has_record=await self._store.has_record(session_id),
        )

    def _note(self, repair: Repair, live: Sighting) -> None:
        # What two replicas see and do at the same moment is written down once.
        version = live.workspace.resource_version if live.workspace else ""
        revision = live.release.revision if live.release else ""
        marked = live.volume.deleted_at if live.volume else ""
        once = f"{repair}/{version}/{revision}/{marked}"
        if repair is Repair.REMOVE_VOLUME:
            self._journal.note(live.session_id, EventKind.VOLUME_REMOVED, "its retention has ended", once=once)
        else:
            self._journal.note(live.session_id, EventKind.REPAIRED, repair, once=once)

    async def _carry_out(  # noqa: C901 - one flat case a repair
        self, repair: Repair, live: Sighting, grace: timedelta
    ) -> str | None:
        """Return why it cannot be repaired; None when it is done."""
        session_id, workspace, volume = live.session_id, live.workspace, live.volume
        match repair:
            case Repair.DISCARD:
                await self._releases.discard(session_id)
            case Repair.CANCEL_RESTORE:
                await self._releases.uninstall(session_id)
            case Repair.FINISH_DELETE:
                await self._finish_delete(live)
            case Repair.FINISH_RESTORE:
                await self._sessions.finish_restore(session_id)
            case Repair.UPGRADE:
                return await self._upgrade(live)
            case Repair.ADOPT:
                return await self._adopt(live)
            case Repair.MARK_DELETED if volume is not None:
                await self._cluster.mark_volume_deleted(session_id, self._clock.now(), purge=False)
                await self._bury(live)
            case Repair.REMOVE_VOLUME if volume is not None:
                # Of the version that was judged: a restore that has begun has marked it anew.
                await self._cluster.remove_volume(session_id, volume.resource_version)
                await self._bury(replace(live, volume=None), volume.owner)
            case Repair.WRITE_RECORD if workspace is not None:
                await self._write_record(workspace, grace)
            case Repair.DROP_RECORD:
                await self._bury(live)
            case Repair.REPORT_MISSING_VOLUME:
                return "its volume is missing; it is never started on an empty one"
            case _:
                pass
        return None

    async def _write_record(self, workspace: Workspace, grace: timedelta) -> None:
        if await self._store.ensure_record(workspace):
            return
        # A tombstone beside a session without any mark: somebody is about to mark it, or died before that, or it is
        # left over from an older Redis.
        age = await self._store.get_burial_age(workspace.session_id)
        if age is None or age >= grace:
            await self._store.unbury(workspace)

    async def _finish_delete(self, live: Sighting) -> None:
        present = live.workspace or live.volume
        purge = any(part is not None and part.purge for part in (live.workspace, live.volume))
        if live.volume is not None and live.volume.deleted_at is None:
            at = live.workspace.deleted_at if live.workspace else None
            await self._cluster.mark_volume_deleted(live.session_id, at or self._clock.now(), purge=purge)
        if present is None:
            await self._releases.uninstall(live.session_id)
        else:
            at = present.deleted_at or self._clock.now()
            await self._sessions.finish_delete(live.session_id, present.owner, at, purge=purge)

    async def _upgrade(self, live: Sighting) -> str | None:
        release = live.release
        if release is None:
            return None
        if live.volume is None and live.workspace is None:
            if await self._store.get_burial_age(live.session_id) is None:
                return "its Deployment and its volume are missing; it is never started on an empty one"
            await self._releases.uninstall(live.session_id)  # what a race with its purge has left
            return None
        if _is_awake(live) and (release.status is ReleaseStatus.FAILED or release.chart != self._releases.chart):
            return _SPARED
        if release.status in {ReleaseStatus.PENDING_UPGRADE, ReleaseStatus.PENDING_ROLLBACK}:
            # Helm refuses to go on from a pending revision; a rollback would replay old replicas (DESIGN 3).
            await self._cluster.drop_release_revision(live.session_id, release.revision)
        values = await self._helm.get_values(live.session_id)
        async with self._unless_deleted(live.session_id):
            await self._releases.upgrade(live.session_id, values)
        return None

    async def _adopt(self, live: Sighting) -> str | None:
        if _is_awake(live):
            return _SPARED
        if live.volume is None and await self._store.get_burial_age(live.session_id) is not None:
            # A run of Helm made them again after their purge, and Helm removes only what it remembers.
            await self._cluster.remove_leftovers(live.session_id)
            return None
        if live.volume is None:
            return "Helm's record is lost and there is no volume that remembers its values"
        if live.release is not None:
            await self._cluster.drop_release_revision(live.session_id, live.release.revision)
        async with self._unless_deleted(live.session_id):
            await self._releases.install(live.session_id, self._releases.values_from(live.volume))
        return None

    @asynccontextmanager
    async def _unless_deleted(self, session_id: SessionId) -> AsyncGenerator[None, None]:
        """Take away again what a run of Helm made of a session that was deleted meanwhile; its tombstone says so."""
        try:
            yield
        finally:
            if await self._store.get_burial_age(session_id) is not None:
                volume = await self._cluster.find_volume(session_id)
                if volume is not None and volume.deleted_at is None:
                    # Made anew, and empty; but nothing is removed that nobody has asked to.
                    await self._cluster.mark_volume_deleted(session_id, self._clock.now(), purge=False)
                await self._releases.uninstall(session_id)

    async def _bury(self, live: Sighting, known: Owner | None = None) -> None:
        present = live.workspace or live.volume
        owner = known or (present.owner if present else await self._recorded_owner(live.session_id))
        lifetime = self._retention if live.volume is not None else timedelta(minutes=1)
        # Without an owner only the index of users keeps an entry too many.
        tenant, user_id = (owner.tenant, owner.user_id) if owner else ("", "")
        await self._store.bury(live.session_id, tenant, user_id, lifetime)

    async def _recorded_owner(self, session_id: SessionId) -> Owner | None:
        try:
            record = await self._store.get_record(session_id)
        except StoreError:
            # A record that cannot be read is dropped all the same; if Redis is away, burying says so.
            return None
        return record.owner if record else None


def _is_awake(live: Sighting) -> bool:
    """Whether what may change its pod has to wait until it sleeps (DESIGN 3)."""
    return live.workspace is not None and live.workspace.replicas > 0
