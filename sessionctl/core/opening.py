"""What somebody sees who waits for an editor: why it is not there yet, until it answers (DESIGN 8). Wakes nothing."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, Final
from weakref import WeakValueDictionary

from sessionctl.models import SessionStatus

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Awaitable, Callable
    from typing import Self

    from sessionctl.core.bells import Bells
    from sessionctl.core.views import ViewService
    from sessionctl.models import SessionId, SessionView
    from sessionctl.ports import Clock, EditorProbe

LOOK_SECONDS: Final = 1.0
"""So often an editor is asked while somebody waits for it."""
LONGEST_SECONDS: Final = 60.0
"""Whoever waits longer comes again, and shows then who it is."""


class Phase(StrEnum):
    """How far an editor has come."""

    STARTING = "starting"
    """Its pod is not ready."""
    EDITOR = "editor"
    """Its pod is ready, and the editor does not answer yet."""
    READY = "ready"
    ASLEEP = "asleep"
    """Nobody has woken it, or it has gone to sleep again."""
    FAILED = "failed"
    GONE = "gone"
    """It is deleted."""


@dataclass(frozen=True)
class Step:
    """Where it stands, and why; ``reason`` is a sentence for people, or empty."""

    phase: Phase
    reason: str = ""


def phase_of(view: SessionView) -> Phase:
    """Return how far a session has come, as far as the cluster shows it."""
    match view.status:
        case SessionStatus.ACTIVE:
            return Phase.EDITOR
        case SessionStatus.WAKING:
            return Phase.STARTING
        case SessionStatus.DELETING | SessionStatus.DELETED:
            return Phase.GONE
        case SessionStatus.FAILED if view.queue_length and not view.replicas:
            return Phase.STARTING
        case SessionStatus.FAILED:
            return Phase.FAILED
        case SessionStatus.CREATED | SessionStatus.SLEEPING:
            # Somebody has just woken it, and the cluster does not show it yet.
            return Phase.STARTING if view.queue_length else Phase.ASLEEP


class _Door:
    """One editor: however many wait for it, it is asked once at a time and once in a while."""

    def __init__(self) -> None:
        self.asking = asyncio.Lock()
        self.asked_at = float("-inf")
        self.is_open = False


class OpeningService:
    """Follows sessions until their editors answer."""

    def __init__(self, *, views: ViewService, bells: Bells, probe: EditorProbe, clock: Clock) -> None:
        self._views = views
        self._bells = bells
        self._probe = probe
        self._clock = clock
        self._doors: WeakValueDictionary[SessionId, _Door] = WeakValueDictionary()
        """Of the editors that somebody waits for."""

    async def look(self, session_id: SessionId) -> Step:
        """Return where it stands now; raises NotFoundError and what reading the cluster raises."""
        return await self._look(session_id, self._door(session_id))

    @asynccontextmanager
    async def follow(self, session_id: SessionId) -> AsyncGenerator[Opening, None]:
        """Follow a session within the block; raises as ``look`` does."""
        door = self._door(session_id)
        with self._bells.listen(session_id) as changed:
            yield Opening(lambda: self._look(session_id, door), changed, self._clock)

    def _door(self, session_id: SessionId) -> _Door:
        return self._doors.setdefault(session_id, _Door())

    async def _look(self, session_id: SessionId, door: _Door) -> Step:
        view = await self._views.get_status(session_id)
        phase = phase_of(view)
        if phase is Phase.EDITOR and await self._answers(session_id, door):
            return Step(Phase.READY)
        return Step(phase, view.reason or "")

    async def _answers(self, session_id: SessionId, door: _Door) -> bool:
        async with door.asking:
            if self._clock.monotonic() - door.asked_at >= LOOK_SECONDS:
                door.is_open = await self._probe.answers(session_id)
                door.asked_at = self._clock.monotonic()
            return door.is_open


class Opening:
    """The steps of one session, each once; ends with READY or GONE, or after a while.

    An asynchronous iterator whose next step may be cancelled without losing anything.
    """

    def __init__(self, look: Callable[[], Awaitable[Step]], changed: asyncio.Event, clock: Clock) -> None:
        self._look = look
        self._changed = changed
        self._clock = clock
        self._ends_at = clock.monotonic() + LONGEST_SECONDS
        self._told: Step | None = None

    def __aiter__(self) -> Self:
        """Return itself."""
        return self

    async def __anext__(self) -> Step:
        """Return the next step as soon as there is one."""
        while self._clock.monotonic() < self._ends_at:
            if self._told is not None and self._told.phase in {Phase.READY, Phase.GONE}:
                break
            self._changed.clear()
            step = await self._look()
            if step != self._told:
                self._told = step
                return step
            with suppress(TimeoutError):
                async with asyncio.timeout(LOOK_SECONDS):
                    await self._changed.wait()
        raise StopAsyncIteration
