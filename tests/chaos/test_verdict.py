"""The judge itself: what it must find, and what it must not."""

from __future__ import annotations

from tests.chaos.people import Answer, Notes, Wake
from tests.chaos.truth import Truth
from tests.chaos.verdict import lies, races, slept_too_early

UUID = "one"
IDLE = 6.0


def _truth(*changes: tuple[float, int]) -> Truth:
    truth = Truth()
    for at, replicas in changes:
        truth.of(UUID).note(at, replicas)
    return truth


def _answered(replicas: int, at: float) -> Notes:
    return Notes(answers=[Answer(UUID, at, at + 0.1, replicas)])


def _promised(*sent: float, took: float = 0.0) -> Notes:
    return Notes(promised={UUID: [Wake(at, at + took) for at in sent]})


def test_a_sleep_before_the_timeout_is_found() -> None:
    truth = _truth((0, 0), (1, 1), (15, 0))

    assert slept_too_early(truth, _promised(1, 10), IDLE)
    assert not slept_too_early(truth, _promised(1, 8.9), IDLE)


def test_a_wake_that_was_sent_when_it_slept_already_is_no_reason() -> None:
    truth = _truth((0, 0), (1, 1), (15, 0), (15.5, 1))

    assert not slept_too_early(truth, _promised(1, 14.5), IDLE)


def test_a_wake_that_was_not_answered_when_it_slept_is_no_reason() -> None:
    truth = _truth((0, 0), (1, 1), (15, 0), (15.5, 1))

    assert not slept_too_early(truth, _promised(10, took=4.5), IDLE)
    assert slept_too_early(truth, _promised(10, took=3.5), IDLE)


def test_a_sleep_that_was_due_and_is_undone_at_once_is_a_race() -> None:
    undone = _truth((0, 0), (1, 1), (15, 0), (16, 1))
    assert not slept_too_early(undone, _promised(1, 12), IDLE)
    assert races(undone, _promised(1, 12), IDLE)
    # Nobody undid it; or it was not due, because its user worked.
    assert slept_too_early(_truth((0, 0), (1, 1), (15, 0), (22, 1)), _promised(1, 12), IDLE)
    assert slept_too_early(undone, _promised(1, 7, 12), IDLE)
    assert slept_too_early(undone, _promised(12), IDLE)


def test_a_sleep_seen_late_may_have_been_early() -> None:
    truth = _truth((0, 0), (1, 1), (15, 0))
    truth.blind.append((9, 15.5))

    assert not slept_too_early(truth, _promised(1, 10), IDLE)


def test_one_that_was_just_woken_and_falls_once_more_is_a_race() -> None:
    notes = _promised(6.9, 12.8, took=0.05)

    undone = _truth((0, 1), (13, 0), (14, 1), (16, 0), (17, 1))
    assert not slept_too_early(undone, notes, IDLE)
    assert len(races(undone, notes, IDLE)) == 1
    # Awake all the time, so nothing was due.
    assert slept_too_early(_truth((0, 1), (16, 0), (17, 1)), notes, IDLE)


def test_a_race_is_undone_once_redis_and_the_cluster_are_there() -> None:
    truth, notes = _truth((0, 0), (1, 1), (16, 0), (25, 1)), _promised(1, 12)

    assert slept_too_early(truth, notes, IDLE)
    assert slept_too_early(truth, notes, IDLE, [("keda", 15, 24)])
    assert not slept_too_early(truth, notes, IDLE, [("redis", 15, 24)])
    assert slept_too_early(truth, notes, IDLE, [("redis", 13, 15)])


def test_a_sleep_was_when_it_was_written_however_late_it_was_seen() -> None:
    truth = _truth((0, 0), (1, 1))
    truth.of(UUID).note(19, 0, written=8)

    # It came within the second that began at 8.
    assert not slept_too_early(truth, _promised(1), IDLE)
    assert slept_too_early(truth, _promised(4), IDLE)
    # What was answered after 8 was, perhaps, answered after the sleep.
    assert not slept_too_early(truth, _promised(1, 8.5), IDLE)


def test_a_status_may_be_two_seconds_behind_and_not_more() -> None:
    truth = _truth((0, 0), (10, 1))

    assert not lies(truth, _answered(0, 11.9))
    assert lies(truth, _answered(0, 12.2))
    assert not lies(truth, _answered(1, 12.2))


def test_a_status_may_know_more_than_a_watch_that_is_cut() -> None:
    truth = _truth((0, 0), (10, 1))

    assert lies(truth, _answered(1, 5))
    truth.blind.append((4, 10))
    assert not lies(truth, _answered(1, 5))


def test_a_value_it_never_had_is_a_lie() -> None:
    assert lies(_truth((0, 0)), _answered(1, 50))


def test_what_was_not_seen_for_a_whole_timeout_may_have_happened() -> None:
    truth = _truth((0, 0))
    truth.blind += [(1, 8), (10, 12)]

    assert truth.was_blind(7, IDLE)
    assert not truth.was_blind(9, IDLE)
