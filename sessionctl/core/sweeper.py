"""The idle sweeper: notes the resource version, asks the agent, releases, patches, in this order (DESIGN 5)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sessionctl.core.asking import Inquiry
from sessionctl.core.errands import Errands
from sessionctl.core.idle import judge, latest_work
from sessionctl.errors import ClusterError, ConflictError, ForbiddenError, NotFoundError, StoreError
from sessionctl.models import EventKind, ReleaseOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.core.asking import Answered
    from sessionctl.core.demand import DemandService
    from sessionctl.core.idle import Verdict
    from sessionctl.core.journal import Journal
    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import ActivityProbe, Clock, Cluster, Store
    from sessionctl.settings import IdleSettings

PARALLEL_JUDGEMENTS: Final = 32
REFUSALS_WORTH_A_WARNING: Final = 3
CLOCK_JUMP: Final = timedelta(seconds=-5)
"""An activity this far in the future comes from a clock that jumped; the release script mends it."""
_OF_ONE_SESSION: Final = (NotFoundError, ConflictError, ForbiddenError, ClusterError, StoreError)
"""What may go wrong with one while all others are well; a Redis that is away is noticed by the next tick itself."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepReport:
    """What one tick did."""

    slept: tuple[SessionId, ...] = ()
    adopted: tuple[SessionId, ...] = ()
    kept: tuple[SessionId, ...] = ()
    refused: tuple[SessionId, ...] = ()


class _Word(StrEnum):
    """How a look at one session ended; all but the last are fields of the report."""

    SLEPT = "slept"
    ADOPTED = "adopted"
    KEPT = "kept"
    REFUSED = "refused"
    YOUNG = "young"


