"""Files of JSON lines that survive a process or a node that dies in the middle of a write."""

from __future__ import annotations

import json
import os
from contextlib import contextmanager
from typing import TYPE_CHECKING, Final

from sessionctl.errors import UnavailableError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from sessionctl.models import JsonObject

BLOCK: Final = 64 * 1024


@contextmanager
def storage_errors() -> Iterator[None]:
    """Turn what the volume refuses into an UnavailableError: nothing can be promised until it is mended."""
    try:
        yield
    except OSError as error:
        hint = "Free some space on the volume, or see why it cannot be written; then send the message again."
        raise UnavailableError(f"the workspace cannot be used: {error.strerror}", hint=hint) from error


def write_all(descriptor: int, data: bytes) -> None:
    """Write all of it; a full disk may take a part first and refuse the rest."""
    view = memoryview(data)
    while view:
        view = view[os.write(descriptor, view) :]


def sync_folder(folder: Path) -> None:
    """Make new and removed names in a folder durable."""
    descriptor = os.open(folder, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)


def ensure_folder(folder: Path) -> None:
    """Make a folder and its parents, each durable before what is put in it."""
    if folder.is_dir():
        return
    ensure_folder(folder.parent)
    folder.mkdir(mode=0o700)
    sync_folder(folder.parent)


def open_to_append(file: Path, *, create: bool = False) -> int:
    """Open a file whose last line is whole: a torn one is dropped, one that lacks only its newline gets it."""
    flags = os.O_RDWR | os.O_APPEND | os.O_CLOEXEC | (os.O_CREAT if create else 0)
    descriptor = os.open(file, flags, 0o600)
    try:
        _repair(descriptor)
    except BaseException:
        os.close(descriptor)
        raise
    return descriptor


def last_lines(descriptor: int, count: int) -> list[bytes]:
    """Return up to ``count`` last lines of a repaired file without reading the rest."""
    end = os.fstat(descriptor).st_size
    return _read(descriptor, _line_start(descriptor, end, count), end).removesuffix(b"\n").split(b"\n")


def spans_from_the_end(descriptor: int) -> Iterator[tuple[int, int]]:
    """Yield where each whole line begins and ends, the last one first; what is torn at the end is passed over.

    Holds one block, however long a line is.
    """
    position, stop = os.fstat(descriptor).st_size, None
    while position > 0:
        start = max(0, position - BLOCK)
        block = _read(descriptor, start, position)
        newline = len(block)
        while (newline := block.rfind(b"\n", 0, newline)) >= 0:
            if stop is not None:
                yield start + newline + 1, stop
            stop = start + newline
        position = start
    if stop is not None:
        yield 0, stop


def read_span(descriptor: int, start: int, end: int) -> bytes:
    """Return these bytes of a file, fewer where it has ended."""
    return _read(descriptor, start, end)


def parse_line(line: bytes) -> JsonObject | None:
    """Return the object that a line holds; None when it holds none."""
    try:
        found = json.loads(line.decode())
    except (ValueError, RecursionError):
        return None
    return found if isinstance(found, dict) else None


def _repair(descriptor: int) -> None:
    end = os.fstat(descriptor).st_size
    if end == 0 or os.pread(descriptor, 1, end - 1) == b"\n":
        return
    start = _line_start(descriptor, end, 1)
    if parse_line(_read(descriptor, start, end)) is not None:
        write_all(descriptor, b"\n")
    else:
        os.ftruncate(descriptor, start)


def _line_start(descriptor: int, end: int, count: int) -> int:
    """Return where the last ``count`` lines before ``end`` begin, found from the back."""
    position, left = end - 1, count
    while position > 0:
        start = max(0, position - BLOCK)
        block = _read(descriptor, start, position)
        while (newline := block.rfind(b"\n")) >= 0:
            left -= 1
            if left == 0:
                return start + newline + 1
            block = block[:newline]
        position = start
    return 0


def _read(descriptor: int, start: int, end: int) -> bytes:
    parts = []
    while start < end and (part := os.pread(descriptor, end - start, start)):
        parts.append(part)
        start += len(part)
    return b"".join(parts)
