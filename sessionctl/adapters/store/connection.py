"""The client of Redis, and the translation of its errors.

The library is loaded by the functions that need it: a command that talks to Helm first loads it meanwhile.
"""

from __future__ import annotations

from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from functools import cache
from typing import TYPE_CHECKING, Final, Protocol

from sessionctl.errors import OutcomeUnknownError, StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis
    from redis.asyncio.connection import Connection

    from sessionctl.errors import SessionctlError
    from sessionctl.models import RedisEndpoint

CONNECT_TIMEOUT_SECONDS: Final = 3
REPLY_TIMEOUT_SECONDS: Final = 5
MAX_CONNECTIONS: Final = 64
RETRIES: Final = 2
"""Every script may run twice (DESIGN 5), so the client may repeat one whose reply was lost."""


Address = tuple[str, int]


class Route(Protocol):
    """A way to a server that its own address does not lead to from here."""

    failure: SessionctlError | None
    """Why the last connection came to nothing."""

    async def start(self) -> Address:
        """Return the address that leads there."""
        ...

    async def close(self) -> None:
        """End every connection."""
        ...


@dataclass
class Trace:
    """How often a script was sent, repetitions included, and how often Redis said what became of it."""

    sent: int = 0
    answered: int = 0


_trace: ContextVar[Trace | None] = ContextVar("trace", default=None)


@contextmanager
def traced() -> Iterator[Trace]:
    """Follow what is sent within the block."""
    trace = Trace()
    token = _trace.set(trace)
    try:
        yield trace
    finally:
        _trace.reset(token)


@cache
def _tracing(base: type[Connection]) -> type[Connection]:
    """Return a connection that keeps the trace.

    The error that comes out last does not tell: a script may have been carried out and only its reply lost, and every
    repetition refused because Redis is gone.
    """
    from redis import exceptions as redis_errors

    class TracingConnection(base):  # type: ignore[misc,valid-type]
        _asked: Trace | None = None

        async def send_command(self, *args: object, **options: object) -> None:
            if not self.is_connected:
                # As the base class does: what fails before this is done has sent nothing.
                await self.connect_check_health(check_health=False)
            self._asked = _trace.get() if args[0] == "EVALSHA" else None
            if self._asked is not None:
                self._asked.sent += 1
            await super().send_command(*args, **options)

        async def send_packed_command(self, command: object, check_health: bool = True) -> None:  # noqa: FBT001
            if not self.is_connected or not isinstance(command, list):
                await super().send_packed_command(command, check_health)
                return
            # Before Python 3.12 the base class makes a task for each, to limit the time that it takes; it is the answer
            # for which that matters. A connection that is lost meanwhile is noticed there too.
            self._writer.writelines(command)

        async def read_response(self, *args: object, **options: object) -> object:
            asked, self._asked = self._asked, None
            try:
                reply = await super().read_response(*args, **options)
            except (redis_errors.ResponseError, redis_errors.BusyLoadingError):
                _answer(asked)
                raise
            _answer(asked)
            return reply

    return TracingConnection


def _answer(trace: Trace | None) -> None:
    if trace is not None:
        trace.answered += 1


def connect(endpoint: RedisEndpoint, address: Address | None = None, *, blocking: bool = False) -> Redis:
    """Return a client, of the address if one is given; nothing is sent before its first use.

    A ``blocking`` one has one connection, for commands that wait as long as they like, and repeats nothing.
    """
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.connection import Connection, SSLConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff
    from redis.maint_notifications import MaintNotificationsConfig

    host, port = address or (endpoint.host, endpoint.port)
    pool = BlockingConnectionPool(
        connection_class=_tracing(SSLConnection if endpoint.tls else Connection),
        max_connections=1 if blocking else MAX_CONNECTIONS,
        timeout=REPLY_TIMEOUT_SECONDS,
        host=host,
        port=port,
        db=endpoint.database,
        username=endpoint.username,
        password=endpoint.password,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=None if blocking else REPLY_TIMEOUT_SECONDS,
        decode_responses=True,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), 0 if blocking else RETRIES),
        client_name="sessionctl",
        # With them, which only Redis's own cloud sends, a connection that the server has closed is not noticed before
        # it is used, and it is not known what became of what was sent.
        maint_notifications_config=MaintNotificationsConfig(enabled=False),
    )
    return Redis(connection_pool=pool)


@contextmanager
def translated(endpoint: RedisEndpoint, route: Route | None = None, trace: Trace | None = None) -> Iterator[None]:
    """Turn redis-py's exceptions into StoreError, naming the server itself and the next step.

    Into OutcomeUnknownError where the trace shows a script that was sent and never answered.
    """
    from redis import exceptions as redis_errors

    where = f"Redis at {endpoint.host}:{endpoint.port}"
    try:
        yield
    except redis_errors.AuthenticationError as error:
        msg = f"{where} refuses the user {endpoint.username!r}"
        raise StoreError(msg, hint="Check the Secret of the platform release.") from error
    except (redis_errors.ConnectionError, redis_errors.TimeoutError, OSError) as error:
        cause = route.failure if route else None
        msg = f"{where} does not answer" + (f": {cause.message}" if cause else "")
        hint = (cause and cause.hint) or "Every session stays as it is; try again when it is back."
        if trace is not None and trace.sent > trace.answered:
            msg += "; it may have done what it was asked for"
            raise OutcomeUnknownError(msg, hint="Repeat the same request when it is back.") from error
        raise StoreError(msg, hint=hint) from error
    except redis_errors.RedisError as error:
        msg = f"{where} refused: {str(error)[:200]}"
        raise StoreError(msg, hint="See its log and the rights of the user.") from error
