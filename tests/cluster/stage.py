"""Sessions on a cluster that tests may break: what is asked of it and seen of it."""

from __future__ import annotations

import asyncio
import json
import subprocess
import sys
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any, Final, cast

from sessionctl.adapters.probe import SilentWorkspaceProbe
from sessionctl.core.gate import Gate
from sessionctl.core.guard import WatchGuard
from sessionctl.core.sessions import NewSession
from sessionctl.core.starts import StartKeeper
from sessionctl.core.sweeper import Sweeper
from tests.support.sessionctl_cli import PROGRAM
from tests.support.waiting import throughout, until
from tools.localcluster.api import Api
from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from sessionctl.core.journal import Journal
    from sessionctl.core.sweeper import SweepReport
    from sessionctl.factory import Factory
    from sessionctl.models import EventKind, SessionId, StoredEvent, Workspace
    from sessionctl.ports import ActivityProbe
    from sessionctl.settings import IdleSettings
    from sessionctl.testing.metrics import CountingMetrics
    from tests.support.between import Hooks
    from tests.support.table import Table
    from tools.localcluster import LocalCluster

POLLING_SECONDS: Final = 2
COOLDOWN_SECONDS: Final = 7
IDLE_SECONDS: Final = 8
CONFIG: Final = {
    "idle": {"timeout": f"{IDLE_SECONDS}s", "touchInterval": "500ms"},
    "sweep": {"interval": "200ms", "gateInterval": "500ms"},
    "scaling": {"pollingInterval": POLLING_SECONDS, "cooldownPeriod": COOLDOWN_SECONDS},
}
LONGER_THAN_COOLDOWN_SECONDS: Final = COOLDOWN_SECONDS + 2 * POLLING_SECONDS + 1
"""KEDA has polled after its cooldown was over: what sleeps by then is due to sleep."""
NEVER_IDLE: Final = {"SESSIONCTL_IDLE__TIMEOUT": "1h"}
SWEEP: Final = "sweep"
HOUR_MS: Final = 3_600_000
READY_DELAY: Final = "pod-ready.stage.kwok.x-k8s.io/delay"
"""Annotation of a pod: how long it takes to become ready."""
AWAKE: Final = [b"awake"]
"""The list of a session that is awake and has no messages."""

_SESSIONS: Final = "/apis/{}/namespaces/sessions/{}"


