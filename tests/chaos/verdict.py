"""Whether what users were told agrees with what really was. Pure, so that it is tested itself."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from tests.chaos.people import STATUS_LAG_SECONDS
from tests.chaos.truth import DELAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.people import Notes, Wake
    from tests.chaos.truth import Truth


RACE_SECONDS: Final = 5.0
"""After a sleep that raced with a wake, the watch guard has the session awake again within this time."""
GUARDS_NEED: Final = frozenset({"redis", "kube-apiserver"})
"""While one of these is away it can neither know nor do anything."""

Outage = tuple[str, float, float]


def slept_too_early(truth: Truth, notes: Notes, idle: float, outages: Sequence[Outage] = ()) -> list[str]:
    """Name every sleep that came before the idle timeout after an accepted wake.

    What this finds is certain: the wake was answered before the sleep can have begun. One that was only sent by then
    may have waited, behind a Redis that was away, for longer than whoever sent it was idle.
    """
    return [
        _tell(uuid, fell, wake)
        for uuid, fell, wake in _early(truth, notes, idle)
        if not _raced(truth, notes, idle, outages, uuid, fell)
    ]


def races(truth: Truth, notes: Notes, idle: float, outages: Sequence[Outage] = ()) -> list[str]:
    """Name the sleeps that were due, and came just after the wake that ended the idleness.

    KEDA had read an empty list by then; the watch guard undoes what it does (the second race of DESIGN 5).
    """
    return [
        _tell(uuid, fell, wake)
        for uuid, fell, wake in _early(truth, notes, idle)
        if _raced(truth, notes, idle, outages, uuid, fell)
    ]


def _early(truth: Truth, notes: Notes, idle: float) -> list[tuple[str, float, Wake]]:
    found = []
    for uuid, promised in notes.promised.items():
        for earliest, fell in truth.of(uuid).falls():
            begun = min(earliest, truth.blind_since(fell))
            last = max((wake for wake in promised if wake.answered <= begun), key=lambda wake: wake.sent, default=None)
            if last is not None and fell - last.sent < idle:
                found.append((uuid, fell, last))
    return found


def _raced(truth: Truth, notes: Notes, idle: float, outages: Sequence[Outage], uuid: str, fell: float) -> bool:
    working = [wake for wake in notes.promised[uuid] if fell - idle < wake.sent <= fell]
    before = [wake for wake in notes.promised[uuid] if wake.sent < working[0].sent]
    was_due = bool(before) and working[0].sent - before[-1].answered >= idle
    # Or it slept when the wake came, was woken by it, and fell once more.
    was_due = was_due or 0 in truth.of(uuid).before(working[0].sent, fell)
    return was_due and 1 in truth.may_have_been(uuid, fell, _undone_by(fell, outages))


def _undone_by(fell: float, outages: Sequence[Outage]) -> float:
    """Return when the guard has undone a sleep at the latest."""
    end = fell + RACE_SECONDS
    for name, began, ended in sorted(outages, key=lambda outage: outage[1]):
        if name in GUARDS_NEED and began <= end and ended >= fell:
            end = max(end, ended + RACE_SECONDS)
    return end


def _tell(uuid: str, fell: float, wake: Wake) -> str:
    return f"{uuid} slept at {fell:.2f}, {fell - wake.sent:.2f} s after a wake that was accepted"


def lies(truth: Truth, notes: Notes) -> list[str]:
    """Name every status that was not true at any moment of the last two seconds before it."""
    found = []
    for answer in notes.answers:
        asked, answered = answer.asked - STATUS_LAG_SECONDS, answer.answered + DELAY_SECONDS
        if answer.replicas not in truth.may_have_been(answer.uuid, asked, answered):
            found.append(f"{answer.uuid} was said to have {answer.replicas} replicas at {answer.answered:.2f}")
    return found
