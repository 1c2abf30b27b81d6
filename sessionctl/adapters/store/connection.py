"""The client of Redis, and the translation of its errors.

The library is loaded by the functions that need it: a command that talks to Helm first loads it meanwhile.
"""

from __future__ import annotations

from contextlib import contextmanager
from typing import TYPE_CHECKING, Final, Protocol

from sessionctl.errors import StoreError

if TYPE_CHECKING:
    from collections.abc import Iterator

    from redis.asyncio import Redis

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


def connect(endpoint: RedisEndpoint, address: Address | None = None) -> Redis:
    """Return a client, of the address if one is given; nothing is sent before its first use."""
    from redis.asyncio import BlockingConnectionPool, Redis
    from redis.asyncio.connection import Connection, SSLConnection
    from redis.asyncio.retry import Retry
    from redis.backoff import ExponentialBackoff

    host, port = address or (endpoint.host, endpoint.port)
    pool = BlockingConnectionPool(
        connection_class=SSLConnection if endpoint.tls else Connection,
        max_connections=MAX_CONNECTIONS,
        timeout=REPLY_TIMEOUT_SECONDS,
        host=host,
        port=port,
        db=endpoint.database,
        username=endpoint.username,
        password=endpoint.password,
        socket_connect_timeout=CONNECT_TIMEOUT_SECONDS,
        socket_timeout=REPLY_TIMEOUT_SECONDS,
        decode_responses=True,
        retry=Retry(ExponentialBackoff(cap=0.5, base=0.05), RETRIES),
        client_name="sessionctl",
    )
    return Redis(connection_pool=pool)


@contextmanager
def translated(endpoint: RedisEndpoint, route: Route | None = None) -> Iterator[None]:
    """Turn redis-py's exceptions into StoreError, naming the server itself and the next step."""
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
        raise StoreError(msg, hint=hint) from error
    except redis_errors.RedisError as error:
        msg = f"{where} refused: {str(error)[:200]}"
        raise StoreError(msg, hint="See its log and the rights of the user.") from error
