"""Keeping the right to deliver a session's chats while its owner works."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sessionctl.core.rounds import is_ending
from sessionctl.errors import FenceLostError, SessionctlError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from datetime import timedelta

    from sessionctl.models import Fence
    from sessionctl.ports import DispatchStore

RENEWALS: Final = 3
"""Of one lifetime: two may fail."""

_log = logging.getLogger(__name__)


class Lease:
    """Renews a fence in time, tells of messages to cancel, and cancels its owner's task when the fence is lost.

    A Redis that does not answer is no loss: every write is refused that comes too late.
    """

    def __init__(
        self,
        store: DispatchStore,
        fence: Fence,
        lifetime: timedelta,
        cancel: Callable[[Sequence[str]], None],
    ) -> None:
        self._store = store
        self.fence = fence
        self._lifetime = lifetime
        self._pause = lifetime.total_seconds() / RENEWALS
        self._cancel = cancel
        self._owner = asyncio.current_task()
        self._task: asyncio.Task[None] | None = None
        self._now = asyncio.Event()
        # Most deliveries are over before the first renewal: those never pay for a task.
        self._first = asyncio.get_running_loop().call_later(self._pause, self.look)
        self.lost = False

    def look(self) -> None:
        """Renew it now: somebody may wish to cancel."""
        self._first.cancel()
        self._now.set()
        if self._task is None:
            self._task = asyncio.create_task(self._keep())

    def require(self) -> None:
        """Raise FenceLostError when it is lost: a cancellation may have been swallowed (see ``core.rounds``)."""
        if self.lost:
            raise FenceLostError("somebody else delivers the chats of this session by now")

    async def close(self) -> None:
        """Renew it no more."""
        self._first.cancel()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    async def _keep(self) -> None:
        while True:
            self._now.clear()
            try:
                wished = await self._store.renew_dispatch(self.fence, self._lifetime)
            except FenceLostError:
                self._lose()
                return
            except Exception as error:  # noqa: BLE001 - a lease that is not renewed is lost to somebody else, no more
                if not isinstance(error, SessionctlError):
                    _log.exception("a lease cannot be renewed", extra={"session": self.fence.session_id})
            else:
                if wished:
                    self._cancel(wished)
            if is_ending():
                return
            with suppress(TimeoutError):
                async with asyncio.timeout(self._pause):
                    await self._now.wait()

    def _lose(self) -> None:
        self.lost = True
        if self._owner is not None:
            self._owner.cancel()
