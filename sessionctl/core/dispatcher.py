"""Which sessions' chats this process delivers: those it is told of, and those that nobody delivers (DESIGN 7).

Every manager has one. None needs to know of another: the lock of a session decides, and what is pending is found by
whoever looks first after its manager has died.
"""

from __future__ import annotations

import asyncio
import logging
import secrets
from collections import Counter
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.core.delivery import Delivery, Result
from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from collections.abc import Callable

    from sessionctl.core.demand import DemandService
    from sessionctl.core.sending import Means
    from sessionctl.models import SessionId
    from sessionctl.ports import Metrics

MOST_SESSIONS: Final = 5000
"""Deliveries at once; what is beyond it is found by the next look that has room."""
SHARE: Final = 4
"""A tenant may have so many times as many deliveries as there is room for more: of an empty house four fifths, and
whatever the agents of some tenants do, there is room for one that has none."""
FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0

_log = logging.getLogger(__name__)


class Doorbell:
    """Tells the dispatcher of this process, if there is one, that a chat waits."""

    def __init__(self) -> None:
        self._listener: Callable[[SessionId], None] | None = None

    def listen(self, listener: Callable[[SessionId], None]) -> None:
        """Have the listener called; it has to be quick."""
        self._listener = listener

    def ring(self, session_id: SessionId) -> None:
        """Tell it."""
        if self._listener is not None:
            self._listener(session_id)


@dataclass(frozen=True)
class _Pause:
    until: float
    seconds: float


class Dispatcher:
    """Runs deliveries, one for each session at most; a bad session delays no other."""

    def __init__(
        self, means: Means, demand: DemandService, metrics: Metrics, tenant_of: Callable[[SessionId], str]
    ) -> None:
        self._means = means
        self._tenant_of = tenant_of
        self._demand = demand
        self._metrics = metrics
        self._owner = secrets.token_hex(8)
        self._tasks: dict[SessionId, asyncio.Task[None]] = {}
        self._of_tenant: Counter[str] = Counter()
        self._again: set[SessionId] = set()
        self._pauses: dict[SessionId, _Pause] = {}
        self._longest_held = max(FIRST_PAUSE_SECONDS, means.settings.lock_lifetime.total_seconds() / 2)
        self._closed = False

    def notify(self, session_id: SessionId) -> None:
        """Deliver what waits for a session; returns at once."""
        if session_id in self._tasks:
            # Its last look may have been just before the chat came.
            self._again.add(session_id)
        elif not self._closed and self._has_room(tenant := self._tenant_of(session_id)):
            self._start(session_id, tenant)

    async def scan(self) -> None:
        """Deliver what nobody delivers; raises StoreError."""
        pending = set(await self._means.store.list_pending())
        now = self._means.clock.monotonic()
        self._pauses = {session_id: pause for session_id, pause in self._pauses.items() if session_id in pending}
        for session_id in pending - self._tasks.keys():
            pause = self._pauses.get(session_id)
            if pause is None or pause.until <= now:
                self.notify(session_id)
        self._metrics.set_deliveries(len(self._tasks))

    async def close(self) -> None:
        """End every delivery and give its lock back, so that others go on at once."""
        self._closed = True
        tasks = list(self._tasks.values())
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)

    def _has_room(self, tenant: str) -> bool:
        return self._of_tenant[tenant] < SHARE * (MOST_SESSIONS - len(self._tasks))

    def _start(self, session_id: SessionId, tenant: str) -> None:
        delivery = Delivery(session_id, self._owner, self._means, self._demand, self._metrics)
        self._of_tenant[tenant] += 1
        self._tasks[session_id] = asyncio.create_task(self._run(session_id, tenant, delivery))

    async def _run(self, session_id: SessionId, tenant: str, delivery: Delivery) -> None:
        longest = LONGEST_PAUSE_SECONDS
        try:
            result = await delivery.run()
            if result is Result.EMPTY:
                self._pauses.pop(session_id, None)
                return
            longest = self._longest_held
        except SessionctlError as error:
            _log.warning("its chats cannot be delivered now: %s", error, extra={"session": session_id})
        except Exception:  # noqa: BLE001
            # A mistake of ours with one session must not keep the chats of all others.
            _log.exception("its chats cannot be delivered", extra={"session": session_id})
        finally:
            del self._tasks[session_id]
            self._of_tenant[tenant] -= 1
            if not self._of_tenant[tenant]:
                del self._of_tenant[tenant]
            if session_id in self._again:
                self._again.discard(session_id)
                self.notify(session_id)
        self._put_off(session_id, longest)

    def _put_off(self, session_id: SessionId, longest: float) -> None:
        """Look at it again after a pause that grows, unless somebody tells of a chat."""
        known = self._pauses.get(session_id)
        seconds = min(longest, known.seconds * 2 if known else FIRST_PAUSE_SECONDS)
        self._pauses[session_id] = _Pause(self._means.clock.monotonic() + seconds, seconds)
