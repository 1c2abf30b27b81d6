"""What the API works with, put together from the factory."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sessionctl.api.sse import Streams
from sessionctl.core.admission import Gatekeeper, Tenancy
from sessionctl.core.holdings import Holdings
from sessionctl.core.throttle import Throttle

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable

    from sessionctl.core.chats import ChatService
    from sessionctl.core.demand import DemandService
    from sessionctl.core.events import EventHub
    from sessionctl.core.idempotency import Idempotency
    from sessionctl.core.keys import KeyRing
    from sessionctl.core.logins import LoginService
    from sessionctl.core.opening import OpeningService
    from sessionctl.core.presence import Presence
    from sessionctl.core.revocation import RevocationService
    from sessionctl.core.sessions import SessionService
    from sessionctl.core.tokens import TokenService
    from sessionctl.core.views import ViewService
    from sessionctl.core.visitors import VisitorCookies
    from sessionctl.core.why import Answers, WhyService
    from sessionctl.factory import Factory
    from sessionctl.ports import Clock, ClusterView, Metrics, Store
    from sessionctl.settings import Settings

MOST_WATCHERS: Final = 16
"""Tabs in which one session's editor is waited for."""
PARALLEL_HELM: Final = 8
"""Each run of Helm takes some 60 MB; the others wait."""


@dataclass
class Life:
    """Where in its life the process is."""

    synced: asyncio.Event = field(default_factory=asyncio.Event)
    """Everything was seen once; it stays so, whatever is lost later."""
    draining: asyncio.Event = field(default_factory=asyncio.Event)
    """Nobody should be sent here any more, but what comes is answered."""
    ending: asyncio.Event = field(default_factory=asyncio.Event)
    """Streams end now."""


@dataclass(frozen=True)
class EditorServices:
    """What the router asks for (DESIGN 8)."""

    cookies: VisitorCookies
    logins: LoginService
    revocations: RevocationService
    presence: Presence
    opening: OpeningService
    watchers: Streams
    """Those who wait for an editor, by its session."""


@dataclass(frozen=True)
class Services:
    """Everything that requests are answered with."""

    settings: Settings
    clock: Clock
    view: ClusterView
    live: ClusterView
    """The API server itself: not on the way of any request but one that asks for its health."""
    store: Store
    metrics: Metrics
    demand: DemandService
    views: ViewService
    whys: WhyService
    open_sessions: Callable[[], Awaitable[SessionService]]
    """Create, delete and restore, with the profiles of this moment."""
    gatekeeper: Gatekeeper
    tenancy: Tenancy
    throttle: Throttle
    idempotency: Idempotency
    tokens: TokenService
    life: Life
    helm_slots: asyncio.Semaphore
    hub: EventHub
    chats: ChatService
    streams: Streams
    holdings: Holdings
    editors: EditorServices

    @asynccontextmanager
    async def sessions(self) -> AsyncIterator[SessionService]:
        """Take one of the places for Helm."""
        async with self.helm_slots:
            yield await self.open_sessions()


async def assemble(
    factory: Factory, keys: KeyRing, metrics: Metrics, life: Life, told: Answers | None = None
) -> Services:
    """Put the services together; reads the platform key. Raises ConfigurationError and ClusterError.

    ``told`` knows what agents said last; without it they are asked when somebody asks why.
    """
    settings, store, hub = factory.settings, factory.store, factory.create_event_hub()
    tokens = await factory.create_token_service()
    throttle = Throttle(store, factory.clock, settings.api)
    tenancy = Tenancy(factory.mirror, factory.cluster, store)
    views = factory.create_view_service(factory.mirror)
    return Services(
        settings=settings,
        clock=factory.clock,
        view=factory.mirror,
        live=factory.cluster,
        store=store,
        metrics=metrics,
        demand=factory.demand,
        views=views,
        whys=await factory.create_why_service(views, told),
        open_sessions=factory.create_session_service,
        gatekeeper=Gatekeeper(keys, tokens, tenancy, throttle),
        tenancy=tenancy,
        throttle=throttle,
        idempotency=factory.create_idempotency(),
        tokens=tokens,
        life=life,
        helm_slots=asyncio.Semaphore(PARALLEL_HELM),
        hub=hub,
        chats=await factory.create_chat_service(hub, factory.mirror),
        streams=Streams(),
        holdings=Holdings(),
        editors=await _editors(factory, views),
    )


async def _editors(factory: Factory, views: ViewService) -> EditorServices:
    return EditorServices(
        cookies=await factory.create_visitor_cookies(),
        logins=factory.create_login_service(),
        revocations=await factory.create_revocation_service(),
        presence=factory.create_presence(),
        opening=factory.create_opening_service(views),
        watchers=Streams(most_per_caller=MOST_WATCHERS),
    )
