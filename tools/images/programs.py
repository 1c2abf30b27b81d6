"""Runs the programs that make images, and says in one line why one failed."""

from __future__ import annotations

import os
import re
import subprocess
from typing import TYPE_CHECKING

from tools.cache import cache_root
from tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence
    from pathlib import Path

# Whatever the program mounts is gone with it, also when it is killed.
ISOLATED = ("unshare", "--mount", "--propagation", "private")
_TELLING = re.compile(r"(ERROR|E|fatal|error): ")


def run(argv: Sequence[str], what: str, environment: Mapping[str, str] | None = None, cwd: Path | None = None) -> None:
    """Run a program; what it prints is in a log.

    Args:
        argv: The program and its arguments.
        what: The work, for the error and the name of the log.
        environment: Added to that of this process.
        cwd: Where it runs.

    Raises:
        ToolError: It failed or is missing.
    """
    log = cache_root() / "logs" / f"{re.sub('[^a-z0-9]+', '-', what.lower())}.log"
    log.parent.mkdir(parents=True, exist_ok=True)
    try:
        with log.open("wb") as output:
            done = subprocess.run(
                argv,
                cwd=cwd,
                env=os.environ | dict(environment or {}),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                check=False,
            )
    except FileNotFoundError as error:
        raise ToolError(f"{what} failed ({argv[0]} is missing)", "install it") from error
    if done.returncode != 0:
        raise ToolError(f"{what} failed ({_reason(log.read_text(errors='replace'))})", f"see {log}")


def _reason(text: str) -> str:
    """Return the last line that looks like a reason: programs inside the build say more than the builder after them."""
    lines = [line.strip() for line in text.splitlines() if line.strip()]
    telling = [line for line in lines if _TELLING.match(line)]
    return (telling or lines or ["no reason given"])[-1][:300]
