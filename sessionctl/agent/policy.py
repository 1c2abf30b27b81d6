"""What becomes of a message that was cut off midway (DESIGN 1)."""

from __future__ import annotations

from enum import StrEnum


class AfterCut(StrEnum):
    """The two ways on."""

    RETRY = "retry"
    INTERRUPT = "interrupt"


def after_a_cut(*, repeatable: bool) -> AfterCut:
    """Decide by what its kind was when it began: what may have had effects is never run again by itself."""
    return AfterCut.RETRY if repeatable else AfterCut.INTERRUPT
