"""The idle sweeper: notes the resource version, asks the agent, releases, patches, in this order (DESIGN 5)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.core.idle import judge
from sessionctl.errors import ClusterError, ConflictError, ForbiddenError, NotFoundError
from sessionctl.models import ReleaseOutcome

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.core.demand import DemandService
    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import ActivityProbe, Clock, Cluster, Store
    from sessionctl.settings import IdleSettings

PARALLEL_JUDGEMENTS: Final = 32
REFUSALS_WORTH_A_WARNING: Final = 3
CLOCK_JUMP: Final = timedelta(seconds=-5)
"""An activity this far in the future comes from a clock that jumped; the release script mends it."""

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class SweepReport:
    """What one tick did."""

    slept: tuple[SessionId, ...] = ()
    adopted: tuple[SessionId, ...] = ()
    kept: tuple[SessionId, ...] = ()
    refused: tuple[SessionId, ...] = ()


class Sweeper:
    """Puts idle sessions to sleep; every replica may run it at once."""

    def __init__(
        self,
        *,
        cluster: Cluster,
        store: Store,
        demand: DemandService,
        probe: ActivityProbe,
        clock: Clock,
        settings: IdleSettings,
    ) -> None:
        self._cluster = cluster
        self._store = store
        self._demand = demand
        self._probe = probe
        self._clock = clock
        self._settings = settings
        self._put_to_sleep: dict[SessionId, str] = {}
        self._refusals: dict[SessionId, int] = {}

    async def tick(self, workspaces: Sequence[Workspace]) -> SweepReport:
        """Judge every running session once. Raises StoreError; a cluster that does not answer leaves all as it is."""
        running = [w for w in workspaces if w.replicas and w.deleted_at is None and not self._already_patched(w)]
        self._forget_all_but(workspaces)
        ages = await self._store.get_idle_times([w.session_id for w in running])
        slots = asyncio.Semaphore(PARALLEL_JUDGEMENTS)

        async def in_turn(workspace: Workspace, age: timedelta | None) -> tuple[SessionId, str]:
            async with slots:
                return workspace.session_id, await self._sweep(workspace, age)

        due = [
            (w, age)
            for w, age in zip(running, ages, strict=True)
            if age is None or age >= self._settings.release_after or age < CLOCK_JUMP
        ]
        results = await asyncio.gather(*(in_turn(w, age) for w, age in due))
        grouped: dict[str, list[SessionId]] = {"slept": [], "adopted": [], "kept": [], "refused": []}
        for session_id, word in results:
            grouped[word].append(session_id)
        return SweepReport(**{word: tuple(ids) for word, ids in grouped.items()})

    async def _sweep(self, workspace: Workspace, age: timedelta | None) -> str:
        session_id = workspace.session_id
        try:
            if age is None:
                await self._demand.rebuild_record(session_id)
                return "kept"
            if age >= self._settings.release_after and not await self._is_idle(workspace, age):
                return "kept"
            outcome = await self._store.release(session_id, self._settings.release_after, force=False)
            if outcome is ReleaseOutcome.ADOPTED:
                _log.info("demand from outside adopted", extra={"session": session_id})
                return "adopted"
            if outcome is not ReleaseOutcome.RELEASED:
                return "kept"
            await self._cluster.sleep_workspace(
                session_id, workspace.resource_version, int(self._clock.now().timestamp() * 1000)
            )
        except (NotFoundError, ConflictError, ForbiddenError, ClusterError) as error:
            # Nothing is undone and the patch is never repeated alone: the next tick judges anew.
            self._count_refusal(session_id, error)
            return "refused"
        self._refusals.pop(session_id, None)
        self._put_to_sleep[session_id] = workspace.resource_version
        _log.info("put to sleep", extra={"session": session_id})
        return "slept"

    async def _is_idle(self, workspace: Workspace, age: timedelta) -> bool:
        verdict = judge(await self._probe.ask(workspace), age, self._settings)
        if verdict.activity_age is not None:
            await self._demand.touch(workspace, verdict.activity_age)
        if not verdict.idle:
            _log.debug("stays awake: %s", verdict.reason, extra={"session": workspace.session_id})
        return verdict.idle

    def _already_patched(self, workspace: Workspace) -> bool:
        return self._put_to_sleep.get(workspace.session_id) == workspace.resource_version

    def _forget_all_but(self, workspaces: Sequence[Workspace]) -> None:
        present = {w.session_id: w.resource_version for w in workspaces}
        self._put_to_sleep = {s: v for s, v in self._put_to_sleep.items() if present.get(s) == v}
        self._refusals = {s: n for s, n in self._refusals.items() if s in present}

    def _count_refusal(self, session_id: SessionId, error: Exception) -> None:
        count = self._refusals[session_id] = self._refusals.get(session_id, 0) + 1
        # At 4, 8, 16, ... in a row: a cluster that is away must not fill the log.
        if count > REFUSALS_WORTH_A_WARNING and count.bit_count() == 1:
            _log.warning("sleep refused %d times in a row: %s", count, error, extra={"session": session_id})
