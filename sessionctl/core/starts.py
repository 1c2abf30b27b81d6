"""Starts that do not end: after ``start_timeout`` they are given up, so that demand has an end (DESIGN 5).

A session without a ready pod is judged here and never as idle: its user waits for it
(docs/decisions/0006-starts-are-not-idle.md).
"""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.core.startup import has_started, look_up
from sessionctl.errors import ClusterError, ConflictError, ForbiddenError, NotFoundError, StoreError
from sessionctl.models import EventKind, MessageOutcome, ReleaseOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import datetime

    from sessionctl.core.demand import DemandService
    from sessionctl.core.journal import Journal
    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import Clock, Cluster, Store
    from sessionctl.settings import IdleSettings

PARALLEL_JUDGEMENTS: Final = 16
PATCH_ATTEMPTS: Final = 5
"""The status of a pod that comes and goes moves the Deployment's resource version."""
SECOND_LOOK_SECONDS: Final = 10.0
"""After this time one is looked at again that is overdue and has to stay."""
CLOCK_JUMP_MS: Final = 5000
"""A wake this far in the future comes from a clock that jumped."""


_MILLISECOND: Final = timedelta(milliseconds=1)
_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class StartReport:
    """What one look did; ``held`` are those that the sweeper has to leave alone."""

    failed: tuple[SessionId, ...] = ()
    kept: tuple[SessionId, ...] = ()
    refused: tuple[SessionId, ...] = ()
    held: frozenset[SessionId] = frozenset()


@dataclass(frozen=True)
class _Ending:
    """Why a start is given up, and what becomes of the messages that waited for it."""

    reason: str
    outcome: MessageOutcome


