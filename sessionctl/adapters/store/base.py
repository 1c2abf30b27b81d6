"""What the parts of the store share."""

from __future__ import annotations

from functools import cached_property
from typing import TYPE_CHECKING

from sessionctl.adapters.store.connection import Trace, connect, traced, translated
from sessionctl.adapters.store.scripts import TELLING, Reply, Scripts
from sessionctl.errors import ConflictError, NotFoundError, StoreError
from sessionctl.settings import EventSettings

if TYPE_CHECKING:
    from collections.abc import Sequence
    from contextlib import AbstractContextManager

    from redis.asyncio import Redis

    from sessionctl.adapters.store.connection import Address, Route
    from sessionctl.models import RedisEndpoint, SessionId, Workspace


class StorePart:
    """A client, its scripts, and typed reading of their answers."""

    def __init__(
        self, endpoint: RedisEndpoint, route: Route | None = None, events: EventSettings | None = None
    ) -> None:
        self._endpoint = endpoint
        self._route = route
        self._events = events or EventSettings()
        self._address: Address | None = None

    @cached_property
    def _client(self) -> Redis:
        return connect(self._endpoint, self._address)

    @cached_property
    def _scripts(self) -> Scripts:
        return Scripts(self._client)

    @property
    def _caps(self) -> tuple[int, int]:
        return self._events.max_length, self._events.max_bytes

    def _translated(self, trace: Trace | None = None) -> AbstractContextManager[None]:
        return translated(self._endpoint, self._route, trace)

    async def _run(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Reply:
        with traced() as trace, self._translated(trace if script in TELLING else None):
            return await self._scripts.run(script, keys, arguments)

    async def _run_fields(self, script: str, keys: Sequence[str], arguments: Sequence[str | int]) -> list[str]:
        reply = await self._run(script, keys, arguments)
        if not isinstance(reply, list):
            msg = f"the script {script} answered {type(reply).__name__}, not a list"
            raise StoreError(msg)
        return [str(field) for field in reply]


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
