"""``reconcile``: after it every session is complete or gone, whatever was killed midway. Safe to run at any time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.core.diagnosis import Repair, Sighting, diagnose
from sessionctl.errors import ConflictError, NotFoundError, SessionctlError, StoreError
from sessionctl.models import ReleaseStatus

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

    from sessionctl.core.releases import ReleaseService
    from sessionctl.core.sessions import SessionService
    from sessionctl.models import Owner, SessionId
    from sessionctl.ports import Clock, Cluster, Helm, Store


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
        clock: Clock,
        retention: timedelta,
        progress: Callable[[str], None],
    ) -> None:
        self._helm = helm
        self._cluster = cluster
        self._store = store
        self._sessions = sessions
        self._releases = releases
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
        # Minutes may have passed since the look at everything, and somebody else may be at work on this one.
        session_id = seen.session_id
        try:
            live = Sighting(
                session_id=session_id,
                volume=await self._cluster.find_volume(session_id),
                workspace=await self._cluster.find_workspace(session_id),
                has_scaler=await self._cluster.find_scaler(session_id) is not None,
                release=await self._helm.find_release(session_id),
                has_record=seen.has_record,
            )
            repair = diagnose(live, self._clock.now(), grace, self._retention)
            if repair is not None:
                await self._carry_out(repair, live)
        except SessionctlError as error:
            return error.message
        return None

    async def _carry_out(self, repair: Repair, live: Sighting) -> None:  # noqa: C901 - one flat case a repair
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
                await self._upgrade(live)
            case Repair.ADOPT:
                await self._adopt(live)
            case Repair.MARK_DELETED if volume is not None:
                await self._cluster.mark_volume_deleted(session_id, self._clock.now(), purge=False)
                await self._bury(live)
            case Repair.REMOVE_VOLUME:
                await self._bury(live)
                await self._cluster.remove_volume(session_id)
            case Repair.WRITE_RECORD if workspace is not None:
                # A tombstone beside a session without any mark is left over from an older Redis.
                await self._store.unbury(workspace)
            case Repair.DROP_RECORD:
                await self._bury(live)
            case Repair.REPORT_MISSING_VOLUME:
                msg = "its volume is missing; it is never started on an empty one"
                raise ConflictError(msg)
            case _:
                return

    async def _finish_delete(self, live: Sighting) -> None:
        present = live.workspace or live.volume
        purge = any(part is not None and part.purge for part in (live.workspace, live.volume))
        if live.volume is not None and live.volume.deleted_at is None:
            at = live.workspace.deleted_at if live.workspace else None
            await self._cluster.mark_volume_deleted(live.session_id, at or self._clock.now(), purge=purge)
        if present is None:
            await self._releases.uninstall(live.session_id)
        else:
            await self._sessions.finish_delete(live.session_id, present.owner, purge=purge)

    async def _upgrade(self, live: Sighting) -> None:
        release = live.release
        if release is None:
            return
        if release.status is ReleaseStatus.FAILED or release.chart != self._releases.chart:
            _spare_the_awake(live)
        if release.status in {ReleaseStatus.PENDING_UPGRADE, ReleaseStatus.PENDING_ROLLBACK}:
            # Helm refuses to go on from a pending revision; a rollback would replay old replicas (DESIGN 3).
            await self._cluster.drop_release_revision(live.session_id, release.revision)
        if live.volume is None and live.workspace is None:
            msg = "its Deployment and its volume are missing; it is never started on an empty one"
            raise ConflictError(msg)
        await self._releases.upgrade(live.session_id, await self._helm.get_values(live.session_id))

    async def _adopt(self, live: Sighting) -> None:
        _spare_the_awake(live)
        if live.volume is None:
            msg = "Helm's record is lost and there is no volume that remembers its values"
            raise NotFoundError(msg)
        if live.release is not None:
            await self._cluster.drop_release_revision(live.session_id, live.release.revision)
        await self._releases.install(live.session_id, self._releases.values_from(live.volume))

    async def _bury(self, live: Sighting) -> None:
        present = live.workspace or live.volume
        owner = present.owner if present else await self._recorded_owner(live.session_id)
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


def _spare_the_awake(live: Sighting) -> None:
    """Raise ConflictError for an awake session: what may change its pod waits until it sleeps (DESIGN 3)."""
    if live.workspace is not None and live.workspace.replicas:
        msg = "it is awake and its pod might be restarted: it is repaired when it sleeps"
        raise ConflictError(msg)
