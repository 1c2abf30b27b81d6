"""Delivers the chats of one session, in order and one at a time, for as long as its fence holds (DESIGN 7)."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from enum import StrEnum
from typing import TYPE_CHECKING, Final

from sessionctl.core.lease import Lease
from sessionctl.core.sending import Sending
from sessionctl.errors import FenceLostError, MessageEndedError, NotFoundError, SessionctlError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.core.demand import DemandService
    from sessionctl.core.sending import Means
    from sessionctl.models import Fence, NextMessage, SessionId
    from sessionctl.ports import Metrics

LAST_PATIENCE_SECONDS: Final = 1.0

_log = logging.getLogger(__name__)


class Result(StrEnum):
    """Why a delivery is over."""

    EMPTY = "empty"
    """Nothing waits any more."""
    HELD = "held"
    """Somebody else delivers the session's chats."""
    LOST = "lost"
    """Somebody else goes on."""


class Delivery:
    """One run over a session's chats."""

    def __init__(
        self, session_id: SessionId, owner: str, means: Means, demand: DemandService, metrics: Metrics
    ) -> None:
        self._session_id = session_id
        self._owner = owner
        self._means = means
        self._store = means.store
        self._lifetime = means.settings.lock_lifetime
        self._demand = demand
        self._metrics = metrics
        self._lease: Lease | None = None
        self._sending: Sending | None = None

    def look(self) -> None:
        """Ask at once whether somebody wishes to cancel, not only when the lock is renewed next."""
        if self._lease is not None:
            self._lease.look()

    async def run(self) -> Result:
        """Deliver until nothing waits; raises SessionctlError where it could not even begin."""
        fence = await self._take()
        if fence is None:
            return Result.HELD
        lease = self._lease = Lease(self._store, fence, self._lifetime, self._cancel)
        result = None
        try:
            while (message := await self._means.steadily(lease, lambda: self._store.get_next(fence))) is not None:
                await self._deliver(lease, message)
            result = Result.EMPTY
        except FenceLostError:
            result = Result.LOST
        except asyncio.CancelledError:
            task = asyncio.current_task()
            if not lease.lost or task is None or task.uncancel():
                raise
            result = Result.LOST
        finally:
            self._lease = None
            await lease.close()
            if result is None:
                await self._give_back(fence)
        return result

    async def _take(self) -> Fence | None:
        try:
            return await self._store.take_dispatch(self._session_id, self._owner, self._lifetime)
        except NotFoundError:
            await self._demand.rebuild_record(self._session_id)
        return await self._store.take_dispatch(self._session_id, self._owner, self._lifetime)

    async def _deliver(self, lease: Lease, message: NextMessage) -> None:
        sending = self._sending
        if sending is not None and sending.message.message_id == message.message_id:
            sending.look_again(message)
        else:
            sending = self._sending = Sending(self._means, lease, message)
        try:
            ended = await sending.run()
            if ended is None:
                return
            await self._means.steadily(
                lease,
                lambda: self._store.finish_message(lease.fence, message.message_id, ended.outcome, ended.reason),
            )
            self._metrics.count_message(ended.outcome)
        except MessageEndedError:
            _log.info("a message was ended by somebody else while it ran", extra={"session": self._session_id})
        if sending.is_loose:
            await sending.abandon()

    def _cancel(self, wished: Sequence[str]) -> None:
        if self._sending is not None and self._sending.message.message_id in wished:
            self._sending.cancel()

    async def _give_back(self, fence: Fence) -> None:
        """Leave the session to whoever wants it: this process ends, or has a bug."""
        with suppress(SessionctlError, TimeoutError):
            async with asyncio.timeout(LAST_PATIENCE_SECONDS):
                await self._store.drop_dispatch(fence)
