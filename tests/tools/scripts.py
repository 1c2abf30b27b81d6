"""Scripts as processes of their own, and the wait for a condition."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from collections.abc import Callable

from tools import processes
from tools.pins import ROOT

_PATIENCE_SECONDS = 60


class Script:
    """A Python script that runs in a process of its own, recognisable together with everything it starts."""

    def __init__(self, mark: str, text: str, wrapper: list[str]) -> None:
        self.mark = mark
        self.process = subprocess.Popen(
            [*wrapper, sys.executable, "-c", text],
            cwd=ROOT,
            env={**os.environ, "PYTHONPATH": str(ROOT), "SESSIONCTL_TEST_MARK": mark},
            stdout=subprocess.PIPE,
            text=True,
        )

    def line(self) -> str:
        """Return the next line it prints."""
        assert self.process.stdout is not None
        return self.process.stdout.readline().strip()

    def left(self) -> list[int]:
        """Return what still runs of it."""
        return processes.processes_mentioning(self.mark)


def wait_until(condition: Callable[[], object]) -> None:
    """Return when the condition holds."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while not condition():
        assert time.monotonic() < deadline, "still not so"
        time.sleep(0.02)
