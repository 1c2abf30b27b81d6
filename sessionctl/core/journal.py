"""What happened to a session: one event in its stream, one count in the metrics."""

from __future__ import annotations

import logging
from typing import TYPE_CHECKING

from sessionctl.errors import StoreError
from sessionctl.models import SessionEvent

if TYPE_CHECKING:
    from sessionctl.models import EventKind, SessionId
    from sessionctl.ports import EventStore, Metrics

_log = logging.getLogger(__name__)


class Journal:
    """Writes events. History is not worth a failure: nothing here raises because Redis is away."""

    def __init__(self, store: EventStore, metrics: Metrics) -> None:
        self._store = store
        self._metrics = metrics

    async def record(self, session_id: SessionId, kind: EventKind, detail: str = "", *, once: str = "") -> bool:
        """Record one event; False when it was recorded before (``once``) or could not be written.

        What another manager has recorded already is not counted again.
        """
        try:
            event_id = await self._store.append_event(SessionEvent(session_id, kind, detail, once=once))
        except StoreError as error:
            _log.debug("the event %s is not recorded: %s", kind, error, extra={"session": session_id})
            self._metrics.count(kind)
            return False
        if event_id is None:
            return False
        self._metrics.count(kind)
        return True
