"""An answer that is waited for: who asked has a place, and what is held for the answer is counted, until it is sent."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from fastapi import Response
from pydantic_core import to_json

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from http import HTTPStatus

    from pydantic import BaseModel
    from starlette.types import Receive, Scope, Send

    from sessionctl.api.sse import Streams
    from sessionctl.core.holdings import Holdings, Share

    Waiting = Callable[[Share], Awaitable[tuple[HTTPStatus, BaseModel]]]
    """Waits for the answer, and holds no more for it than there is room for; what it raises is the answer instead."""

CHUNK: Final = 1 << 16


class WaitedAnswer(Response):
    """An answer in JSON that is there after a while.

    It has a place as a stream does, before anything is stored: it holds a socket, and listens.
    """

    def __init__(self, *, waiting: Waiting, streams: Streams, holdings: Holdings, caller: str, tenant: str) -> None:
        super().__init__()
        self._waiting = waiting
        self._streams = streams
        self._holdings = holdings
        self._caller = caller
        self._tenant = tenant

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:  # noqa: ARG002 - ASGI
        """Wait, and send what came of it."""
        with self._streams.place(self._caller), self._holdings.share(self._tenant) as share:
            status, body = await self._body(share)
            headers = Response(status_code=status, media_type="application/json").headers.mutablecopy()
            headers["Content-Length"] = str(len(body))
            await send({"type": "http.response.start", "status": status, "headers": headers.raw})
            # Whoever reads slowly is waited for at each: all but the last has left this process then.
            for start in range(0, len(body), CHUNK):
                await send({"type": "http.response.body", "body": body[start : start + CHUNK], "more_body": True})
            await send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _body(self, share: Share) -> tuple[int, bytes]:
        """Return the status and the body, for which alone there is room from here on."""
        status, answer = await self._waiting(share)
        return status, to_json(answer, exclude_none=True)
