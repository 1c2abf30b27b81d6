"""What is in Redis, read and changed behind the store's back."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, cast

from sessionctl.adapters.store import keys

if TYPE_CHECKING:
    from redis import Redis

    from sessionctl.models import SessionId

_OPERATION = re.compile(rb"\b[0-9a-f]{16}\b")
"""What tells one call from another."""
_MOMENT = re.compile(rb"\b[0-9]{13}(-[0-9]+)?\b|\b[0-9]{16}(?=:)")
"""A time, the id of an event, the number of a fence."""


@dataclass(frozen=True)
class Table:
    """The keys of sessions, as bytes."""

    admin: Redis

    def now(self) -> int:
        """Milliseconds by the clock of Redis."""
        seconds, microseconds = self.admin.time()
        return seconds * 1000 + microseconds // 1000

    def elements(self, session_id: SessionId) -> list[bytes]:
        """The whole list."""
        return cast("list[bytes]", self.admin.lrange(keys.queue(session_id), 0, -1))

    def push(self, session_id: SessionId, *elements: bytes | str) -> None:
        """Append to the list, as anybody may."""
        self.admin.rpush(keys.queue(session_id), *elements)

    def field(self, session_id: SessionId, name: str) -> str | None:
        """One field of the record."""
        value = cast("bytes | None", self.admin.hget(keys.record(session_id), name))
        return None if value is None else value.decode()

    def stamp(self, session_id: SessionId, name: str) -> int:
        """A field that is there and holds a time."""
        return int(self.field(session_id, name) or "none")

    def age(self, session_id: SessionId, name: str, milliseconds: int) -> None:
        """Make a time of the record lie so far in the past (or, negative, in the future)."""
        self.admin.hset(keys.record(session_id), name, str(self.now() - milliseconds))

    def everything(self) -> dict[bytes, Any]:
        """All keys and values but what depends on the moment; to compare two ways to the same state."""
        found: dict[bytes, Any] = {}
        for key in sorted(cast("list[bytes]", self.admin.keys())):
            kind = cast("bytes", self.admin.type(key))
            if kind == b"hash":
                moments = {b"last_active", b"released_at", b"woken_at", b"filled_at", b"token_epoch", b"fence", b"used"}
                record = cast("dict[bytes, bytes]", self.admin.hgetall(key))
                found[key] = {
                    name: len(json.loads(value))
                    if value.startswith(b"[[")
                    else b"*"
                    if name in moments
                    else _MOMENT.sub(b"*", value)
                    for name, value in record.items()
                }
            elif kind == b"list":
                found[key] = self.admin.lrange(key, 0, -1)
            elif kind == b"set":
                found[key] = self.admin.smembers(key)
            elif kind == b"stream":
                entries = cast("list[tuple[bytes, dict[bytes, bytes]]]", self.admin.xrange(key))
                found[key] = [fields for _, fields in entries]
            elif kind == b"string":
                value = cast("bytes", self.admin.get(key))
                found[key] = (
                    b"*" if key.startswith((b"deleted:", b"limit:")) else _MOMENT.sub(b"*", _OPERATION.sub(b"*", value))
                )
            else:
                found[key] = kind
        return found
