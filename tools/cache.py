"""The directory that holds built tools, shared by all checkouts of a user, and its locks."""

from __future__ import annotations

import contextlib
import fcntl
import os
from pathlib import Path
from typing import TYPE_CHECKING

from tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator


def cache_root() -> Path:
    """Return the cache directory: $SESSIONCTL_TOOLS_CACHE, or the user's cache."""
    if configured := os.environ.get("SESSIONCTL_TOOLS_CACHE"):
        return Path(configured).absolute()
    base = os.environ.get("XDG_CACHE_HOME") or Path("~/.cache").expanduser()
    return Path(base) / "sessionctl" / "tools"


@contextlib.contextmanager
def locked(cache: Path, name: str, on_wait: Callable[[], None]) -> Iterator[None]:
    """Hold the lock of a cache entry; the kernel drops it with the process, however that ends."""
    try:
        (cache / "locks").mkdir(parents=True, exist_ok=True)
        (cache / "drafts").mkdir(exist_ok=True)
        handle = (cache / "locks" / name).open("w")
    except OSError as error:
        raise ToolError(
            f"cannot write the tool cache {cache} ({error.strerror})",
            "set SESSIONCTL_TOOLS_CACHE to a directory of yours",
        ) from error
    with handle:
        try:
            fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            on_wait()
            fcntl.flock(handle, fcntl.LOCK_EX)
        yield
