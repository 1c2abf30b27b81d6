"""``Idempotency-Key``: the same request again has the same result."""

from __future__ import annotations

import hashlib
import json
from typing import TYPE_CHECKING

from sessionctl.errors import KeyReusedError

if TYPE_CHECKING:
    from collections.abc import Mapping
    from datetime import timedelta

    from sessionctl.ports import AccessStore


class Idempotency:
    """Binds keys to the ids of what they make. What is made under an id is made once, by its own means."""

    def __init__(self, store: AccessStore, lifetime: timedelta) -> None:
        self._store = store
        self._lifetime = lifetime

    async def bind(self, tenant: str, key: str | None, request: Mapping[str, str], fresh: str) -> str:
        """Return the id for this request: ``fresh``, or the one that the key was bound to before.

        ``request`` is what the caller asked for, its operation included. Raises KeyReusedError and StoreError.
        """
        if key is None:
            return fresh
        fingerprint = hashlib.sha256(json.dumps(request, sort_keys=True).encode()).hexdigest()
        bound = await self._store.remember(f"{tenant}:{key}", fingerprint, fresh, self._lifetime)
        if bound.fingerprint != fingerprint:
            raise KeyReusedError("this Idempotency-Key came before, with another request", hint="Use a fresh key.")
        return bound.value