class Sweeper:
    """Puts idle sessions to sleep; every replica may run it at once."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        demand: DemandService,
        journal: Journal,
        probe: ActivityProbe,
        clock: Clock,
        settings: IdleSettings,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._demand = demand
        self._journal = journal
        self._inquiry = Inquiry(probe, clock, journal, settings)
        self._clock = clock
        self._settings = settings
        self._put_to_sleep: dict[SessionId, str] = {}
        self._refusals: dict[SessionId, int] = {}
        self._slots = asyncio.Semaphore(PARALLEL_JUDGEMENTS)
        self._errands: Errands[_Word] = Errands()
        self._latest: dict[SessionId, Workspace] = {}

    async def tick(self, workspaces: Sequence[Workspace], patience: float | None = None) -> SweepReport:
        """Judge every running session once. Raises StoreError; a cluster that does not answer leaves all as it is.

        What takes longer than ``patience`` seconds, because an agent is slow, goes on and is reported by a later tick:
        nobody else waits for it. Whoever has a patience closes the sweeper at the end.
        """
        running = [w for w in workspaces if w.replicas and w.deleted_at is None and not self._already_patched(w)]
        self._forget_all_but(workspaces)
        ages = await self._store.get_idle_times([w.session_id for w in running])
        for workspace, age in zip(running, ages, strict=True):
            if workspace.session_id not in self._errands and self._is_due(workspace, age):
                self._errands.start(workspace.session_id, self._look(workspace, age))
        words = await self._errands.finished(patience)
        return SweepReport(
            **{
                word.value: tuple(session_id for session_id, found in words.items() if found is word)
                for word in _Word
                if word is not _Word.YOUNG
            }
        )

    async def last_answer(self, workspace: Workspace) -> Answered | None:
        """See ``core.why.Answers``: what this sweeper was told; nobody is asked for it."""
        return self._inquiry.last_answer(workspace.session_id)

    async def close(self) -> None:
        """End what is still under way; nothing of it has to be undone."""
        await self._errands.close()

    def _is_due(self, workspace: Workspace, age: timedelta | None) -> bool:
        # A record that is missing is rebuilt, and an activity in the future mended by the release script.
        return age is None or age < CLOCK_JUMP or self._inquiry.is_due(workspace.session_id, age)

    async def _look(self, workspace: Workspace, age: timedelta | None) -> _Word:
        try:
            if age is not None and CLOCK_JUMP <= age < self._settings.release_after:
                await self._remember_work(workspace, age)
                return _Word.YOUNG
            return await self._sweep(workspace, age)
        except Exception:  # noqa: BLE001
            # A mistake of ours with one session must not keep all others awake.
            _log.exception("it cannot be judged", extra={"session": workspace.session_id})
            return _Word.REFUSED

    async def _remember_work(self, workspace: Workspace, age: timedelta) -> None:
        """Ask before it is time to release: what somebody did is known even if the agent is away then."""
        activity = await self._inquiry.ask(workspace, age)
        work = latest_work(activity, self._settings) if activity is not None else None
        if work is not None and work.age < age:
            try:
                await self._touch(workspace.session_id, work.age)
            except _OF_ONE_SESSION as error:
                _log.debug("activity not recorded: %s", error, extra={"session": workspace.session_id})

    async def _sweep(self, workspace: Workspace, age: timedelta | None) -> _Word:
        session_id = workspace.session_id
        reason, limit = "its last activity lies in the future", None
        try:
            if age is not None and age >= self._settings.release_after:
                verdict = await self._judge(workspace, age)
                if not verdict.idle:
                    return _Word.KEPT
                reason, limit = verdict.reason, verdict.limit
            async with self._slots:
                word = await self._put_down(workspace, age)
        except _OF_ONE_SESSION as error:
            # Nothing is undone and the patch is never repeated alone: the next tick judges anew.
            self._inquiry.forget_answer(session_id)
            self._count_refusal(session_id, error)
            return _Word.REFUSED
        if word is not _Word.SLEPT:
            return word
        self._refusals.pop(session_id, None)
        self._put_to_sleep[session_id] = workspace.resource_version
        _log.info("put to sleep: %s", reason, extra={"session": session_id})
        if limit is not None:
            self._journal.note(session_id, limit, reason)
        self._journal.note(session_id, EventKind.SLEPT, reason)
        return _Word.SLEPT

    async def _put_down(self, workspace: Workspace, age: timedelta | None) -> _Word:
        session_id = workspace.session_id
        if age is None:
            await self._demand.rebuild_record(session_id)
            return _Word.KEPT
        outcome = await self._store.release(session_id, self._settings.release_after, force=False)
        if outcome is ReleaseOutcome.ADOPTED:
            _log.info("demand from outside adopted", extra={"session": session_id})
            self._journal.note(session_id, EventKind.ADOPTED, "demand from outside was found in its queue")
            return _Word.ADOPTED
        if outcome is not ReleaseOutcome.RELEASED:
            return _Word.KEPT
        await self._cluster.sleep_workspace(
            session_id, workspace.resource_version, int(self._clock.now().timestamp() * 1000)
        )
        return _Word.SLEPT

    async def _judge(self, workspace: Workspace, age: timedelta) -> Verdict:
        verdict = judge(await self._inquiry.ask(workspace, age), age, self._settings)
        if verdict.activity_age is not None:
            await self._touch(workspace.session_id, verdict.activity_age)
        if not verdict.idle:
            _log.debug("stays awake: %s", verdict.reason, extra={"session": workspace.session_id})
        return verdict

    async def _touch(self, session_id: SessionId, age: timedelta) -> None:
        # Of the newest view: the agent may have taken its time, and what sleeps by now is not woken by its answer.
        seen = self._latest.get(session_id)
        if seen is not None:
            await self._demand.touch(seen, age)

    def _already_patched(self, workspace: Workspace) -> bool:
        return self._put_to_sleep.get(workspace.session_id) == workspace.resource_version

    def _forget_all_but(self, workspaces: Sequence[Workspace]) -> None:
        present = {w.session_id: w.resource_version for w in workspaces}
        self._latest = {w.session_id: w for w in workspaces}
        self._inquiry.forget_all_but({w.session_id for w in workspaces if w.replicas})
        self._put_to_sleep = {s: v for s, v in self._put_to_sleep.items() if present.get(s) == v}
        self._refusals = {s: n for s, n in self._refusals.items() if s in present}

    def _count_refusal(self, session_id: SessionId, error: Exception) -> None:
        count = self._refusals[session_id] = self._refusals.get(session_id, 0) + 1
        # At 4, 8, 16, ... in a row: a cluster that is away must not fill the log.
        if count > REFUSALS_WORTH_A_WARNING and count.bit_count() == 1:
            _log.warning("sleep refused %d times in a row: %s", count, error, extra={"session": session_id})
            self._journal.note(session_id, EventKind.SLEEP_REFUSED, f"{count} times in a row")
