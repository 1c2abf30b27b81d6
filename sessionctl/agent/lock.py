"""The lock that makes two agents on one workspace take turns, whatever the volume allows."""

from __future__ import annotations

import asyncio
import fcntl
import os
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from pathlib import Path

RETRY_SECONDS: Final = 0.05


class WorkspaceLock:
    """An exclusive ``flock``: the kernel gives it back when the process is gone, however it ended."""

    def __init__(self, file: Path) -> None:
        self._descriptor = os.open(file, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)

    @property
    def descriptor(self) -> int:
        """The open file that holds the lock; a process that is given it holds the lock too."""
        return self._descriptor

    def try_acquire(self) -> bool:
        """Take the lock if nobody else has it."""
        try:
            fcntl.flock(self._descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            return False
        return True

    async def acquire(self) -> None:
        """Take the lock as soon as the other process is gone."""
        while not self.try_acquire():  # noqa: ASYNC110 - the kernel tells nobody that it was given back
            await asyncio.sleep(RETRY_SECONDS)
