"""What holds a session awake, and until when."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from sessionctl.core.asking import Answered
from sessionctl.core.holders import Facts, held_by, limits_reached, sleeps_at
from sessionctl.models import Activity, EventKind, Holder, HolderKind, Queue, Record
from sessionctl.settings import EditorIdle, IdleSettings
from tests.support.sessions import make_workspace

NOW = datetime(2026, 1, 1, 12, tzinfo=UTC)
IDLE = IdleSettings()
CONNECTION = IdleSettings(editor=EditorIdle.CONNECTION)
START = timedelta(minutes=10)
SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
KEPT = Queue(awake=1, chats=0, outside=0)
EMPTY = Queue(awake=0, chats=0, outside=0)
AWAKE = make_workspace(replicas=1)
ASLEEP = make_workspace()


def facts(
    idle_for: timedelta, activity: Activity | None = None, *, age: timedelta = SECOND, asked: bool = True
) -> Facts:
    """Return a running session; without an activity its agent said nothing."""
    last_active = int((NOW - idle_for).timestamp() * 1000)
    return Facts(
        now=NOW,
        workspace=AWAKE,
        reason=None,
        record=Record(AWAKE.owner, last_active),
        queue=KEPT,
        gate_open=True,
        answered=Answered(activity, age) if asked else None,
    )


def kinds(known: Facts, idle: IdleSettings = IDLE) -> list[HolderKind]:
    return [holder.kind for holder in held_by(known, idle, START)]


def sleeping_time(known: Facts, idle: IdleSettings = IDLE) -> timedelta | None:
    at = sleeps_at(known, held_by(known, idle, START), idle)
    return at - NOW if at is not None else None


@pytest.mark.parametrize(
    ("known", "idle", "expected", "sleeps_in"),
    [
        (facts(2 * SECOND, Activity()), IDLE, [HolderKind.RECENT], 120 * SECOND),
        (facts(2 * SECOND, asked=False), IDLE, [HolderKind.RECENT], 120 * SECOND),
        (facts(5 * MINUTE, Activity()), IDLE, [], timedelta()),
        (facts(5 * MINUTE, Activity(message_running=True)), IDLE, [HolderKind.MESSAGE], None),
        (facts(5 * MINUTE, Activity(hold=HOUR), age=MINUTE), IDLE, [HolderKind.HOLD], 7 * HOUR + 62 * SECOND),
        (facts(5 * MINUTE, Activity(hold=9 * HOUR)), IDLE, [], timedelta()),
        (facts(5 * MINUTE, Activity(editor_input=20 * SECOND)), IDLE, [HolderKind.EDITOR], 101 * SECOND),
        (facts(5 * MINUTE, Activity(editor_connected=HOUR)), IDLE, [], timedelta()),
        (facts(5 * MINUTE, Activity(editor_input=20 * SECOND)), CONNECTION, [HolderKind.RECENT], 101 * SECOND),
        (
            facts(5 * MINUTE, Activity(editor_input=20 * SECOND, editor_connected=9 * HOUR)),
            CONNECTION,
            [HolderKind.RECENT],
            101 * SECOND,
        ),
        (facts(5 * MINUTE, Activity(editor_connected=HOUR)), CONNECTION, [HolderKind.EDITOR], 7 * HOUR + 121 * SECOND),
        (facts(5 * MINUTE), IDLE, [HolderKind.SILENT], 55 * MINUTE),
        (facts(2 * HOUR), IDLE, [], timedelta()),
        # So old an answer says nothing of now.
        (facts(2 * SECOND, Activity(hold=HOUR), age=HOUR), IDLE, [HolderKind.RECENT], 120 * SECOND),
    ],
)
def test_of_a_running_session(
    known: Facts, idle: IdleSettings, expected: list[HolderKind], sleeps_in: timedelta | None
) -> None:
    assert kinds(known, idle) == expected
    assert sleeping_time(known, idle) == sleeps_in


@pytest.mark.parametrize(
    ("queue", "gate_open", "expected"),
    [
        (Queue(awake=1, chats=2, outside=0), True, HolderKind.MESSAGE),
        (Queue(awake=1, chats=0, outside=3), True, HolderKind.OUTSIDE),
        (KEPT, False, HolderKind.GATE),
        (None, True, HolderKind.GATE),
    ],
)
def test_of_one_whose_queue_holds_it_nobody_knows_when_it_sleeps(
    queue: Queue | None, gate_open: bool, expected: HolderKind
) -> None:
    known = replace(facts(5 * MINUTE, Activity()), queue=queue, gate_open=gate_open)
    assert kinds(known) == [expected]
    assert sleeping_time(known) is None


def test_a_start_has_its_time() -> None:
    starting = replace(AWAKE, ready_replicas=0, unavailable_since=NOW - MINUTE)
    known = replace(facts(SECOND, asked=False), workspace=starting, reason="its image cannot be had")
    (holder,) = held_by(known, IDLE, START)
    assert holder == Holder(HolderKind.STARTING, "its image cannot be had", NOW + 9 * MINUTE)
    overdue = replace(known, workspace=replace(starting, unavailable_since=NOW - HOUR))
    assert sleeping_time(overdue) is None


@pytest.mark.parametrize(("queue", "expected"), [(EMPTY, []), (KEPT, [HolderKind.WOKEN])])
def test_one_that_sleeps_is_held_by_its_demand_alone(queue: Queue, expected: list[HolderKind]) -> None:
    known = replace(facts(SECOND, asked=False), workspace=ASLEEP, queue=queue, gate_open=False)
    assert kinds(known) == expected
    assert sleeping_time(known) is None
    deleted = replace(known, workspace=replace(ASLEEP, deleted_at=NOW))
    assert kinds(deleted) == []


def test_limits_that_are_reached_are_named() -> None:
    assert limits_reached(facts(5 * MINUTE, Activity(hold=HOUR)), IDLE) == {}
    assert [*limits_reached(facts(5 * MINUTE, Activity(hold=9 * HOUR)), IDLE)] == [EventKind.HOLD_LIMIT]
    assert [*limits_reached(facts(2 * HOUR), IDLE)] == [EventKind.UNKNOWN_LIMIT]
    tab = facts(5 * MINUTE, Activity(editor_connected=9 * HOUR))
    assert [*limits_reached(tab, CONNECTION)] == [EventKind.EDITOR_LIMIT]
    assert limits_reached(tab, IDLE) == {}
