"""What happened to a session: one event in its stream, one count in the metrics."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sessionctl.errors import SessionctlError
from sessionctl.models import SessionEvent

if TYPE_CHECKING:
    from collections.abc import Callable

    from sessionctl.models import EventKind, SessionId
    from sessionctl.ports import EventStore, Metrics

LANES: Final = 4
"""Events of one session are written one after the other; those of many take no more connections than this."""
LONGEST_LANE: Final = 4000
"""While Redis is slow, what comes after so many is counted and not written."""
LAST_PATIENCE_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class _Note:
    event: SessionEvent
    counted: bool
    then: Callable[[str], None] | None


@dataclass
class _Lane:
    waiting: deque[_Note] = field(default_factory=deque)
    worker: asyncio.Task[None] | None = None


class Journal:
    """Writes events. History is not worth a failure or a wait: nothing here raises because Redis is away."""

    def __init__(self, store: EventStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics
        self._lanes = [_Lane() for _ in range(LANES)]

    def note(
        self,
        session_id: SessionId,
        kind: EventKind,
        detail: str = "",
        *,
        once: str = "",
        counted: bool = True,
        then: Callable[[str], None] | None = None,
    ) -> None:
        """Record one event soon; returns at once, for whoever must not wait.

        ``counted`` is False where many events are one in the metrics. ``then`` is called with the event's id if it was
        written, and not before.
        """
        lane = self._lanes[hash(session_id) % LANES]
        if len(lane.waiting) >= LONGEST_LANE:
            self._count(kind, counted=counted)
            return
        lane.waiting.append(_Note(SessionEvent(session_id, kind, detail, once=once), counted, then))
        if lane.worker is None or lane.worker.done():
            lane.worker = asyncio.create_task(self._empty(lane))

    async def record(
        self, session_id: SessionId, kind: EventKind, detail: str = "", *, once: str = "", counted: bool = True
    ) -> str | None:
        """Record one event and return its id; None when it was recorded before (``once``) or could not be written.

        What another manager has recorded already is not counted again.
        """
        return await self._write(SessionEvent(session_id, kind, detail, once=once), counted=counted)

    def count(self, kind: EventKind) -> None:
        """Count what has no session to be noted with, or too many."""
        self._metrics.count(kind)

    async def close(self) -> None:
        """Write what is still to be written, for a moment; what is left then is lost."""
        workers = [lane.worker for lane in self._lanes if lane.worker is not None and not lane.worker.done()]
        if not workers:
            return
        await asyncio.wait(workers, timeout=LAST_PATIENCE_SECONDS)
        for worker in workers:
            worker.cancel()
        await asyncio.gather(*workers, return_exceptions=True)

    async def _empty(self, lane: _Lane) -> None:
        while lane.waiting:
            note = lane.waiting.popleft()
            event = note.event
            try:
                event_id = await self._write(event, counted=note.counted)
                if event_id is not None and note.then is not None:
                    note.then(event_id)
            except Exception:  # noqa: BLE001
                # The next ones are written all the same, and whoever noted this one is long gone.
                _log.exception("the event %s is not recorded", event.kind, extra={"session": event.session_id})
            task = asyncio.current_task()
            if task is not None and task.cancelling():
                return  # it was swallowed: see ``core.rounds``

    async def _write(self, event: SessionEvent, *, counted: bool) -> str | None:
        try:
            event_id = await self._store.append_event(event)
        except SessionctlError as error:
            _log.debug("the event %s is not recorded: %s", event.kind, error, extra={"session": event.session_id})
            self._count(event.kind, counted=counted)
            return None
        if event_id is not None:
            self._count(event.kind, counted=counted)
        return event_id

    def _count(self, kind: EventKind, *, counted: bool) -> None:
        if counted:
            self._metrics.count(kind)
