"""The life of the editor: code-server runs, and the port is open while it answers.

Nothing that happens to code-server or its ports ends the container: a pod with a container that is down is not Ready,
and the chat would go with the editor.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sessionctl.agent.code_server import CodeServer
from sessionctl.agent.editor_control import Control
from sessionctl.agent.editor_pipe import Pipe
from sessionctl.agent.logs import log_to_stderr

if TYPE_CHECKING:
    from sessionctl.agent.editor_settings import EditorSettings

FIRST_PAUSE_SECONDS: Final = 0.5
LONGEST_PAUSE_SECONDS: Final = 30.0
STEADY_SECONDS: Final = 60.0
"""One that ran for so long did not fail to start."""
_logger = logging.getLogger(__name__)


def run(settings: EditorSettings) -> None:
    """Serve until SIGTERM."""
    log_to_stderr()
    asyncio.run(_serve(settings))


async def _serve(settings: EditorSettings) -> None:
    stopped = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stopped.set)
    keeping = asyncio.create_task(_keep(settings))
    keeping.add_done_callback(lambda _: stopped.set())
    await stopped.wait()
    keeping.cancel()
    with suppress(asyncio.CancelledError):
        await keeping


async def _keep(settings: EditorSettings) -> None:
    """Run code-server for ever, again whenever it ends."""
    clock, pause = asyncio.get_running_loop().time, FIRST_PAUSE_SECONDS
    while True:
        began = clock()
        try:
            _logger.warning("the editor ended with %s", await _run_once(settings))
        except OSError as error:
            _logger.warning("the editor cannot be started: %s", error)
        if clock() - began > STEADY_SECONDS:
            pause = FIRST_PAUSE_SECONDS
        await asyncio.sleep(pause)
        pause = min(2 * pause, LONGEST_PAUSE_SECONDS)


async def _run_once(settings: EditorSettings) -> int:
    """Run code-server until it ends; returns its exit code, raises OSError where it or a port cannot be had."""
    pipe = Pipe(settings.host, settings.port, settings.socket)
    async with Control(settings.control_port, pipe.hang_up).open() as control, CodeServer.start(settings) as server:
        if await server.answers():
            async with pipe.open() as port:
                _logger.info("hanging up when told on port %d, listening on port %d", control, port)
                await server.wait()
        return await server.wait()
