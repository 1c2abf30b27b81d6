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

    What this finds is certain: the sleep was over when it was seen, and the wake was sent before it can have begun.
    """
    found = []
    for uuid, promised in notes.promised.items():
        for fell in truth.of(uuid).falls():
            last = max((sent for sent in promised if sent <= truth.blind_since(fell)), default=None)
            if last is not None and fell - last < idle:
                found.append(f"{uuid} slept {fell - last:.2f} s after a wake that was accepted")
    return found


def lies(truth: Truth, notes: Notes) -> list[str]:
    """Name every status that was not true at any moment of the last two seconds before it."""
    found = []
    for answer in notes.answers:
        asked, answered = answer.asked - STATUS_LAG_SECONDS, answer.answered + DELAY_SECONDS
        if answer.replicas not in truth.may_have_been(answer.uuid, asked, answered):
            found.append(f"{answer.uuid} was said to have {answer.replicas} replicas at {answer.answered:.2f}")
    return found
