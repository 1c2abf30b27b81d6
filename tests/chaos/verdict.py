"""Whether what users were told agrees with what really was. Pure, so that it is tested itself."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from tests.chaos.people import STATUS_LAG_SECONDS
from tests.chaos.truth import DELAY_SECONDS

if TYPE_CHECKING:
    from collections.abc import Sequence

    from tests.chaos.people import Notes, Wake
    from tests.chaos.truth import Fall, Truth


RACE_SECONDS: Final = 5.0
"""After a sleep that raced with a wake, the watch guard has the session awake again within this time."""


def slept_too_early(truth: Truth, notes: Notes, idle: float) -> list[str]:
    """Name every sleep that came before the idle timeout after an accepted wake.

    What this finds is certain: the wake was answered before the sleep can have begun. One that was only sent by then
    may have waited, behind a Redis that was away, for longer than whoever sent it was idle.
    """
    return [early.tell() for early in _early(truth, notes, idle) if not early.raced]


def races(truth: Truth, notes: Notes, idle: float) -> list[str]:
    """Name the sleeps that were due, and came just after the wake that ended the idleness.

    KEDA had read an empty list by then; the watch guard undoes what it does (the second race of DESIGN 5).
    """
    return [early.tell() for early in _early(truth, notes, idle) if early.raced]


@dataclass(frozen=True)
class _Early:
    uuid: str
    fall: Fall
    wake: Wake
    raced: bool

    def tell(self) -> str:
        after = self.fall.latest - self.wake.sent
        return f"{self.uuid} slept at {self.fall.latest:.2f}, {after:.2f} s after a wake that was accepted"


def _early(truth: Truth, notes: Notes, idle: float) -> list[_Early]:
    found = []
    for uuid, promised in notes.promised.items():
        for fall in truth.of(uuid).falls():
            wakes = [wake for wake in promised if wake.answered <= fall.earliest]
            last = max(wakes, key=lambda wake: wake.sent, default=None)
            if last is not None and fall.latest - last.sent < idle:
                found.append(_Early(uuid, fall, last, _raced(truth, promised, idle, uuid, fall)))
    return found


def _raced(truth: Truth, promised: Sequence[Wake], idle: float, uuid: str, fall: Fall) -> bool:
    working = [wake for wake in promised if fall.latest - idle < wake.sent <= fall.latest]
    before = [wake for wake in promised if wake.sent < working[0].sent]
    was_due = bool(before) and working[0].sent - before[-1].answered >= idle
    return was_due and 1 in truth.may_have_been(uuid, fall.latest, fall.latest + RACE_SECONDS)


def lies(truth: Truth, notes: Notes) -> list[str]:
    """Name every status that was not true at any moment of the last two seconds before it."""
    found = []
    for answer in notes.answers:
        asked, answered = answer.asked - STATUS_LAG_SECONDS, answer.answered + DELAY_SECONDS
        if answer.replicas not in truth.may_have_been(answer.uuid, asked, answered):
            found.append(f"{answer.uuid} was said to have {answer.replicas} replicas at {answer.answered:.2f}")
    return found
