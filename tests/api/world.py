"""The application over real services, and whoever calls it."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

from sessionctl.api.app import SessionApi, create_app
from sessionctl.api.services import Life, Services, assemble
from sessionctl.core.keys import KeyRing, make_key
from sessionctl.models import Scope

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sessionctl.factory import Factory
    from sessionctl.models import ApiKey
    from sessionctl.settings import PortalSettings

MINE: Final = "mine"
OTHER: Final = "other"
EVERYTHING: Final = tuple(Scope)
URL: Final = "http://api"
_LONG_AGO: Final = datetime(2020, 1, 1, tzinfo=UTC)


@dataclass(frozen=True)
class Api:
    """The application."""

    factory: Factory
    services: Services
    app: SessionApi
    http: httpx.AsyncClient
    """Without a credential."""
    keys: dict[str, str]
    """Name -> key: `all`, `read`, `write`, `access` of the tenant MINE, `other` of another, `expired`."""
    ring: KeyRing
    stored: dict[str, ApiKey] = field(default_factory=dict)

    async def call(self, method: str, path: str, *, key: str | None = "all", **rest: Any) -> httpx.Response:
        """Call with the key of a name."""
        headers = dict(rest.pop("headers", {}))
        if key is not None:
            headers["X-API-Key"] = self.keys[key]
        return await self.http.request(method, path, headers=headers, **rest)

    async def get(self, path: str, **rest: Any) -> httpx.Response:
        """GET."""
        return await self.call("GET", path, **rest)

    async def post(self, path: str, **rest: Any) -> httpx.Response:
        """POST."""
        return await self.call("POST", path, **rest)

    async def delete(self, path: str, **rest: Any) -> httpx.Response:
        """DELETE."""
        return await self.call("DELETE", path, **rest)


def make_keys() -> tuple[dict[str, str], dict[str, ApiKey]]:
    """Return the keys that tests use, and what is stored of them."""
    made = {
        "all": make_key("all", MINE, EVERYTHING, None),
        "read": make_key("read", MINE, [Scope.READ], None),
        "write": make_key("write", MINE, [Scope.WRITE], None),
        "access": make_key("access", MINE, [Scope.ACCESS], None),
        "other": make_key("other", OTHER, EVERYTHING, None),
    }
    text, stored = make_key("expired", MINE, EVERYTHING, None)
    made["expired"] = text, replace(stored, expires_at=_LONG_AGO)
    return {name: each[0] for name, each in made.items()}, {name: each[1] for name, each in made.items()}


@asynccontextmanager
async def open_api(
    factory: Factory,
    *,
    max_waiting: int = 100,
    synced: bool = True,
    portal: PortalSettings | None = None,
    **settings: Any,
) -> AsyncIterator[Api]:
    """Serve in this process, without limits unless ``settings`` of the section `api` say so; nobody sweeps."""
    limits = dict.fromkeys(("key_rate", "key_burst", "user_rate", "user_burst"), 1_000_000)
    changed = replace(
        factory.settings,
        api=replace(factory.settings.api, **limits | settings),
        sessions=replace(factory.settings.sessions, max_waiting=max_waiting),
        portal=portal or factory.settings.portal,
    )
    factory = replace(factory, settings=changed).for_manager()
    ring, life = KeyRing(factory.clock), Life()
    texts, stored = make_keys()
    ring.replace(stored.values())
    services = await assemble(factory, ring, factory.metrics, life)
    watching = asyncio.create_task(factory.mirror.run() if synced else asyncio.sleep(0))
    if synced:
        await asyncio.wait_for(factory.mirror.wait_synced(), 30)
        life.synced.set()
    app = create_app(services)
    transport = httpx.ASGITransport(app, raise_app_exceptions=True)
    try:
        async with httpx.AsyncClient(transport=transport, base_url=URL, timeout=60) as http:
            yield Api(factory, services, app, http, texts, ring, stored)
    finally:
        watching.cancel()
        await asyncio.gather(watching, return_exceptions=True)
        await services.hub.close()
        await factory.journal.close()
