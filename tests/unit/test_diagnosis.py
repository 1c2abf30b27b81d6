from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sessionctl.core.diagnosis import Repair, Sighting, diagnose
from sessionctl.models import Owner, Release, ReleaseStatus, SessionId, Volume, Workspace

NOW = datetime(2026, 1, 10, tzinfo=UTC)
GRACE = timedelta(minutes=2)
RETENTION = timedelta(days=7)
ID = SessionId("3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11")
OWNER = Owner("alice", "default", "default", NOW)
WORKSPACE = Workspace(ID, OWNER, "1", 0, 0, True, None, None, None, False)
VOLUME = Volume(ID, OWNER, "{}", None, False, False)
MARKED = replace(VOLUME, deleted_at=NOW - timedelta(days=1))
WHOLE = Sighting(
    ID, Release(ID, ReleaseStatus.DEPLOYED, 1, NOW - timedelta(hours=1), "c"), WORKSPACE, VOLUME, True, True
)


def release(status: ReleaseStatus, revision: int = 1, age: timedelta = timedelta(hours=1)) -> Release:
    return Release(ID, status, revision, NOW - age, "c")


def test_a_whole_session_needs_nothing() -> None:
    assert diagnose(WHOLE, NOW, GRACE, RETENTION) is None


@pytest.mark.parametrize(
    ("sighting", "repair"),
    [
        (Sighting(ID, release(ReleaseStatus.PENDING_INSTALL)), Repair.DISCARD),
        (Sighting(ID, release(ReleaseStatus.PENDING_INSTALL), WORKSPACE, VOLUME), Repair.DISCARD),
        (Sighting(ID, release(ReleaseStatus.FAILED), None, VOLUME), Repair.DISCARD),
        (Sighting(ID, release(ReleaseStatus.FAILED), replace(WORKSPACE, woken_at=1), VOLUME), Repair.ADOPT),
        (Sighting(ID, release(ReleaseStatus.FAILED), replace(WORKSPACE, slept_at=1), VOLUME), Repair.ADOPT),
        (Sighting(ID, release(ReleaseStatus.PENDING_INSTALL), replace(WORKSPACE, replicas=1), VOLUME), Repair.ADOPT),
        (replace(WHOLE, workspace=None, volume=MARKED), Repair.FINISH_DELETE),
        (Sighting(ID, release(ReleaseStatus.PENDING_INSTALL), WORKSPACE, MARKED), Repair.CANCEL_RESTORE),
        (Sighting(ID, release(ReleaseStatus.PENDING_INSTALL), None, replace(MARKED, purge=True)), Repair.DISCARD),
        (Sighting(ID, release(ReleaseStatus.UNINSTALLING), None, MARKED), Repair.FINISH_DELETE),
        (Sighting(ID, release(ReleaseStatus.UNINSTALLING)), Repair.FINISH_DELETE),
        (replace(WHOLE, workspace=replace(WORKSPACE, deleted_at=NOW)), Repair.FINISH_DELETE),
        (replace(WHOLE, workspace=replace(WORKSPACE, deleted_at=NOW), volume=MARKED), Repair.FINISH_DELETE),
        (replace(WHOLE, volume=MARKED), Repair.FINISH_RESTORE),
        (replace(WHOLE, volume=None), Repair.REPORT_MISSING_VOLUME),
        (replace(WHOLE, volume=None, release=release(ReleaseStatus.FAILED, 2)), Repair.REPORT_MISSING_VOLUME),
        (replace(WHOLE, workspace=None), Repair.UPGRADE),
        (replace(WHOLE, has_scaler=False), Repair.UPGRADE),
        (replace(WHOLE, release=release(ReleaseStatus.FAILED, 2)), Repair.UPGRADE),
        (replace(WHOLE, release=release(ReleaseStatus.PENDING_UPGRADE, 2)), Repair.UPGRADE),
        (replace(WHOLE, release=release(ReleaseStatus.PENDING_ROLLBACK, 3)), Repair.UPGRADE),
        (replace(WHOLE, release=None), Repair.ADOPT),
        (replace(WHOLE, has_record=False), Repair.WRITE_RECORD),
        (Sighting(ID, volume=VOLUME), Repair.MARK_DELETED),
        (Sighting(ID, volume=MARKED), None),
        (Sighting(ID, volume=MARKED, has_record=True), Repair.DROP_RECORD),
        (Sighting(ID, volume=replace(MARKED, purge=True)), Repair.REMOVE_VOLUME),
        (Sighting(ID, volume=replace(MARKED, purge=True, being_removed=True)), None),
        (Sighting(ID, volume=replace(MARKED, deleted_at=NOW - RETENTION)), Repair.REMOVE_VOLUME),
        (Sighting(ID, has_record=True), Repair.DROP_RECORD),
        (Sighting(ID), None),
    ],
)
def test_what_is_wrong_is_repaired(sighting: Sighting, repair: Repair | None) -> None:
    assert diagnose(sighting, NOW, GRACE, RETENTION) is repair


@pytest.mark.parametrize("status", [ReleaseStatus.PENDING_INSTALL, ReleaseStatus.PENDING_UPGRADE])
def test_what_is_under_way_is_left_alone(status: ReleaseStatus) -> None:
    young = release(status, age=timedelta(seconds=119))
    assert diagnose(replace(WHOLE, release=young), NOW, GRACE, RETENTION) is None


def test_an_ephemeral_session_misses_no_volume() -> None:
    sighting = replace(WHOLE, volume=None, workspace=replace(WORKSPACE, keeps_volume=False))
    assert diagnose(sighting, NOW, GRACE, RETENTION) is None
