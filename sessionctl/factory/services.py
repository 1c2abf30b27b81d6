"""The services of one platform. Each is imported by the method that makes it: a command pays for what it uses."""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import StrEnum
from functools import cached_property
from typing import TYPE_CHECKING

from sessionctl import __version__, labels

if TYPE_CHECKING:
    import asyncio
    from collections.abc import Callable

    from sessionctl.adapters.agent_http import ByteStream
    from sessionctl.adapters.agents import HttpAgents
    from sessionctl.adapters.clock import SystemClock
    from sessionctl.adapters.cluster.client import KubernetesClient
    from sessionctl.adapters.cluster.kubernetes_cluster import KubernetesCluster
    from sessionctl.adapters.cluster.platform import PlatformReader
    from sessionctl.adapters.helm import HelmCli
    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.core.budget import TenantBudget
    from sessionctl.core.chats import ChatService
    from sessionctl.core.demand import DemandService
    from sessionctl.core.dispatcher import Dispatcher, Doorbell
    from sessionctl.core.events import EventHub
    from sessionctl.core.idempotency import Idempotency
    from sessionctl.core.journal import Journal
    from sessionctl.core.keyadmin import KeyAdmin
    from sessionctl.core.keys import KeyKeeper, KeyRing
    from sessionctl.core.logins import LoginService
    from sessionctl.core.loop import SweepLoop
    from sessionctl.core.manager import Manager
    from sessionctl.core.mirror import Mirror
    from sessionctl.core.opening import OpeningService
    from sessionctl.core.presence import Presence
    from sessionctl.core.quotas import Quotas
    from sessionctl.core.reconcile import Reconciler
    from sessionctl.core.releases import ReleaseService
    from sessionctl.core.revocation import RevocationService
    from sessionctl.core.sessions import SessionService
    from sessionctl.core.tokens import TokenService
    from sessionctl.core.views import ViewService
    from sessionctl.core.visitors import VisitorCookies
    from sessionctl.core.waiting import Waiter
    from sessionctl.core.why import Answers, WhyService
    from sessionctl.models import SessionId
    from sessionctl.ports import ActivityProbe, ClusterView, Metrics
    from sessionctl.settings import Platform, Settings


class Reach(StrEnum):
    """How the pods of Redis and of the sessions are reached."""

    AUTO = "auto"
    """By their Services from a pod of the same cluster, by port-forward from elsewhere."""
    DIRECT = "direct"
    PORT_FORWARD = "port-forward"


@dataclass(frozen=True)
class DirectOptions:
    """How an operator reaches the platform: a kubeconfig is enough."""

    kubeconfig: str | None = None
    context: str | None = None
    platform_namespace: str = "sessionctl"
    helm: str = "helm"
    reach: Reach = Reach.AUTO


def _unwatched(_: str) -> None:
    """Progress of a manager: its log tells what was done, and nobody waits for a line."""


