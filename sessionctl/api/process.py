"""The life of the manager's process: listen, serve, drain, end."""

from __future__ import annotations

import asyncio
import logging
import signal
import socket
from contextlib import contextmanager
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

import uvicorn

from sessionctl.api.app import create_app
from sessionctl.api.connections import TimedProtocol
from sessionctl.api.services import Life, assemble
from sessionctl.core.keys import KeyRing
from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Iterator
    from datetime import timedelta

    from starlette.types import ASGIApp

    from sessionctl.factory import Factory

FINISH_SECONDS: Final = 5
"""How long requests in flight may take after the drain, beside a run of Helm."""
BACKLOG: Final = 2048

_log = logging.getLogger(__name__)


@dataclass(frozen=True)
class Address:
    """Where to listen; no host means all addresses."""

    host: str | None
    port: int


class _Server(uvicorn.Server):
    @contextmanager
    def capture_signals(self) -> Iterator[None]:
        """Leave signals to us: uvicorn would stop listening at once."""
        yield


async def run(factory: Factory, address: Address, key_directory: str, drain: timedelta) -> None:
    """Serve until SIGTERM or SIGINT; raises ConfigurationError."""
    life, ring = Life(), KeyRing(factory.clock)
    keeper = factory.create_key_keeper(key_directory, ring)
    await keeper.load()
    factory = factory.for_manager()
    metrics = factory.metrics
    manager = await factory.create_manager()
    services = await assemble(factory, ring, metrics, life, manager.answers)
    server = _Server(_configuration(create_app(services), factory.settings.helm.timeout))
    with _listen(address) as listener:
        port = listener.getsockname()[1]
        _log.info("listening on port %d", port)
        stop = asyncio.create_task(_stop_on_signal(server, life, drain))
        try:
            async with asyncio.TaskGroup() as group:
                background = [
                    group.create_task(work) for work in (keeper.forever(), manager.run(), _sync(factory, life))
                ]
                await server.serve(sockets=[listener])
                for task in background:
                    task.cancel()
        finally:
            stop.cancel()
            await services.hub.close()
            await factory.journal.close()
    _log.info("ended")


async def _sync(factory: Factory, life: Life) -> None:
    await factory.mirror.wait_synced()
    life.synced.set()
    _log.info("ready")


async def _stop_on_signal(server: _Server, life: Life, drain: timedelta) -> None:
    loop = asyncio.get_running_loop()
    asked = asyncio.Event()

    def on_signal() -> None:
        if asked.is_set():
            life.ending.set()
            server.should_exit = server.force_exit = True
        asked.set()

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, on_signal)
    await asked.wait()
    _log.info("draining")
    life.draining.set()
    await asyncio.sleep(drain.total_seconds())
    life.ending.set()
    server.should_exit = True


def _configuration(app: ASGIApp, longest_work: timedelta) -> uvicorn.Config:
    return uvicorn.Config(
        app,
        loop="asyncio",
        http=TimedProtocol,
        ws="none",
        lifespan="off",
        interface="asgi3",
        log_config=None,
        access_log=False,
        server_header=False,
        proxy_headers=False,
        timeout_keep_alive=30,
        timeout_graceful_shutdown=int(longest_work.total_seconds()) + FINISH_SECONDS,
    )


def _listen(address: Address) -> socket.socket:
    try:
        if address.host:
            family = socket.getaddrinfo(address.host, address.port, type=socket.SOCK_STREAM)[0][0]
            listener = socket.create_server((address.host, address.port), family=family, backlog=BACKLOG)
        elif socket.has_dualstack_ipv6():
            listener = socket.create_server(
                ("", address.port), family=socket.AF_INET6, dualstack_ipv6=True, backlog=BACKLOG
            )
        else:
            listener = socket.create_server(("", address.port), backlog=BACKLOG)
    except OSError as error:
        where = f"{address.host or 'all addresses'}, port {address.port}"
        raise ConfigurationError(f"cannot listen on {where}: {error.strerror}") from error
    # Every connection inherits it. asyncio does it only for sockets that it made; without it the body of each answer
    # waits for the acknowledgement of its head, 40 ms.
    listener.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listener
