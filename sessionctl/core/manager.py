"""Everything a session manager does beside answering requests; every replica does all of it at once."""

from __future__ import annotations

import asyncio
import logging
import random
from typing import TYPE_CHECKING, Final

from sessionctl.errors import UnavailableError
from sessionctl.models import Loop

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from sessionctl.core.census import Census
    from sessionctl.core.diagnosis import Repair
    from sessionctl.core.dispatcher import Dispatcher
    from sessionctl.core.journal import Journal
    from sessionctl.core.lifetime import LifetimeKeeper
    from sessionctl.core.loop import SweepLoop
    from sessionctl.core.mirror import Mirror
    from sessionctl.core.readiness import ReadyWatch
    from sessionctl.core.reconcile import Reconciler
    from sessionctl.core.rounds import Rounds
    from sessionctl.core.why import Answers
    from sessionctl.models import SessionId
    from sessionctl.ports import Clock
    from sessionctl.settings import ReconcileSettings

CENSUS_SECONDS: Final = 10.0

_log = logging.getLogger(__name__)


class Manager:
    """The background loops. Each survives whatever a pass raises; none needs to know of another replica."""

    def __init__(
        self,
        *,
        sweep: SweepLoop,
        mirror: Mirror,
        dispatcher: Dispatcher,
        ready: ReadyWatch,
        open_reconciler: Callable[[], Awaitable[Reconciler]],
        lifetime: LifetimeKeeper,
        census: Census,
        journal: Journal,
        rounds: Rounds,
        clock: Clock,
        settings: ReconcileSettings,
        pending_interval: timedelta,
    ) -> None:
        self._sweep = sweep
        self._mirror = mirror
        self._dispatcher = dispatcher
        self._open_reconciler = open_reconciler
        self._lifetime = lifetime
        self._census = census
        self._journal = journal
        self._rounds = rounds
        self._clock = clock
        self._settings = settings
        self._pending_interval = pending_interval
        self._told: dict[SessionId, tuple[Repair, str]] = {}
        mirror.listen(ready.see)

    @property
    def answers(self) -> Answers:
        """Who knows what agents said last, so that nobody has to ask them again."""
        return self._sweep.answers

    async def run(self) -> None:
        """Run until cancelled."""
        interval = self._settings.interval.total_seconds()
        try:
            async with asyncio.TaskGroup() as group:
                group.create_task(self._sweep.forever())
                group.create_task(self._dispatch())
                group.create_task(self._begin(Loop.RECONCILE, self._reconcile, interval))
                group.create_task(self._begin(Loop.LIFETIME, self._end_lifetimes, interval))
                group.create_task(self._begin(Loop.CENSUS, self._census.tick, CENSUS_SECONDS))
        finally:
            await self._dispatcher.close()
            await self._journal.close()

    async def _dispatch(self) -> None:
        await self._mirror.wait_synced()
        await self._rounds.repeat(Loop.DISPATCH, self._dispatcher.scan, self._pending_interval.total_seconds())

    async def _begin(self, loop: Loop, work: Callable[[], Awaitable[object]], interval: float) -> None:
        await self._mirror.wait_synced()
        # Replicas that began together must not do everything at the same moment for ever.
        await self._clock.sleep(random.uniform(0, interval))  # noqa: S311 - no secret
        await self._rounds.repeat(loop, work, interval)

    def _require_cluster(self) -> None:
        if (stale := self._mirror.stale_for()) is not None:
            msg = f"the view of the cluster has been interrupted for {stale.total_seconds():.0f} s"
            raise UnavailableError(msg)

    async def _end_lifetimes(self) -> None:
        self._require_cluster()
        await self._lifetime.tick()

    async def _reconcile(self) -> None:
        self._require_cluster()
        # A new one each time: profiles and the key may have changed.
        reconciler = await self._open_reconciler()
        told = {}
        for done in await reconciler.run(self._settings.grace, dry_run=False):
            extra = {"session": done.session_id}
            if done.error is None:
                _log.info("repaired: %s", done.repair, extra=extra)
                continue
            told[done.session_id] = (done.repair, done.error)
            # What waits for somebody is told once, not every minute.
            if self._told.get(done.session_id) != told[done.session_id]:
                _log.warning("not repaired (%s): %s", done.repair, done.error, extra=extra)
        self._told = told
