"""The life of the process: listen, wait for the workspace, serve, end in time."""

from __future__ import annotations

import asyncio
import gc
import logging
import os
import signal
import uuid
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, Final

import uvicorn

from sessionctl.agent.activity import Activity
from sessionctl.agent.conversation import Conversation
from sessionctl.agent.editor_control import Editor
from sessionctl.agent.files import ensure_folder
from sessionctl.agent.journal import Journal
from sessionctl.agent.kinds import Echo, KindName
from sessionctl.agent.listening import listen
from sessionctl.agent.lock import WorkspaceLock
from sessionctl.agent.logs import log_to_stderr
from sessionctl.agent.runner import Runner
from sessionctl.agent.server import Agent, Phase, build_app
from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    import socket
    from collections.abc import Iterator

    from sessionctl.agent.kinds import Kind
    from sessionctl.agent.settings import AgentSettings

MESSAGE_SECONDS: Final = 10.0
"""How long a message may go on after SIGTERM; with the 4 s that ending a command can take then, and what follows, it
stays below the promised 15 s."""
ANSWER_SECONDS: Final = 0.5
"""How long answers that are complete may take to be sent after that; the rest is replayed after the next start."""

_logger = logging.getLogger(__name__)


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: a message may have to be waited for first."""
        yield

    def drop_connections(self) -> None:
        """End what clients neither read nor send, so that the handlers see it and end by themselves."""
        for connection in list(self.server_state.connections):
            connection.transport.abort()


def run(settings: AgentSettings, kind: Kind | None = None) -> None:
    """Serve until SIGTERM; raises ConfigurationError or UnavailableError when the workspace cannot be served."""
    log_to_stderr()
    lock = _open_lock(settings)
    listener = _listen(settings)
    asyncio.run(_serve(settings, kind or build_kind(settings, lock), lock, listener))


def build_kind(settings: AgentSettings, lock: WorkspaceLock) -> Kind:
    """Return what answers messages; only what is wanted is loaded."""
    match settings.kind:
        case KindName.COMMAND:
            from sessionctl.agent.command import Command

            assert settings.command is not None  # noqa: S101 - the settings see to it
            return Command(settings.command, settings.workspace, os.environ, lock)
        case KindName.OPENAI:
            from sessionctl.agent.openai import OpenAI

            assert settings.openai is not None  # noqa: S101 - as above
            return OpenAI(settings.openai, Conversation(settings.state / "conversation.jsonl"))
        case KindName.ECHO:
            return Echo()


async def _serve(settings: AgentSettings, kind: Kind, lock: WorkspaceLock, listener: socket.socket) -> None:
    stopped = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stopped.set)
    runner = Runner(
        journal=Journal(settings.state / "messages"),
        conversation=Conversation(settings.state / "conversation.jsonl"),
        kind=kind,
        boot_id=str(uuid.uuid4()),
    )
    agent = Agent(settings.token, runner, Activity(settings.editor_port), Editor(settings.editor_control_port))
    server = _Server(_configuration(agent))
    serving = asyncio.create_task(server.serve(sockets=[listener]))
    opening = asyncio.create_task(_open(agent, lock))
    watching = asyncio.create_task(agent.work.watch())
    for task in (serving, opening, watching):
        task.add_done_callback(lambda task: stopped.set() if task.cancelled() or task.exception() else None)
    await stopped.wait()
    agent.phase = Phase.STOPPING
    opening.cancel()
    await runner.stop(MESSAGE_SECONDS)
    server.should_exit = True
    loop.call_later(ANSWER_SECONDS, server.drop_connections)
    await serving
    watching.cancel()
    for task in (opening, watching):
        with suppress(asyncio.CancelledError):
            await task


async def _open(agent: Agent, lock: WorkspaceLock) -> None:
    await lock.acquire()
    await agent.runner.recover()
    agent.phase = Phase.READY
    _logger.info("ready")
    try:
        await asyncio.to_thread(_warm_up, agent.runner.kind)
    except Exception:
        # Whatever it is, it is one failed message later, and no reason to end.
        _logger.exception("warming up failed")
    await agent.runner.prune()


def _warm_up(kind: Kind) -> None:
    from sessionctl.agent import protocol

    protocol.warm_up()
    kind.warm_up()
    gc.freeze()
    gc.enable()


def _configuration(agent: Agent) -> uvicorn.Config:
    return uvicorn.Config(
        build_app(agent),
        loop="asyncio",
        http="h11",
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
    )


def _open_lock(settings: AgentSettings) -> WorkspaceLock:
    try:
        ensure_folder(settings.state)
        return WorkspaceLock(settings.state / "lock")
    except OSError as error:
        raise ConfigurationError(f"WORKSPACE: {settings.state} cannot be used: {error.strerror}") from error


def _listen(settings: AgentSettings) -> socket.socket:
    try:
        listener = listen(settings.host, settings.port)
    except OSError as error:
        where = f"SESSIONCTL_AGENT_HOST, SESSIONCTL_AGENT_PORT: {settings.host or 'all addresses'}, {settings.port}"
        raise ConfigurationError(f"{where}: {error.strerror}") from error
    _logger.info("listening on port %d", listener.getsockname()[1])
    return listener
