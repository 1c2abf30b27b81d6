"""Progress lines on standard error: a counter on a terminal, plain lines elsewhere."""

from __future__ import annotations

import contextlib
import sys
import threading
import time
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

# A log without a new line for minutes looks like a hang, to people and to CI.
_PLAIN_INTERVAL = 60.0


class Progress:
    """Writes what is going on and how long it took."""

    def __init__(self, say: Callable[[str], None] | None = None) -> None:
        self._say = say
        self._terminal = say is None and sys.stderr.isatty()

    def line(self, text: str) -> None:
        """Write one line."""
        if self._say is not None:
            self._say(text)
        else:
            sys.stderr.write(f"{text}\n")
            sys.stderr.flush()

    @contextlib.contextmanager
    def step(self, text: str) -> Iterator[None]:
        """Write the text, how long it has taken so far, and at the end how long it took."""
        started = time.monotonic()
        over = threading.Event()
        ticker = threading.Thread(target=self._tick, args=(text, started, over), daemon=True)
        if not self._terminal:
            self.line(f"{text} ...")
        ticker.start()
        outcome = "failed after"
        try:
            yield
            outcome = ""
        finally:
            over.set()
            ticker.join()
            start = "\r" if self._terminal else ""
            self.line(f"{start}{text} ... {outcome}{' ' * bool(outcome)}{time.monotonic() - started:.0f} s")

    def _tick(self, text: str, started: float, over: threading.Event) -> None:
        while not over.wait(1.0 if self._terminal else _PLAIN_INTERVAL):
            seconds = time.monotonic() - started
            if self._terminal:
                sys.stderr.write(f"\r{text} ... {seconds:.0f} s")
                sys.stderr.flush()
            else:
                self.line(f"{text} ... {seconds:.0f} s so far")
