from __future__ import annotations

from dataclasses import replace
from datetime import timedelta

import pytest

from sessionctl.core.starts import start_age
from tests.support.sessions import CREATED_AT, make_workspace

T0 = int(CREATED_AT.timestamp() * 1000)
MINUTE = timedelta(minutes=1)
MINUTE_MS = 60_000
NOW = T0 + 10 * MINUTE_MS


@pytest.mark.parametrize(
    ("unavailable_for", "woken_ago", "recorded_ago", "minutes"),
    [
        (5, None, None, 5),  # KEDA started it, and it was never woken
        (5, 100, 100, 5),  # KEDA started it, after it was woken long ago
        (9, 5, 5, 5),  # it slept in between, too briefly for the controller to see it
        (9, 9, 2, 2),  # a wake that will patch in a moment, or died before it could
        (9, 2, 9, 2),  # the record was lost
        (9, -60, -60, 9),  # the clock of Redis jumped back
        (-1, 5, 5, -1),  # the clock of the cluster is ahead
    ],
)
def test_a_start_begins_with_the_latest_sign_of_it(
    unavailable_for: int, woken_ago: int | None, recorded_ago: int | None, minutes: int
) -> None:
    workspace = replace(
        make_workspace(replicas=1, woken_at=None if woken_ago is None else NOW - woken_ago * MINUTE_MS),
        unavailable_since=CREATED_AT + (10 - unavailable_for) * MINUTE,
    )
    recorded = 0 if recorded_ago is None else NOW - recorded_ago * MINUTE_MS
    assert start_age(workspace, NOW, recorded) == minutes * MINUTE


def test_a_start_that_the_controller_has_not_seen_has_no_age() -> None:
    assert start_age(make_workspace(replicas=1, woken_at=T0), NOW) == timedelta()