@dataclass(frozen=True)
class Factory:
    """The services of one platform; made by ``open_factory``, valid inside it."""

    options: DirectOptions
    settings: Settings
    platform: Platform
    cluster: KubernetesCluster
    store: RedisStore
    reader: PlatformReader
    progress: Callable[[str], None]
    client: KubernetesClient
    by_forward: bool
    """Whether pods are reached by port-forward, not by their Services."""
    metrics: Metrics
    journal: Journal
    managing: bool = False
    """Whether this is a session manager: quotas hold, and much is asked of the mirror. See ``for_manager``."""
    helm_checked: asyncio.Task[str] | None = None

    def for_manager(self) -> Factory:
        """Return the same platform for a session manager, which is measured; whoever runs its manager closes it."""
        from sessionctl.adapters.prometheus import PrometheusMetrics
        from sessionctl.core.journal import Journal

        metrics = PrometheusMetrics(self.clock)
        return replace(self, metrics=metrics, journal=Journal(self.store, metrics), progress=_unwatched, managing=True)

    @cached_property
    def clock(self) -> SystemClock:
        """The machine's clock."""
        from sessionctl.adapters.clock import SystemClock

        return SystemClock()

    @cached_property
    def helm(self) -> HelmCli:
        """Helm on the sessions namespace."""
        from sessionctl.adapters.charts import locate_session_chart
        from sessionctl.adapters.helm import HelmCli

        return HelmCli(
            binary=self.options.helm,
            chart=locate_session_chart(),
            namespace=self.platform.sessions_namespace,
            kubeconfig=self.options.kubeconfig,
            context=self.options.context,
            timeout=self.settings.helm.timeout,
            checked=self.helm_checked,
            metrics=self.metrics,
        )

    @cached_property
    def demand(self) -> DemandService:
        """Wake and sleep."""
        from sessionctl.core.demand import DemandService

        hold = self.settings.scaling.hold
        return DemandService(
            self.cluster, self.store, self.clock, self.journal, self.quotas, hold=hold, tell=self.doorbell.ring
        )

    @cached_property
    def doorbell(self) -> Doorbell:
        """Between whoever takes chats and the dispatcher of the same process."""
        from sessionctl.core.dispatcher import Doorbell

        return Doorbell()

    @cached_property
    def quotas(self) -> Quotas | None:
        """What users and tenants may have through a manager; None for whoever has a kubeconfig."""
        if not self.managing:
            return None
        from sessionctl.core.quotas import Quotas

        return Quotas(self.mirror, self.store, self.journal, self.clock, self.settings.quotas)

    @cached_property
    def mirror(self) -> Mirror:
        """The cluster in memory; it runs where ``Mirror.run`` does."""
        from sessionctl.core.mirror import Mirror

        return Mirror(self.cluster, self.clock, self.metrics)

    def create_view_service(self, view: ClusterView | None = None) -> ViewService:
        """Status and list, of the cluster itself or of a view of it."""
        from sessionctl.core.views import ViewService

        return ViewService(
            view=view or self.cluster, live=self.cluster, store=self.store, settings=self.settings.sessions
        )

    async def create_why_service(self, views: ViewService | None = None, answers: Answers | None = None) -> WhyService:
        """Explanations; without ``answers``, which a sweeper has, the agent itself is asked."""
        from sessionctl.core.why import AskingNow, WhyService

        return WhyService(
            views=views or self.create_view_service(),
            store=self.store,
            answers=answers or AskingNow(await self.create_probe()),
            clock=self.clock,
            settings=self.settings,
        )

    async def create_release_service(self) -> ReleaseService:
        """Helm releases; reads the platform key and the platform's profiles."""
        from sessionctl.adapters.profiles import SUFFIX, JinjaProfiles, builtin_templates
        from sessionctl.core.releases import ReleaseService
        from sessionctl.core.values import ValuesBuilder

        # One after the other: a second connection costs more than it saves.
        own = await self.reader.read_config_map(self.platform.profiles_config_map)
        key = await self.reader.read_secret(self.platform.platform_key_secret)
        templates = builtin_templates() | {name.removesuffix(SUFFIX): text for name, text in own.items()}
        return ReleaseService(
            helm=self.helm,
            cluster=self.cluster,
            clock=self.clock,
            profiles=JinjaProfiles(templates),
            builder=ValuesBuilder(self.settings, self.platform, self.options.platform_namespace),
            platform_key=key.value("key"),
            chart=f"user-session-{__version__}",
        )

    async def create_session_service(self) -> SessionService:
        """Create, delete, restore."""
        return self._sessions(await self.create_release_service())

    def _sessions(self, releases: ReleaseService) -> SessionService:
        from sessionctl.core.sessions import SessionService

        return SessionService(
            cluster=self.cluster,
            store=self.store,
            releases=releases,
            waiter=self.create_waiter(),
            journal=self.journal,
            clock=self.clock,
            retention=self.settings.sessions.retention,
            progress=self.progress,
            quotas=self.quotas,
        )

    def create_key_keeper(self, directory: str, ring: KeyRing) -> KeyKeeper:
        """API keys, from a directory with a file each."""
        from pathlib import Path

        from sessionctl.adapters.keys import DirectoryKeySource
        from sessionctl.core.keys import KeyKeeper, parse_entry

        return KeyKeeper(DirectoryKeySource(Path(directory), parse_entry), ring, self.clock)

    def create_key_admin(self) -> KeyAdmin:
        """The Secret of the API keys."""
        from sessionctl.adapters.cluster.keys import KeySecret
        from sessionctl.core.keyadmin import KeyAdmin

        return KeyAdmin(KeySecret(self.client, self.options.platform_namespace), self.clock)

    async def create_token_service(self) -> TokenService:
        """Session tokens; reads the platform key, and the one before it while it is being changed."""
        from sessionctl.core.tokens import TokenService

        keys = await self._signing_keys()
        return TokenService(keys, self.store, self.clock, self.settings.api.token_lifetime)

    async def create_visitor_cookies(self) -> VisitorCookies:
        """Cookies of the editors; reads the same keys."""
        from sessionctl.core.visitors import VisitorCookies

        keys = await self._signing_keys()
        return VisitorCookies(keys, self.store, self.clock, self.settings.editor.cookie_lifetime)

    async def _signing_keys(self) -> list[str]:
        secret = await self.reader.read_secret(self.platform.platform_key_secret)
        return [key for key in (secret.value("key"), secret.find("previous-key")) if key]

    def create_login_service(self) -> LoginService:
        """One-time codes of the editors."""
        from sessionctl.core.logins import LoginService

        return LoginService(self.store, self.journal, self.settings.api.code_lifetime)

    def create_presence(self) -> Presence:
        """Activity that the router tells of."""
        from sessionctl.core.presence import Presence

        return Presence(self.mirror, self.demand, self.clock, self.settings.idle.touch_interval)

    def create_opening_service(self, views: ViewService) -> OpeningService:
        """What somebody sees who waits for an editor."""
        from sessionctl.adapters.editor import HttpEditorProbe
        from sessionctl.core.opening import OpeningService

        probe = HttpEditorProbe(self._dial_editor)
        return OpeningService(views=views, bells=self.mirror.bells, probe=probe, clock=self.clock)

    async def create_revocation_service(self) -> RevocationService:
        """The end of all that was granted; reads the platform key."""
        from sessionctl.core.revocation import RevocationService
        from sessionctl.settings import ProbeKind

        return RevocationService(
            store=self.store,
            view=self.mirror,
            agents=await self.create_agents(),
            journal=self.journal,
            clock=self.clock,
            editors=self.settings.idle.probe is not ProbeKind.NONE,
        )

    def create_event_hub(self) -> EventHub:
        """Whoever listens to sessions; one for the whole process."""
        from sessionctl.core.events import EventHub

        return EventHub(self.store, self.clock)

    async def create_chat_service(self, hub: EventHub, view: ClusterView | None = None) -> ChatService:
        """Chats up to their delivery, and their replies."""
        from sessionctl.core.chats import ChatService
        from sessionctl.core.conversation import ConversationReader

        agents = await self.create_agents()
        return ChatService(
            store=self.store,
            demand=self.demand,
            hub=hub,
            agents=agents,
            conversations=ConversationReader(self.store, view or self.cluster, agents),
            idempotency=self.create_idempotency(),
            max_waiting=self.settings.sessions.max_waiting,
            max_bytes=self.settings.api.max_message_bytes,
        )

    def create_idempotency(self) -> Idempotency:
        """Keys of requests that may be repeated."""
        from sessionctl.core.idempotency import Idempotency

        return Idempotency(self.store, self.settings.api.idempotency_lifetime)

    def create_waiter(self) -> Waiter:
        """Waiting for the cluster."""
        from sessionctl.core.waiting import Waiter

        return Waiter(self.cluster, self.clock)

    async def create_reconciler(self) -> Reconciler:
        """Repair of what was cut off."""
        from sessionctl.core.reconcile import Reconciler

        releases = await self.create_release_service()
        return Reconciler(
            helm=self.helm,
            cluster=self.cluster,
            store=self.store,
            sessions=self._sessions(releases),
            releases=releases,
            journal=self.journal,
            clock=self.clock,
            retention=self.settings.sessions.retention,
            progress=self.progress,
        )

    async def create_probe(self) -> ActivityProbe:
        """Whom the sweeper asks; to ask agents it reads the platform key."""
        from sessionctl.settings import ProbeKind

        if self.settings.idle.probe is ProbeKind.NONE:
            from sessionctl.adapters.probe import SilentWorkspaceProbe

            return SilentWorkspaceProbe()
        from sessionctl.adapters.agent import AgentProbe
        from sessionctl.core.identity import agent_token

        key = (await self.reader.read_secret(self.platform.platform_key_secret)).value("key")
        return AgentProbe(self._dial_agent, lambda session_id: agent_token(key, session_id))

    async def create_agents(self) -> HttpAgents:
        """The agents of sessions; reads the platform key. A manager's are read as fast as each tenant may write."""
        from sessionctl.adapters.agents import HttpAgents, unlimited
        from sessionctl.core.identity import agent_token

        key = (await self.reader.read_secret(self.platform.platform_key_secret)).value("key")

        def charge(session_id: SessionId, size: int) -> float:
            return self.reply_budget.charge(self.mirror.find_tenant(session_id), size)

        return HttpAgents(
            self._dial_agent,
            lambda session_id: agent_token(key, session_id),
            self.settings.chat.silence_limit,
            charge if self.managing else unlimited,
        )

    @cached_property
    def reply_budget(self) -> TenantBudget:
        """How fast each tenant's agents are read by this process."""
        from sessionctl.core.budget import TenantBudget

        return TenantBudget(self.clock, self.settings.chat.tenant_rate_bytes)

    async def create_dispatcher(self) -> Dispatcher:
        """Delivers chats; hears of those that this process takes."""
        from sessionctl.core.dispatcher import Dispatcher
        from sessionctl.core.pods import PodWaiter
        from sessionctl.core.sending import Means

        means = Means(
            store=self.store,
            agents=await self.create_agents(),
            pods=PodWaiter(self.mirror, self.cluster, self.clock),
            clock=self.clock,
            settings=self.settings.chat,
        )
        dispatcher = Dispatcher(means, self.demand, self.metrics)
        self.doorbell.listen(dispatcher.notify)
        return dispatcher

    async def _dial_agent(self, session_id: SessionId) -> ByteStream:
        return await self._dial(session_id, labels.AGENT_PORT)

    async def _dial_editor(self, session_id: SessionId) -> ByteStream:
        return await self._dial(session_id, labels.EDITOR_PORT)

    async def _dial(self, session_id: SessionId, port: int) -> ByteStream:
        namespace = self.platform.sessions_namespace
        if not self.by_forward:
            from sessionctl.adapters.agent_http import TcpStream

            return await TcpStream.connect(f"{labels.object_name(session_id)}.{namespace}.svc", port)
        from sessionctl.adapters.cluster.portforward import PodPort, PortForwarder

        target = PodPort(namespace, f"{labels.UUID_LABEL}={session_id}", port)
        return await PortForwarder(self.client).open(target)

    async def create_sweep_loop(self) -> SweepLoop:
        """Gate, watch guard, start keeper, sweeper and scaler keeper."""
        from sessionctl.core.gate import Gate
        from sessionctl.core.guard import WatchGuard
        from sessionctl.core.loop import SweepLoop
        from sessionctl.core.rounds import Rounds
        from sessionctl.core.scalers import ScalerKeeper
        from sessionctl.core.starts import StartKeeper
        from sessionctl.core.sweeper import Sweeper

        sweeper = Sweeper(
            cluster=self.cluster,
            store=self.store,
            demand=self.demand,
            journal=self.journal,
            probe=await self.create_probe(),
            clock=self.clock,
            settings=self.settings.idle,
        )
        return SweepLoop(
            cluster=self.cluster,
            mirror=self.mirror,
            gate=Gate(self.cluster, self.store, self.journal, self.metrics, self.settings.idle.release_after),
            guard=WatchGuard(self.store, self.demand),
            starts=StartKeeper(
                cluster=self.cluster,
                store=self.store,
                demand=self.demand,
                journal=self.journal,
                clock=self.clock,
                start_timeout=self.settings.sessions.start_timeout,
                idle=self.settings.idle,
            ),
            sweeper=sweeper,
            keeper=ScalerKeeper(self.cluster, self.clock),
            rounds=Rounds(self.clock, self.metrics),
            settings=self.settings.sweep,
        )

    async def create_manager(self) -> Manager:
        """Everything a session manager does beside answering requests; of a factory ``for_manager``."""
        from sessionctl.core.census import Census
        from sessionctl.core.lifetime import LifetimeKeeper
        from sessionctl.core.manager import Manager
        from sessionctl.core.readiness import ReadyWatch
        from sessionctl.core.rounds import Rounds

        sessions = self.settings.sessions
        return Manager(
            sweep=await self.create_sweep_loop(),
            mirror=self.mirror,
            dispatcher=await self.create_dispatcher(),
            ready=ReadyWatch(self.journal, self.metrics),
            open_reconciler=self.create_reconciler,
            lifetime=LifetimeKeeper(
                view=self.mirror,
                cluster=self.cluster,
                store=self.store,
                open_sessions=self.create_session_service,
                clock=self.clock,
                max_lifetime=sessions.max_lifetime,
                retention=sessions.retention,
            ),
            census=Census(self.mirror, self.cluster, self.store, self.metrics),
            journal=self.journal,
            rounds=Rounds(self.clock, self.metrics),
            clock=self.clock,
            settings=self.settings.reconcile,
            pending_interval=self.settings.chat.pending_interval,
        )
