"""What is wrong with a session, from what Helm, the cluster and Redis show of it; pure.

| release          | Deployment | volume        | means                                  | repair          |
|------------------|------------|---------------|----------------------------------------|-----------------|
| cut-off install  |            | marked        | a restore was cut off                  | cancel restore  |
| cut-off install  | never woken| unmarked/none | a create was cut off                   | discard         |
| cut-off install  | woken      | unmarked      | an adoption was cut off                | adopt           |
| uninstalling     |            |               | a delete was cut off                   | finish delete   |
| any              | marked     |               | a delete was cut off                   | finish delete   |
| deployed         | unmarked   | marked        | a restore was cut off near its end     | finish restore  |
| deployed         |            | missing       | files are gone: never started empty    | report          |
| deployed         | missing    | marked        | a delete was cut off                   | finish delete   |
| deployed         | missing    | unmarked      | somebody removed objects               | upgrade         |
| pending upgrade  |            |               | an upgrade was cut off                 | upgrade         |
| none             | unmarked   | present       | Helm's record was lost                 | adopt           |
| none             | none       | unmarked      | somebody ran helm uninstall            | mark as deleted |
| none             | none       | purge, expired| its time is over                       | remove volume   |
"""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sessionctl.models import ReleaseStatus

if TYPE_CHECKING:
    from datetime import datetime, timedelta

    from sessionctl.models import Release, SessionId, Volume, Workspace


class Repair(StrEnum):
    """What reconcile does with one session."""

    DISCARD = "discard"
    CANCEL_RESTORE = "cancel-restore"
    FINISH_DELETE = "finish-delete"
    FINISH_RESTORE = "finish-restore"
    UPGRADE = "upgrade"
    ADOPT = "adopt"
    MARK_DELETED = "mark-deleted"
    REMOVE_VOLUME = "remove-volume"
    WRITE_RECORD = "write-record"
    DROP_RECORD = "drop-record"
    REPORT_MISSING_VOLUME = "report-missing-volume"


@dataclass(frozen=True)
class Sighting:
    """Everything that is known of one session at one moment."""

    session_id: SessionId
    release: Release | None = None
    workspace: Workspace | None = None
    volume: Volume | None = None
    has_record: bool = False
    has_scaler: bool = False


_CUT_OFF_UPGRADES: Final = {ReleaseStatus.PENDING_UPGRADE, ReleaseStatus.PENDING_ROLLBACK}


def diagnose(sighting: Sighting, now: datetime, grace: timedelta, retention: timedelta) -> Repair | None:
    """Return the repair a session needs; None for one that is whole, or that somebody is at work on."""
    release, workspace, volume = sighting.release, sighting.workspace, sighting.volume
    if release is None and workspace is None:
        return _without_release(sighting, now, retention)
    marked = workspace is not None and workspace.deleted_at is not None
    if marked or (release is not None and release.status is ReleaseStatus.UNINSTALLING):
        return Repair.FINISH_DELETE
    if release is None:
        return Repair.ADOPT
    if _is_cut_off_install(release):
        return _cut_off_install(sighting, release, now, grace)
    if volume is None and workspace is not None and workspace.keeps_volume:
        return Repair.REPORT_MISSING_VOLUME
    if release.status in _CUT_OFF_UPGRADES:
        return Repair.UPGRADE if now - release.updated_at >= grace else None
    if workspace is None and volume is not None and volume.deleted_at is not None:
        return Repair.FINISH_DELETE
    if workspace is None or not sighting.has_scaler or release.status is ReleaseStatus.FAILED:
        return Repair.UPGRADE if now - release.updated_at >= grace else None
    if volume is not None and volume.deleted_at is not None:
        return Repair.FINISH_RESTORE
    return None if sighting.has_record else Repair.WRITE_RECORD


def _is_cut_off_install(release: Release) -> bool:
    return release.status is ReleaseStatus.PENDING_INSTALL or (
        release.status is ReleaseStatus.FAILED and release.revision == 1
    )


def _cut_off_install(sighting: Sighting, release: Release, now: datetime, grace: timedelta) -> Repair | None:
    if now - release.updated_at < grace:
        return None
    if sighting.volume is not None and sighting.volume.deleted_at is not None and not sighting.volume.purge:
        return Repair.CANCEL_RESTORE
    # Whatever was awake once may hold somebody's files: it is never discarded.
    return Repair.ADOPT if _was_ever_awake(sighting.workspace) else Repair.DISCARD


def _was_ever_awake(workspace: Workspace | None) -> bool:
    return workspace is not None and (
        workspace.replicas > 0 or workspace.woken_at is not None or workspace.slept_at is not None
    )


def _without_release(sighting: Sighting, now: datetime, retention: timedelta) -> Repair | None:
    volume = sighting.volume
    if volume is None:
        return Repair.DROP_RECORD if sighting.has_record else None
    if volume.being_removed:
        return None
    if volume.deleted_at is None:
        return Repair.MARK_DELETED
    if volume.purge or now - volume.deleted_at >= retention:
        return Repair.REMOVE_VOLUME
    return Repair.DROP_RECORD if sighting.has_record else None
