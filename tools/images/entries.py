"""Entries of the image cache: complete or absent, made by one process at a time."""

from __future__ import annotations

import os
import shutil
import time
from contextlib import suppress
from typing import TYPE_CHECKING

from tools.cache import cache_root, locked

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.progress import Progress


# Entries that nobody asked for in this time, and that have younger siblings, make room.
_KEPT_ENTRIES = 3
_KEPT_SECONDS = 3600


def folder() -> Path:
    """Return the folder of the entries."""
    return cache_root() / "images"


def entry(name: str, fill: Callable[[Path], None], progress: Progress) -> Path:
    """Return the file or folder of this name, after `fill` has made it if it is missing."""
    place = folder() / name
    if not place.exists():
        with locked(cache_root(), name, lambda: progress.line(f"waiting for another build of {name}")):
            if not place.exists():
                # Under the lock, so what lies there is of a build that was killed.
                draft = cache_root() / "drafts" / name
                remove(draft)
                fill(draft)
                place.parent.mkdir(exist_ok=True)
                draft.rename(place)
        _make_room(name.partition("-")[0])
    # A cache of somebody else, which may be used but not written, is fine.
    with suppress(OSError):
        os.utime(place)
    return place


def _make_room(kind: str) -> None:
    # Another process may be doing the same.
    with suppress(FileNotFoundError):
        siblings = sorted(folder().glob(f"{kind}-*"), key=lambda path: path.stat().st_mtime, reverse=True)
        for sibling in siblings[_KEPT_ENTRIES:]:
            if sibling.stat().st_mtime < time.time() - _KEPT_SECONDS:
                remove(sibling)


def remove(path: Path) -> None:
    """Remove a file or folder; a missing one is fine."""
    if path.is_dir() and not path.is_symlink():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)
