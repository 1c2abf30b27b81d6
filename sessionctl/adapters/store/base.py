"""What the parts of the store share."""

from __future__ import annotations

from datetime import timedelta
from functools import cached_property
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.connection import Trace, connect, traced, translated
from sessionctl.adapters.store.scripts import TELLING, Reply, Scripts
from sessionctl.errors import ConflictError, NotFoundError, StoreError
from sessionctl.settings import ApiSettings, EventSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from redis.asyncio import Redis

    from sessionctl.adapters.store.connection import Address, Route
    from sessionctl.models import RedisEndpoint, SessionId, Workspace

_MILLISECOND: Final = timedelta(milliseconds=1)


class StorePart:
    """A client, its scripts, and typed reading of their answers."""

    def __init__(
        self,
        endpoint: RedisEndpoint,
        route: Route | None = None,
        events: EventSettings | None = None,
        remembered: timedelta | None = None,
    ) -> None:
        """Make the store; ``remembered`` is how long the id of a message is known after its end."""
        self._endpoint = endpoint
        self._route = route
        self._events = events or EventSettings()
        self._remembered = remembered or ApiSettings().idempotency_lifetime
        self._address: Address | None = None

    @cached_property
    def _client(self) -> Redis:
        return connect(self._endpoint, self._address)

    @cached_property
    def _scripts(self) -> Scripts:
        return Scripts(self._client)

    @property
    def _caps(self) -> tuple[int, int, int, int]:
        caps = self._events
        return caps.max_length, caps.max_bytes, caps.recent // _MILLISECOND, max(caps.recent_bytes, caps.max_bytes)

    def _endings(self, session_id: SessionId) -> tuple[int | str, ...]:
        """Return what every script wants first that may end a chat."""
        return *self._caps, keys.ended(session_id), max(1, self._remembered // _MILLISECOND), keys.WAITING_BYTES

    def _translated(self, trace: Trace | None = None) -> AbstractContextManager[None]:
        return translated(self._endpoint, self._route, trace)

    async def _run(self, script: str, names: Sequence[str], arguments: Sequence[str | int]) -> Reply:
        with traced() as trace, self._translated(trace if script in TELLING else None):
            return await self._scripts.run(script, names, arguments)

    async def _run_fields(self, script: str, names: Sequence[str], arguments: Sequence[str | int]) -> list[str]:
        reply = await self._run(script, names, arguments)
        if not isinstance(reply, list):
            msg = f"the script {script} answered {type(reply).__name__}, not a list"
            raise StoreError(msg)
        return [str(field) for field in reply]


def writable(text: str) -> str:
    """Return the text without what is no text: half a character, as an agent or a terminal may send it."""
    return text.encode(errors="replace").decode()


def refuse(session_id: SessionId, word: str) -> None:
    """Raise what a script's refusal means; do nothing for any other word."""
    if word == "unknown":
        msg = f"session {session_id} has no record"
        raise NotFoundError(msg)
    if word == "deleted":
        msg = f"session {session_id} is deleted"
        raise ConflictError(msg, hint=f"Undo it with: sessionctl restore {session_id}")


def milliseconds(workspace: Workspace) -> int:
    """Return the newest activity that the cluster itself remembers."""
    created = int(workspace.owner.created_at.timestamp() * 1000)
    return max(created, workspace.woken_at or 0, workspace.slept_at or 0)


def record_fields(workspace: Workspace) -> list[str]:
    """Return the record's fields as the scripts want them: names and values in turn."""
    owner = workspace.owner
    ever_woken = workspace.woken_at is not None or workspace.slept_at is not None
    asleep = "failed" if workspace.failed else "sleeping" if ever_woken else "created"
    fields = {
        "user_id": owner.user_id,
        "tenant": owner.tenant,
        "profile": owner.profile,
        "created_at": owner.created_at.isoformat(),
        "status": "active" if workspace.replicas else asleep,
    }
    return [part for pair in fields.items() for part in pair]
