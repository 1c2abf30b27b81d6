"""Who is at work here beside messages: commands that hold the workspace awake, and people in the editor (DESIGN 5).

All that is told are ages by a clock that only goes forward. What tells of work needs no token, since the editor's
container has none, but has to come from inside the pod, where the worst it can do is to keep its own workspace awake.
"""

from __future__ import annotations

import asyncio
import math
import time
from contextlib import contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

from starlette.responses import Response
from starlette.routing import Route

from sessionctl.agent.connections import Connections
from sessionctl.errors import ForbiddenError, InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator

    from starlette.requests import Request
    from starlette.types import Receive, Scope, Send

HOLD_PATH: Final = "/v1/hold"
LOOK_SECONDS: Final = 1.0


@dataclass(frozen=True)
class Ages:
    """How long ago or for how long, in seconds; None where there is nothing."""

    hold: float | None = None
    editor_input: float | None = None
    editor_connected: float | None = None


class Activity:
    """Remembers what it was told and looks for connections to the editor's port."""

    def __init__(self, editor_port: int, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._connections = Connections(editor_port, clock)
        self._input_at: float | None = None
        self._holds: list[float] = []

    async def watch(self) -> None:
        """Look for connections, for ever."""
        while True:
            self._connections.look()
            await asyncio.sleep(LOOK_SECONDS)

    def ages(self) -> Ages:
        """Return what goes on, as of now."""
        self._connections.look()
        now = self._clock()
        return Ages(
            # The last that began: one that was forgotten must not take the limit away from a new one.
            hold=now - max(self._holds) if self._holds else None,
            editor_input=None if self._input_at is None else now - self._input_at,
            editor_connected=self._connections.age(),
        )

    @contextmanager
    def hold(self, age: float) -> Iterator[None]:
        """Count as held by something that began ``age`` seconds ago, until the end of the block."""
        began = self._clock() - age
        self._holds.append(began)
        try:
            yield
        finally:
            self._holds.remove(began)

    def note_input(self) -> None:
        """Remember that somebody works in the editor at this moment."""
        self._input_at = self._clock()


class _WhileConnected(Response):
    """An answer that has no end of its own: the hold lasts until its client is gone, however that happens."""

    def __init__(self, activity: Activity, age: float) -> None:
        super().__init__()
        self._activity = activity
        self._age = age

    async def __call__(self, _scope: Scope, receive: Receive, send: Send) -> None:
        """Tell that it is held, and wait for the client to leave."""
        with self._activity.hold(self._age):
            headers = [(b"content-type", b"text/plain; charset=utf-8")]
            await send({"type": "http.response.start", "status": HTTPStatus.OK, "headers": headers})
            await send({"type": "http.response.body", "body": b"held\n", "more_body": True})
            while (await receive())["type"] != "http.disconnect":
                pass


def routes(activity: Activity) -> list[Route]:
    """Return the endpoints for what runs in the same pod."""

    async def hold(request: Request) -> Response:
        _require_loopback(request)
        return _WhileConnected(activity, _age(request.query_params.get("age", "0")))

    async def editor_input(request: Request) -> Response:
        _require_loopback(request)
        activity.note_input()
        return Response(status_code=HTTPStatus.NO_CONTENT)

    return [Route(HOLD_PATH, hold, methods=["POST"]), Route("/v1/editor/input", editor_input, methods=["POST"])]


def _require_loopback(request: Request) -> None:
    # As the kernel names it: no header can say otherwise.
    host = request.client.host if request.client else ""
    if host != "::1" and not host.removeprefix("::ffff:").startswith("127."):
        raise ForbiddenError("this is for what runs in the same pod")


def _age(text: str) -> float:
    try:
        age = float(text)
    except ValueError:
        age = math.nan
    if not 0 <= age < math.inf:
        raise InvalidRequestError("age has to be a number of seconds, not negative", field="age")
    return age
