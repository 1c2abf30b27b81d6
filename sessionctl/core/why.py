"""``why``: what holds a session awake, when it will sleep, why it does not start, and which limits apply."""

from __future__ import annotations

import asyncio
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Final, Protocol

from sessionctl.core.asking import Answered
from sessionctl.core.holders import Facts, held_by, limits_reached, sleeps_at
from sessionctl.core.moments import moment
from sessionctl.core.replies import moment_of
from sessionctl.errors import StoreError
from sessionctl.models import EventKind, WhyView

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from sessionctl.core.views import Sight, ViewService
    from sessionctl.models import SessionId, StoredEvent, Workspace
    from sessionctl.ports import ActivityProbe, Clock, Store
    from sessionctl.settings import Settings

LATELY: Final = timedelta(minutes=10)
MOST_EVENTS: Final = 200
_LIMITS: Final = (
    EventKind.QUOTA_REFUSED,
    EventKind.HOLD_LIMIT,
    EventKind.EDITOR_LIMIT,
    EventKind.UNKNOWN_LIMIT,
    EventKind.START_FAILED,
)


class Answers(Protocol):
    """Who knows what a session's agent said."""

    async def last_answer(self, workspace: Workspace) -> Answered | None:
        """Return what it said last; None when it was not asked."""
        ...


class AskingNow:
    """``Answers`` of a process that sweeps nothing: the agent is asked now."""

    def __init__(self, probe: ActivityProbe) -> None:
        self._probe = probe

    async def last_answer(self, workspace: Workspace) -> Answered | None:
        """See ``Answers``."""
        return Answered(await self._probe.ask(workspace), timedelta())


class WhyService:
    """Explains one session, from the same view as its status: with a mirror, the API server is not asked."""

    def __init__(self, *, views: ViewService, store: Store, answers: Answers, clock: Clock, settings: Settings) -> None:
        self._views = views
        self._store = store
        self._answers = answers
        self._clock = clock
        self._settings = settings

    async def explain(self, session_id: SessionId) -> WhyView:
        """Explain one session; raises NotFoundError when nothing of it is left."""
        sight = await self._views.look(session_id)
        now, gate_open, history = await self._ask_redis(session_id)
        facts = await self._facts(sight, now, gate_open=gate_open)
        idle, sessions = self._settings.idle, self._settings.sessions
        holders = held_by(facts, idle, sessions.start_timeout) if facts else ()
        reached = limits_reached(facts, idle) if facts else {}
        expires_at = sight.view.owner.created_at + sessions.max_lifetime if sessions.max_lifetime else None
        return WhyView(
            session_id=session_id,
            status=sight.view.status,
            reason=sight.view.reason,
            awake=sight.workspace is not None and sight.workspace.replicas > 0,
            held_by=holders,
            sleeps_at=sleeps_at(facts, holders, idle) if facts else None,
            expires_at=expires_at if sight.workspace is not None else None,
            deleted_for_good_at=self._deleted_for_good_at(sight),
            limits=(*self._lifetime(sight, expires_at, now), *reached.values(), *_told(history, reached)),
        )

    async def _ask_redis(self, session_id: SessionId) -> tuple[datetime, bool, Sequence[StoredEvent]]:
        try:
            milliseconds, epoch = await asyncio.gather(self._store.get_time(), self._store.get_epoch())
            lately = f"{milliseconds - LATELY // timedelta(milliseconds=1)}-0"
            history = await self._store.list_events(session_id, lately, MOST_EVENTS)
        except StoreError:
            return self._clock.now(), False, ()
        return moment(milliseconds), epoch.is_open, history

    async def _facts(self, sight: Sight, now: datetime, *, gate_open: bool) -> Facts | None:
        workspace = sight.workspace
        if workspace is None:
            return None
        running = workspace.replicas and workspace.ready_replicas
        return Facts(
            now=now,
            workspace=workspace,
            reason=sight.view.reason,
            record=sight.record,
            queue=sight.queue,
            gate_open=gate_open,
            answered=await self._answers.last_answer(workspace) if running else None,
        )

    def _deleted_for_good_at(self, sight: Sight) -> datetime | None:
        deleted_at = sight.view.deleted_at
        purged = any(part is not None and part.purge for part in (sight.workspace, sight.volume))
        if deleted_at is None or sight.volume is None or purged:
            return None
        return deleted_at + self._settings.sessions.retention

    def _lifetime(self, sight: Sight, expires_at: datetime | None, now: datetime) -> list[str]:
        if sight.workspace is None or expires_at is None or now < expires_at:
            return []
        return [
            f"it is older than sessions.maxLifetime ({self._settings.sessions.max_lifetime}): deleted once it sleeps"
        ]


def _told(history: Sequence[StoredEvent], reached: Mapping[str, str]) -> list[str]:
    """Return what limits did lately, the newest of each kind, where it is not said already."""
    newest = {event.kind: event for event in history if event.kind in _LIMITS and event.kind not in reached}
    return [f"{event.detail or event.kind} ({moment_of(event):%H:%M:%S} UTC)" for event in newest.values()]