class StartKeeper:
    """Gives up starts that take too long; every replica may run it at once."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        demand: DemandService,
        journal: Journal,
        clock: Clock,
        start_timeout: timedelta,
        idle: IdleSettings,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._demand = demand
        self._journal = journal
        self._clock = clock
        self._start_timeout = start_timeout
        # Its agent answered once and does not now: that is not known to be idle either.
        self._silence_limit = max(start_timeout, idle.unknown_limit)
        self._patience = idle.release_after / 2
        self._next_look: dict[SessionId, float] = {}

    async def tick(self, workspaces: Sequence[Workspace]) -> StartReport:
        """Judge every session that has no ready pod. Raises StoreError; without the cluster all stays as it is."""
        starting = [w for w in workspaces if w.is_starting]
        late = [w for w in workspaces if w.ready_replicas and self._came_late(w)]
        await self._forget_failures(workspaces)
        if not starting and not late:
            self._next_look.clear()
            return StartReport()
        now = await self._store.get_time()
        overdue = [w.session_id for w in starting if start_age(w, now) >= self._start_timeout]
        self._next_look = {session: at for session, at in self._next_look.items() if session in set(overdue)}
        due = [session for session in overdue if self._clock.monotonic() >= self._next_look.get(session, 0.0)]
        slots = asyncio.Semaphore(PARALLEL_JUDGEMENTS)

        async def in_turn(session_id: SessionId) -> str:
            async with slots:
                return await self._judge(session_id)

        words = dict(zip(due, await asyncio.gather(*(in_turn(session) for session in due)), strict=True))
        fresh = [w for w in late if now - _milliseconds(w.available_since) < self._patience / _MILLISECOND]
        return StartReport(
            failed=tuple(session for session, word in words.items() if word == "failed"),
            kept=tuple(session for session, word in words.items() if word == "kept"),
            refused=tuple(session for session, word in words.items() if word == "refused"),
            held=frozenset(w.session_id for w in (*starting, *fresh)),
        )

    def _came_late(self, workspace: Workspace) -> bool:
        """Whether whoever woke it may have waited for so long that its time of idleness is nearly over."""
        ready_at = _milliseconds(workspace.available_since)
        return timedelta(milliseconds=ready_at - (workspace.woken_at or 0)) > self._patience

    async def _judge(self, session_id: SessionId) -> str:
        try:
            word = await self._give_up(session_id)
        except (NotFoundError, ConflictError, ForbiddenError, ClusterError, StoreError) as error:
            # Nothing is undone and the patch is never repeated alone: the next look judges anew.
            _log.warning("a start cannot be given up: %s", error, extra={"session": session_id})
            word = "refused"
        except Exception:  # noqa: BLE001
            # A mistake of ours with one session must not keep the starts of all others.
            _log.exception("a start cannot be judged", extra={"session": session_id})
            word = "refused"
        if word != "failed":
            self._next_look[session_id] = self._clock.monotonic() + SECOND_LOOK_SECONDS
        return word

    async def _give_up(self, session_id: SessionId) -> str:
        released = False
        for _ in range(PATCH_ATTEMPTS):
            # The record first: a wake after this moves its woken_at, and the script refuses. A wake before it had
            # all the start timeout to patch the Deployment, which is read after it.
            record = await self._store.get_record(session_id)
            now = await self._store.get_time()
            live = await self._cluster.find_workspace(session_id)
            if live is None or not live.replicas or live.deleted_at is not None:
                return "kept"
            if record is None:
                await self._demand.rebuild_record(session_id)
                return "kept"
            ending = await self._ending(live, start_age(live, now, record.woken_at))
            if ending is None:
                if released:
                    # It became ready at the last moment: a running pod must not be left without demand.
                    await self._demand.touch(live, timedelta())
                return "kept"
            match await self._store.give_up(session_id, record.woken_at):
                case ReleaseOutcome.RELEASED:
                    released = True
                case ReleaseOutcome.WAITING:
                    # Their end and the release are two steps: between them nothing is lost, and who dies there is
                    # followed by somebody who finds no messages.
                    await self._end_messages(live, record.woken_at, ending)
                    continue
                case _:
                    return "kept"
            try:
                at = int(self._clock.now().timestamp() * 1000)
                await self._cluster.sleep_workspace(session_id, live.resource_version, at, failed=ending.reason)
            except ConflictError:
                continue
            _log.warning("its start is given up: %s", ending.reason, extra={"session": session_id})
            self._journal.note(session_id, EventKind.START_FAILED, ending.reason)
            return "failed"
        return "refused"

    async def _end_messages(self, live: Workspace, woken_at: int, ending: _Ending) -> None:
        ended = await self._store.settle_waiting(live.session_id, ending.outcome, ending.reason, woken_at)
        if ended:
            _log.warning(
                "%d messages are %s: %s", len(ended), ending.outcome, ending.reason, extra={"session": live.session_id}
            )

    async def _ending(self, live: Workspace, age: timedelta) -> _Ending | None:
        """Return why its start is given up, and what becomes of its messages; None when it is not."""
        if not live.is_starting or age < self._start_timeout:
            return None
        volume, pods = await asyncio.gather(
            self._cluster.find_volume(live.session_id), self._cluster.list_pods(live.session_id)
        )
        started = has_started(pods)
        if started and age < self._silence_limit:
            return None
        reason = await look_up(self._cluster, live, volume, pods)
        # Where an agent has answered once, a message may have been at work.
        return _Ending(reason, MessageOutcome.INTERRUPTED if started else MessageOutcome.FAILED)

    async def _forget_failures(self, workspaces: Sequence[Workspace]) -> None:
        """KEDA's own patch leaves the failure of an earlier start behind; a session that runs has none."""
        for workspace in workspaces:
            if workspace.ready_replicas and workspace.failed is not None:
                try:
                    await self._cluster.clear_failure(workspace.session_id)
                except (ConflictError, ForbiddenError, ClusterError) as error:
                    _log.warning("an old failure stays noted: %s", error, extra={"session": workspace.session_id})


def start_age(workspace: Workspace, now: int, recorded: int = 0) -> timedelta:
    """Return how long its start has taken, by the clock of Redis; nothing where the controller has not seen it yet.

    The condition's time is the deployment controller's; the wakes' times, noted on the Deployment and in the record,
    are Redis's own. No manager's clock plays a part, and a clock of the cluster that is a minute off moves the end of
    a start that KEDA made by this minute, but never shortens one that a wake made.
    """
    if workspace.unavailable_since is None:
        return timedelta()
    wakes = [at for at in (workspace.woken_at or 0, recorded) if at <= now + CLOCK_JUMP_MS]
    return timedelta(milliseconds=now - max(_milliseconds(workspace.unavailable_since), *wakes, 0))


def _milliseconds(moment: datetime | None) -> int:
    return int(moment.timestamp() * 1000) if moment is not None else 0