@dataclass(frozen=True)
class Stage:
    """The cluster, the services of sessionctl in this process, and Redis as anybody sees it.

    Attributes:
        fleet: Sessions that tests share; all of them sleep when a test begins.
        metrics: What the hooked services count.
        journal: What the hooked services write, to the store itself.
    """

    arena: LocalCluster
    factory: Factory
    table: Table
    fleet: Sequence[SessionId]
    api: Api
    metrics: CountingMetrics
    journal: Journal

    async def wake(self, *sessions: SessionId) -> None:
        """Wake sessions and return when their pods are ready."""
        await asyncio.gather(*(self.factory.demand.wake(session) for session in sessions))
        await self.ready(*sessions)

    async def ready(self, *sessions: SessionId) -> None:
        """Return when pods are ready and Deployments at rest: a status that comes later would be a conflict."""
        await until(lambda: self._at_rest(sessions), f"pods of {len(sessions)} sessions ready")

    def _at_rest(self, sessions: Sequence[SessionId]) -> bool:
        found = {item["metadata"]["labels"].get("uuid", ""): item for item in self.objects("apps/v1", "deployments")}
        seen = [(found[session]["metadata"], found[session].get("status", {})) for session in sessions]
        return all(
            status.get("observedGeneration") == metadata["generation"] and status.get("availableReplicas") == 1
            for metadata, status in seen
        )

    async def create(self, user_id: str = "someone") -> SessionId:
        """Make one more session."""
        service = await self.factory.create_session_service()
        made = await service.create(NewSession(user_id=user_id, tenant="default", profile="default"))
        return made.session_id

    async def purge(self, *sessions: SessionId) -> None:
        """Delete sessions and their volumes."""
        service = await self.factory.create_session_service()
        await asyncio.gather(*(service.delete(session, purge=True) for session in sessions))

    async def find(self, session: SessionId) -> Workspace:
        """Read a session's Deployment."""
        found = await self.factory.cluster.find_workspace(session)
        assert found is not None
        return found

    async def history(self, session: SessionId) -> list[EventKind]:
        """Return what has happened to a session since the test began, and has been written down."""
        return [event.kind for event in await self.events(session)]

    async def events(self, session: SessionId) -> Sequence[StoredEvent]:
        """Return what has happened to a session since the test began, and has been written down."""
        for journal in (self.journal, self.factory.journal):
            await journal.close()
        return await self.factory.store.list_events(session, None, 1000)

    async def is_awake(self, session: SessionId) -> bool:
        """Whether its Deployment asks for a pod."""
        return (await self.find(session)).replicas == 1

    async def is_asleep(self, session: SessionId) -> bool:
        """Whether its Deployment asks for none."""
        return (await self.find(session)).replicas == 0

    def make_idle(self, *sessions: SessionId) -> None:
        """Make the last activity lie an hour back, and the last release too."""
        for session in sessions:
            self.table.age(session, "last_active", HOUR_MS)
            self.table.age(session, "released_at", HOUR_MS)

    def push(self, session: SessionId, element: str = "wake") -> None:
        """Push demand from outside, as anybody with redis-cli does."""
        self.arena.redis_cli("RPUSH", f"queue:{session}", element)

    def pods(self, sessions: Iterable[str]) -> dict[str, str]:
        """Return session -> uid of its pod: the same uid is the same pod."""
        wanted = set[str](sessions)
        found = self.objects("v1", "pods")
        uids = {item["metadata"]["labels"].get("uuid", ""): item["metadata"]["uid"] for item in found}
        return {session: uid for session, uid in uids.items() if session in wanted}

    def scaler(self, session: SessionId) -> dict[str, Any]:
        """Return a session's ScaledObject."""
        path = _SESSIONS.format("keda.sh/v1alpha1", f"scaledobjects/user-{session}-scaler")
        return self.api.get(path)

    def scaler_is_ready(self, session: SessionId) -> bool:
        """Whether KEDA watches the session's list."""
        conditions = self.scaler(session).get("status", {}).get("conditions") or []
        return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)

    def objects(self, group: str, plural: str) -> list[dict[str, Any]]:
        """Return the objects of a kind in the sessions namespace."""
        path = _SESSIONS.format(group, plural).replace("/apis/v1/", "/api/v1/")
        items: list[dict[str, Any]] = self.api.get(path)["items"]
        return items

    def sweeper(
        self, hooks: Hooks, *, probe: ActivityProbe | None = None, settings: IdleSettings | None = None
    ) -> Sweeper:
        """Return the real sweeper with hooks around what it calls."""
        hooked = self.hooked(hooks)
        return Sweeper(
            cluster=hooked.cluster,
            store=hooked.store,
            demand=hooked.demand,
            journal=hooked.journal,
            probe=probe or SilentWorkspaceProbe(),
            clock=hooked.clock,
            settings=settings or hooked.settings.idle,
        )

    def start_keeper(self, hooks: Hooks, start_timeout: timedelta, *, idle: IdleSettings | None = None) -> StartKeeper:
        """Return the real keeper of starts with hooks around what it calls."""
        hooked = self.hooked(hooks)
        return StartKeeper(
            cluster=hooked.cluster,
            store=hooked.store,
            demand=hooked.demand,
            journal=hooked.journal,
            clock=hooked.clock,
            start_timeout=start_timeout,
            idle=idle or hooked.settings.idle,
        )

    def change_pod(self, session: SessionId, template: dict[str, Any]) -> None:
        """Change what the pods of a session that sleeps will be like."""
        patch = json.dumps({"spec": {"template": template}})
        self.arena.kubectl("-n", "sessions", "patch", "deployment", f"user-{session}", "--type=strategic", "-p", patch)

    def report(self, session: SessionId, *conditions: dict[str, Any], **status: Any) -> None:
        """Report about a session's pod what a kubelet would."""
        (item,) = [i for i in self.objects("v1", "pods") if i["metadata"]["labels"].get("uuid") == session]
        patch = json.dumps({"status": {"conditions": [*conditions], **status}})
        target = ("pod", item["metadata"]["name"], "--subresource=status", "--type=strategic", "-p", patch)
        self.arena.kubectl("-n", "sessions", "patch", *target)

    async def starting(self, session: SessionId) -> Workspace:
        """Wake a session whose pod does not become ready; returns when the deployment controller has seen it."""
        await self.factory.demand.wake(session)

        async def seen() -> Workspace | None:
            found = await self.find(session)
            return found if found.unavailable_since and self.pods([session]) else None

        found = await until(seen, "a pod that is not ready")
        assert found is not None
        return found

    async def tick(self, sweeper: Sweeper, *sessions: SessionId) -> SweepReport:
        """Let a sweeper judge these sessions, as they are now, once."""
        return await sweeper.tick([await self.find(session) for session in sessions])

    def hooked(self, hooks: Hooks) -> Factory:
        """Return the services with hooks around both adapters."""
        return replace(
            self.factory,
            cluster=hooks.around(self.factory.cluster),
            store=hooks.around(self.factory.store),
            metrics=self.metrics,
            journal=self.journal,
        )

    def gate(self, hooks: Hooks) -> Gate:
        """Return the real gate with hooks around what it calls."""
        hooked = self.hooked(hooks)
        return Gate(hooked.cluster, hooked.store, hooked.journal, hooked.metrics, hooked.settings.idle.release_after)

    def guard(self, hooks: Hooks | None = None) -> WatchGuard:
        """Return the real watch guard, perhaps with hooks around what it calls."""
        factory = self.hooked(hooks) if hooks else self.factory
        return WatchGuard(factory.store, factory.demand)

    def start_sweeping(self, **environment: str) -> None:
        """Run `sweep --loop` in a process of its own."""
        self.arena.run(SWEEP, [PROGRAM, "sweep", "--loop"], environment)

    def sweep_dying(self, when: str, method: str, nth: int = 1, **environment: str) -> int:
        """Run one sweep that kills itself before or after a step; return its exit code."""
        argv = [sys.executable, "-m", "tests.support.dying_sweep", str(self.arena.kubeconfig), when, method, str(nth)]
        done = subprocess.run(argv, cwd=ROOT, env=self.arena.environment() | environment, check=False)
        return done.returncode

    def restart_redis(self, *, empty: bool) -> None:
        """Kill Redis and start it again."""
        self.arena.kill("redis")
        self.arena.start_component("redis", empty=empty)

    def keda_is_admitted(self) -> bool:
        """Whether Redis lets KEDA in."""
        user = cast("dict[str, list[str]]", self.table.admin.acl_getuser("keda"))
        return "on" in user["flags"]

    async def is_deleted(self, session: SessionId) -> bool:
        """Whether nothing is left of it but its volume, which is marked."""
        volume = await self.factory.cluster.find_volume(session)
        return await self.factory.cluster.find_workspace(session) is None and bool(volume and volume.deleted_at)

    async def gate_is_open(self) -> bool:
        """Whether Redis says so."""
        return (await self.factory.store.get_epoch()).is_open

    async def stay(self, pods: dict[str, str], seconds: float = LONGER_THAN_COOLDOWN_SECONDS) -> None:
        """See that exactly these pods live on for longer than the cooldown."""
        await throughout(lambda: self.pods(pods.keys()) == pods, f"{len(pods)} pods live on", seconds)
