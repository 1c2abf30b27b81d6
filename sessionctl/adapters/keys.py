"""``KeySource``: a directory with a file per API key, as kubelet mounts a Secret."""

from __future__ import annotations

import asyncio
import logging
from typing import TYPE_CHECKING, Final

from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence
    from pathlib import Path

    from sessionctl.models import ApiKey

LARGEST_ENTRY: Final = 4096

_log = logging.getLogger(__name__)


class DirectoryKeySource:
    """Reads the directory when it has changed: kubelet swaps a symbolic link, others write files.

    ``parse`` turns a file's name and text into a key, or raises a ValueError that quotes neither.
    """

    def __init__(self, directory: Path, parse: Callable[[str, str], ApiKey]) -> None:
        self._directory = directory
        self._parse = parse
        self._stamp: object = None
        self._keys: Sequence[ApiKey] = ()

    async def load(self) -> Sequence[ApiKey]:
        """See ``ports.KeySource``. A broken entry is told and left out: it must not take the others away."""
        return await asyncio.to_thread(self._load)

    def _load(self) -> Sequence[ApiKey]:
        try:
            files = sorted(file for file in self._directory.iterdir() if not file.name.startswith("."))
            found = [(file, file.stat()) for file in files]
        except OSError as error:
            msg = f"the API keys in {self._directory} cannot be read: {error.strerror}"
            raise ConfigurationError(msg, hint="Name the directory with --api-keys.") from error
        stamp = [(file.name, stat.st_ino, stat.st_mtime_ns, stat.st_size) for file, stat in found]
        if stamp != self._stamp:
            # Before reading: what fails to be read is read again next time.
            self._stamp = stamp
            self._keys = [key for file, _ in found if (key := self._read(file)) is not None]
            _log.info("%d API keys", len(self._keys))
        return self._keys

    def _read(self, file: Path) -> ApiKey | None:
        try:
            with file.open("rb") as opened:
                text = opened.read(LARGEST_ENTRY)
            return self._parse(file.name, text.decode())
        except OSError as error:
            self._stamp = None
            _log.warning("the API key %s is left out: %s", file.name, error.strerror)
        except UnicodeDecodeError:
            _log.warning("the API key %s is left out: it is not text", file.name)
        except ValueError as error:
            _log.warning("the API key %s is left out: %s", file.name, error)
        return None
