"""Whether what users were told agrees with what really was. Pure, so that it is tested itself."""

from __future__ import annotations

from typing import TYPE_CHECKING

from tests.chaos.people import STATUS_LAG_SECONDS
from tests.chaos.truth import DELAY_SECONDS

if TYPE_CHECKING:
    from tests.chaos.people import Notes
    from tests.chaos.truth import Truth


def slept_too_early(truth: Truth, notes: Notes, idle: float) -> list[str]:
    """Name every sleep that came before the idle timeout after an accepted wake.

    What this finds is certain: the wake was answered before the sleep can have begun. One that was only sent by then
    may have waited, behind a Redis that was away, for longer than whoever sent it was idle.
    """
    found = []
    for uuid, promised in notes.promised.items():
        for fell in truth.of(uuid).falls():
            begun = truth.blind_since(fell)
            last = max((wake.sent for wake in promised if wake.answered <= begun), default=None)
            if last is not None and fell - last < idle:
                found.append(f"{uuid} slept at {fell:.2f}, {fell - last:.2f} s after a wake that was accepted")
    return found


def lies(truth: Truth, notes: Notes) -> list[str]:
    """Name every status that was not true at any moment of the last two seconds before it."""
    found = []
    for answer in notes.answers:
        asked, answered = answer.asked - STATUS_LAG_SECONDS, answer.answered + DELAY_SECONDS
        if answer.replicas not in truth.may_have_been(answer.uuid, asked, answered):
            found.append(f"{answer.uuid} was said to have {answer.replicas} replicas at {answer.answered:.2f}")
    return found
