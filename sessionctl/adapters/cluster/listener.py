"""A port of this machine that leads into a pod: what clients of other protocols connect to."""

from __future__ import annotations

import asyncio
import logging
from contextlib import suppress
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.cluster.dial import READ_BYTES
from sessionctl.errors import SessionctlError

if TYPE_CHECKING:
    from sessionctl.adapters.cluster.portforward import ForwardedStream, PodPort, PortForwarder

HOST: Final = "127.0.0.1"

_log = logging.getLogger(__name__)


class ForwardListener:
    """Each connection to it is one stream to the pod that is ready at that moment: a replaced pod is found again.

    Attributes:
        failure: Why the last connection came to nothing; its client only saw it end.
    """

    def __init__(self, forwarder: PortForwarder, target: PodPort) -> None:
        self._forwarder = forwarder
        self._target = target
        self._server: asyncio.Server | None = None
        self._open: set[asyncio.Task[None]] = set()
        self.failure: SessionctlError | None = None

    async def start(self) -> tuple[str, int]:
        """Listen on a free port, for this machine only, and return the address; the cluster is not asked yet."""
        self._server = await asyncio.start_server(self._accept, HOST, 0)
        port: int = self._server.sockets[0].getsockname()[1]
        return HOST, port

    async def close(self) -> None:
        """Stop listening and end every stream."""
        if self._server is not None:
            self._server.close()
        tasks = list(self._open)
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        # The transports that were dropped are told so in the loop's next round.
        await asyncio.sleep(0)

    def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.create_task(self._serve(reader, writer))
        self._open.add(task)
        task.add_done_callback(self._open.discard)

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            stream = await self._forwarder.open(self._target)
            try:
                await self._join(reader, writer, stream)
            except BaseException:
                stream.abort()
                raise
            stream.close()
            writer.close()
        except SessionctlError as error:
            # Before the client sees the end: it may ask why at once.
            self.failure = error
            _log.debug("a forwarded connection failed: %s", error)
            writer.transport.abort()
        except BaseException:
            writer.transport.abort()
            raise

    async def _join(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, stream: ForwardedStream) -> None:
        """Carry bytes both ways until one side ends; raises what the stream raises."""

        async def up() -> None:
            with suppress(ConnectionError):
                while data := await reader.read(READ_BYTES):
                    await stream.write(data)

        async def down() -> None:
            with suppress(ConnectionError):
                while data := await stream.read():
                    self.failure = None
                    writer.write(data)
                    await writer.drain()

        ways = [asyncio.create_task(up()), asyncio.create_task(down())]
        try:
            finished, _ = await asyncio.wait(ways, return_when=asyncio.FIRST_COMPLETED)
            for way in finished:
                way.result()
        finally:
            for way in ways:
                way.cancel()
            await asyncio.gather(*ways, return_exceptions=True)
