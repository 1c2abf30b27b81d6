"""Open connections to the editor, as the kernel of the pod's network sees them."""

from __future__ import annotations

import logging
from pathlib import Path
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import Callable

TABLES: Final = (Path("/proc/self/net/tcp"), Path("/proc/self/net/tcp6"))
LASTING_SECONDS: Final = 1.0
"""An open tab lasts longer; a probe, which is no work, does not."""
_ESTABLISHED: Final = b"01"
_logger = logging.getLogger(__name__)


class Connections:
    """Knows since when each connection to a port has been there; it has to look often, the kernel does not tell."""

    def __init__(self, port: int, clock: Callable[[], float]) -> None:
        self._port = port
        self._clock = clock
        self._since: dict[bytes, float] = {}
        self._warned = False

    def look(self) -> None:
        """Note what has come and forget what has gone."""
        try:
            present = _established(self._port)
        except OSError as error:
            # What was there counts on: not knowing is no reason to call it gone.
            if not self._warned:
                _logger.warning("connections to the editor cannot be seen: %s", error.strerror)
            self._warned = True
            return
        self._warned = False
        now = self._clock()
        self._since = {pair: self._since.get(pair, now) for pair in present}

    def age(self) -> float | None:
        """Return for how long the newest one that lasts has been there, in seconds; None where none does.

        A forgotten one must not take the limit from one that somebody works with.
        """
        now = self._clock()
        return min((now - since for since in self._since.values() if now - since >= LASTING_SECONDS), default=None)


def _established(port: int) -> set[bytes]:
    """Return the pairs of addresses of which the first one is ours, at this port."""
    ours = b":%04X" % port
    found = set()
    for table in TABLES:
        try:
            lines = table.read_bytes().splitlines()[1:]
        except FileNotFoundError:
            continue  # a kernel without IPv6
        for line in lines:
            _, local, remote, state, _ = line.split(None, 4)
            if state == _ESTABLISHED and local.endswith(ours):
                found.add(local + remote)
    return found
