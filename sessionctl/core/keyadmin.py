"""Making and revoking API keys."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl.core.keys import make_key, parse_entry, render_entry
from sessionctl.errors import ConflictError, NotFoundError

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from sessionctl.models import ApiKey, Scope
    from sessionctl.ports import Clock, KeyVault

ATTEMPTS: Final = 20
"""Each fails only because somebody else's change went through."""


class KeyAdmin:
    """Changes the keys of a platform; managers see it some seconds to a minute later."""

    def __init__(self, vault: KeyVault, clock: Clock) -> None:
        self._vault = vault
        self._clock = clock

    async def create(
        self, key_id: str, tenant: str, scopes: Iterable[Scope], lifetime: timedelta | None
    ) -> tuple[str, ApiKey]:
        """Make a key and return it, for the only time; raises ConflictError when there is one of that id.

        Never replaces a key: whoever holds it would be locked out by somebody who only chose the same name.
        """
        expires_at = self._clock.now().replace(microsecond=0) + lifetime if lifetime is not None else None
        text, stored = make_key(key_id, tenant, scopes, expires_at)
        for _ in range(ATTEMPTS):
            entries, version = await self._vault.read()
            if key_id in entries:
                raise ConflictError(
                    f"there is an API key {key_id} already",
                    hint=f"Choose another name, or revoke it: sessionctl apikey revoke {key_id}",
                )
            if await self._written(key_id, render_entry(stored), version):
                return text, stored
        raise _busy()

    async def revoke(self, key_id: str) -> None:
        """Remove a key; raises NotFoundError when there is none of that id."""
        for _ in range(ATTEMPTS):
            entries, version = await self._vault.read()
            if key_id not in entries:
                raise NotFoundError(f"there is no API key {key_id[:80]!r}", hint="See: sessionctl apikey list")
            if await self._written(key_id, None, version):
                return
        raise _busy()

    async def list_keys(self) -> tuple[Sequence[ApiKey], Sequence[str]]:
        """Return the keys by id, and the ids of entries that managers cannot read."""
        entries, _ = await self._vault.read()
        keys, broken = [], []
        for key_id, entry in sorted(entries.items()):
            try:
                keys.append(parse_entry(key_id, entry))
            except ValueError:
                broken.append(key_id)
        return keys, broken

    async def _written(self, key_id: str, entry: str | None, version: str) -> bool:
        try:
            await self._vault.write(key_id, entry, version)
        except ConflictError:
            return False
        return True


def _busy() -> ConflictError:
    return ConflictError("the API keys are being changed by others all the time", hint="Try again.")
