"""Follows one kind of object for ever: whatever interrupts it, it begins again with a whole list."""

from __future__ import annotations

import asyncio
import logging
from contextlib import aclosing
from typing import TYPE_CHECKING, Final, Generic, TypeVar

from sessionctl.errors import SessionctlError, UnavailableError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from sessionctl.models import WatchEvent
    from sessionctl.ports import Clock

Item = TypeVar("Item")

FIRST_RETRY_SECONDS: Final = 0.2
LONGEST_RETRY_SECONDS: Final = 1.0
"""A status may be two seconds behind, so a view may not be longer behind a cluster that is back."""

_log = logging.getLogger(__name__)


class Follower(Generic[Item]):
    """One watch; ``apply`` gets every event, ``told`` hears of every success and every interruption."""

    def __init__(
        self,
        name: str,
        watch: Callable[[], AsyncGenerator[WatchEvent[Item], None]],
        apply: Callable[[WatchEvent[Item]], None],
        told: Callable[[bool], None],
        clock: Clock,
    ) -> None:
        self._name = name
        self._watch = watch
        self._apply = apply
        self._told = told
        self._clock = clock
        self._lost_at: float | None = None
        self.listed = asyncio.Event()
        """Set for good by the first list."""

    @property
    def is_current(self) -> bool:
        """Whether it has listed and nothing has interrupted it since."""
        return self.listed.is_set() and self._lost_at is None

    @property
    def stale_seconds(self) -> float | None:
        """How long it has been interrupted; None while it is not."""
        return None if self._lost_at is None else self._clock.monotonic() - self._lost_at

    def require(self) -> None:
        """Raise UnavailableError before the first list."""
        if not self.listed.is_set():
            msg = f"the {self._name} of the cluster have not been read yet"
            raise UnavailableError(msg, hint="Try again in a moment.")

    async def run(self) -> None:
        """Follow until cancelled. While it is interrupted, what was seen last stays as it is."""
        delay = FIRST_RETRY_SECONDS
        while True:
            try:
                async with aclosing(self._watch()) as events:
                    async for event in events:
                        self._apply(event)
                        self._found(listed=event.listed is not None)
                        delay = FIRST_RETRY_SECONDS
            except SessionctlError as error:
                self._lost(str(error))
            except Exception:  # noqa: BLE001
                # Nobody would notice that this one view stands still for ever.
                _log.exception("the view of the %s broke", self._name)
                self._lost("a bug")
            await self._clock.sleep(delay)
            delay = min(delay * 2, LONGEST_RETRY_SECONDS)

    def _found(self, *, listed: bool) -> None:
        if listed:
            self.listed.set()
        if self._lost_at is not None:
            _log.info("the view of the %s is current again", self._name)
        self._lost_at = None
        self._told(True)  # noqa: FBT003 - whether it succeeded

    def _lost(self, cause: str) -> None:
        if self._lost_at is None:
            # Once: it is tried again and again for as long as the cluster is away.
            _log.warning("the view of the %s is interrupted: %s", self._name, cause)
            self._lost_at = self._clock.monotonic()
        self._told(False)  # noqa: FBT003
