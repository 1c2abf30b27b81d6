"""code-server as a process: VS Code in the browser."""

from __future__ import annotations

import asyncio
import json
import os
import signal
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING, Final

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from sessionctl.agent.editor_settings import EditorSettings

END_SECONDS: Final = 0.6
"""How long it may take to end: the container promises a second."""
LOOK_SECONDS: Final = 0.02
FIRST_SETTINGS: Final = {
    "chat.disableAIFeatures": True,
    "extensions.autoCheckUpdates": False,
    "extensions.autoUpdate": False,
    "extensions.ignoreRecommendations": True,
    "telemetry.telemetryLevel": "off",
    "update.mode": "none",
    "workbench.enableExperiments": False,
    "workbench.startupEditor": "none",
}
"""The user's settings until the user changes them: nobody is called unless somebody asks for it."""
_HEALTH: Final = b"GET /healthz HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n\r\n"


class CodeServer:
    """One run of it."""

    def __init__(self, process: asyncio.subprocess.Process, socket: Path) -> None:
        self._process = process
        self._socket = socket

    @classmethod
    @asynccontextmanager
    async def start(cls, settings: EditorSettings) -> AsyncIterator[CodeServer]:
        """Start it, and end it with all its processes at the end of the block; raises OSError."""
        _prepare(settings)
        process = await asyncio.create_subprocess_exec(
            *settings.command(),
            cwd=settings.workspace,
            env=settings.environment,
            stdin=asyncio.subprocess.DEVNULL,
            start_new_session=True,
        )
        try:
            yield cls(process, settings.socket)
        finally:
            await _end(process)

    async def answers(self) -> bool:
        """Return once it takes requests, or False when it has ended before."""
        while self._process.returncode is None:
            if await _is_healthy(self._socket):
                return True
            await asyncio.sleep(LOOK_SECONDS)
        return False

    async def wait(self) -> int:
        """Return its exit code."""
        return await self._process.wait()


def _prepare(settings: EditorSettings) -> None:
    settings.runtime.mkdir(mode=0o700, exist_ok=True)
    # It would write one of its own, with a password that nobody knows, into the user's files.
    settings.config.write_text("auth: none\n")
    settings.socket.unlink(missing_ok=True)
    chosen = settings.data / "User" / "settings.json"
    if not chosen.exists():
        chosen.parent.mkdir(parents=True, exist_ok=True)
        draft = chosen.with_suffix(".draft")
        draft.write_text(json.dumps(FIRST_SETTINGS, indent=4) + "\n")
        draft.rename(chosen)


async def _is_healthy(socket: Path) -> bool:
    try:
        reader, writer = await asyncio.open_unix_connection(socket)
    except OSError:
        return False
    try:
        writer.write(_HEALTH)
        return (await reader.readline()).startswith(b"HTTP/1.1 200")
    except OSError:
        return False
    finally:
        writer.transport.abort()


async def _end(process: asyncio.subprocess.Process) -> None:
    """End the process and its group: an editor that is started again must not meet parts of the one before."""
    with suppress(ProcessLookupError, TimeoutError):
        async with asyncio.timeout(END_SECONDS):
            os.killpg(process.pid, signal.SIGTERM)
            while True:
                await asyncio.sleep(LOOK_SECONDS)
                os.killpg(process.pid, 0)
    with suppress(ProcessLookupError):
        os.killpg(process.pid, signal.SIGKILL)
    await process.wait()
