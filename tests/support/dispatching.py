"""Dispatchers on a real Redis, with fake agents and a cluster that shows what a test says."""

from __future__ import annotations

import asyncio
import inspect
from collections import Counter, deque
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any, Self, cast

from sessionctl.adapters.clock import SystemClock
from sessionctl.core.delivery import Delivery
from sessionctl.core.demand import DemandService
from sessionctl.core.dispatcher import Dispatcher
from sessionctl.core.journal import Journal
from sessionctl.core.mirror import Mirror
from sessionctl.core.pods import PodWaiter
from sessionctl.core.rounds import Rounds
from sessionctl.core.sending import Means
from sessionctl.models import EventKind, Loop, Pod, Scaler, SessionId, WatchEvent, Workspace
from sessionctl.settings import ChatSettings
from sessionctl.testing.agents import FakeAgents
from sessionctl.testing.metrics import CountingMetrics
from tests.support.sessions import make_workspace
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Sequence

    from sessionctl.models import MessageOutcome, StoredEvent
    from sessionctl.ports import Agents, Cluster, Store

LONG_AGO = datetime(2026, 1, 1, tzinfo=UTC)
SETTINGS = ChatSettings(
    lock_lifetime=timedelta(seconds=0.3),
    pending_interval=timedelta(seconds=0.05),
    silence_limit=timedelta(seconds=0.5),
    retry_limit=timedelta(seconds=0.5),
)
HURRIED = ChatSettings()
"""Those of a real manager: its locks outlive a test."""


class Field:
    """A cluster that tells its watches what it is told to."""

    def __init__(self) -> None:
        self.workspaces: dict[SessionId, Workspace] = {}
        self.pods: dict[str, Pod] = {}
        self.seen_by_keda: dict[SessionId, datetime | None] = {}
        self._said: dict[str, deque[WatchEvent[Any]]] = {"workspaces": deque(), "pods": deque()}
        self._more = asyncio.Event()

    def stale_for(self) -> timedelta | None:
        return None

    def _say(self, kind: str, event: WatchEvent[Any]) -> None:
        self._said[kind].append(event)
        self._more.set()

    def show(self, workspace: Workspace) -> None:
        """Show a session's Deployment as it is now."""
        self.workspaces[workspace.session_id] = workspace
        self._say("workspaces", WatchEvent(changed=workspace))

    def show_pod(self, session_id: SessionId, name: str = "", /, **state: Any) -> Pod:
        """Show a pod, ready if nothing else is said."""
        name = name or f"pod-of-{session_id}"
        known = self.pods.get(name) or Pod(name, LONG_AGO, session_id, ready=True)
        pod = self.pods[name] = replace(known, **state)
        self._say("pods", WatchEvent(changed=pod))
        return pod

    def remove_pod(self, session_id: SessionId, name: str = "") -> None:
        """Take a pod away."""
        self._say("pods", WatchEvent(deleted=self.pods.pop(name or f"pod-of-{session_id}")))

    async def _watch(self, kind: str) -> AsyncGenerator[WatchEvent[Any], None]:
        yield WatchEvent(listed=())
        while True:
            while self._said[kind]:
                yield self._said[kind].popleft()
            self._more.clear()
            if not self._said[kind]:
                await self._more.wait()

    def watch_workspaces(self) -> AsyncGenerator[WatchEvent[Any], None]:
        return self._watch("workspaces")

    def watch_pods(self) -> AsyncGenerator[WatchEvent[Any], None]:
        return self._watch("pods")

    async def watch_nothing(self) -> AsyncGenerator[WatchEvent[Any], None]:
        yield WatchEvent(listed=())
        await asyncio.Event().wait()

    watch_volumes = watch_troubles = watch_nothing

    async def find_workspace(self, session_id: SessionId) -> Workspace | None:
        return self.workspaces.get(session_id)

    async def wake_workspace(self, session_id: SessionId, woken_at: int) -> None:
        self.show(replace(self.workspaces[session_id], replicas=1, woken_at=woken_at))

    async def find_volume(self, session_id: SessionId) -> None:
        return None

    async def find_scaler(self, session_id: SessionId) -> Scaler:
        return Scaler(session_id, "1", ready=True, nudged=False, last_active=self.seen_by_keda.get(session_id))


class Mortal:
    """A store whose process stops at a step, as one that is paused or killed, and may go on later.

    Attributes:
        stopped: Set once it stands.
        calls: How often each method was called.
    """

    def __init__(self, store: Store, stop: str = "", *, before: bool = True, nth: int = 1) -> None:
        self._store = store
        self._stop, self._before, self._nth = stop, before, nth
        self._goes = asyncio.Event()
        self._goes.set()
        self.stopped = asyncio.Event()
        self.calls: Counter[str] = Counter()

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._store, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: object, **named: object) -> object:
            await self._goes.wait()
            self.calls[name] += 1
            stops = name == self._stop and self.calls[name] == self._nth
            if stops and self._before:
                await self._stand()
            answer = await method(*args, **named)
            if stops and not self._before:
                await self._stand()
            await self._goes.wait()
            return answer

        return call

    async def _stand(self) -> None:
        self._goes.clear()
        self.stopped.set()
        await self._goes.wait()

    def go_on(self) -> None:
        """Let it go on, long after."""
        self._goes.set()


class Room:
    """Any number of dispatchers, for the time of its ``async with`` block."""

    def __init__(self, store: Store, agents: Agents | None = None) -> None:
        self.store = store
        self.field = Field()
        self.fake = FakeAgents()
        self.agents = agents or cast("Agents", self.fake)
        self.metrics = CountingMetrics()
        self.clock = SystemClock()
        self.mirror = Mirror(cast("Cluster", self.field), self.clock, self.metrics)
        self._tasks: list[asyncio.Task[None]] = []
        self._dispatchers: list[Dispatcher] = []

    async def __aenter__(self) -> Self:
        self._tasks.append(asyncio.create_task(self.mirror.run()))
        await self.mirror.wait_synced()
        return self

    async def __aexit__(self, *_: object) -> None:
        for dispatcher in self._dispatchers:
            await dispatcher.close()
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        await self.fake.close()

    def demand(self, store: Store | None = None, **options: Any) -> DemandService:
        """Whoever takes chats."""
        store = store or self.store
        journal = Journal(store, self.metrics)
        hold = options.pop("hold", timedelta())
        return DemandService(cast("Cluster", self.field), store, self.clock, journal, hold=hold, **options)

    def _means(self, store: Store, settings: ChatSettings) -> Means:
        pods = PodWaiter(self.mirror, cast("Cluster", self.field), self.clock)
        return Means(store=store, agents=self.agents, pods=pods, clock=self.clock, settings=settings)

    def dispatcher(self, store: Any = None, settings: ChatSettings = SETTINGS, *, scans: bool = True) -> Dispatcher:
        """Start one, as a process of its own would have."""
        store = store or self.store
        made = Dispatcher(self._means(store, settings), self.demand(store), self.metrics, self.mirror.find_tenant)
        self._dispatchers.append(made)
        if scans:
            self._tasks.append(asyncio.create_task(self._scan(made, settings)))
        return made

    def delivery(self, session_id: SessionId, store: Any = None, owner: str = "test") -> Delivery:
        """Make one run."""
        store = store or self.store
        return Delivery(session_id, owner, self._means(store, SETTINGS), self.demand(store), self.metrics)

    async def _scan(self, dispatcher: Dispatcher, settings: ChatSettings) -> None:
        rounds = Rounds(self.clock, self.metrics)
        await rounds.repeat(Loop.DISPATCH, dispatcher.scan, settings.pending_interval.total_seconds())

    async def session(self, *, ready: bool = True, **state: Any) -> SessionId:
        """Make a session whose pod runs and has long been seen by KEDA, so that nothing is held."""
        workspace = replace(make_workspace(replicas=1), **state)
        session_id = workspace.session_id
        await self.store.ensure_record(workspace)
        await self.store.wake(session_id)
        self.field.show(workspace)
        if ready:
            self.field.show_pod(session_id)
            await until(lambda: self.sees(session_id), "the mirror shows its pod")
        return session_id

    async def sees(self, session_id: SessionId, *, ready: bool = True) -> bool:
        """Whether the mirror shows a pod that is ready."""
        return any(pod.ready is ready for pod in await self.mirror.list_pods(session_id))

    async def chat(
        self, session_id: SessionId, *texts: str, hold: timedelta = timedelta(), first: int = 1
    ) -> Sequence[str]:
        """Store messages; returns their ids."""
        ids = [f"m{number}" for number, _ in enumerate(texts, first)]
        for message_id, text in zip(ids, texts, strict=True):
            await self.store.enqueue(session_id, message_id, text, 100, hold)
        return ids

    async def events(self, session_id: SessionId) -> Sequence[StoredEvent]:
        """All that happened to its messages."""
        return [event for event in await self.store.list_events(session_id, None, 10_000) if event.message_id]

    async def ends(self, session_id: SessionId) -> list[tuple[str, MessageOutcome | None]]:
        """Outcomes in order, as they are recorded: the same message twice would show."""
        found = await self.events(session_id)
        return [(event.message_id, event.outcome) for event in found if event.kind is EventKind.MESSAGE_ENDED]

    async def reason(self, session_id: SessionId, message_id: str = "m1") -> str:
        """Why a message ended as it did."""
        found = await self.events(session_id)
        return next(e.detail for e in found if e.message_id == message_id and e.kind is EventKind.MESSAGE_ENDED)

    async def pieces(self, session_id: SessionId, message_id: str = "m1") -> list[str]:
        """The reply of the last attempt, as it is recorded."""
        deltas = [
            event
            for event in await self.events(session_id)
            if (event.message_id, event.kind) == (message_id, EventKind.MESSAGE_DELTA)
        ]
        return [event.text for event in deltas if event.attempt == deltas[-1].attempt]

    async def reply(self, session_id: SessionId, message_id: str = "m1") -> str:
        """The same in one."""
        return "".join(await self.pieces(session_id, message_id))

    async def says(self, session_id: SessionId, text: str, message_id: str = "m1") -> None:
        """Wait until so much of a reply is recorded."""

        async def so() -> bool:
            return await self.reply(session_id, message_id) == text

        await until(so, f"{text!r} is recorded")

    async def all_end(self, session_id: SessionId, *message_ids: str) -> list[tuple[str, MessageOutcome | None]]:
        """Wait until these messages have outcomes; returns all outcomes."""

        async def ended() -> bool:
            return {message_id for message_id, _ in await self.ends(session_id)} >= {*message_ids}

        await until(ended, f"{message_ids} have outcomes")
        return await self.ends(session_id)

    async def is_free(self, session_id: SessionId) -> None:
        """Wait until nothing is pending."""

        async def free() -> bool:
            return session_id not in await self.store.list_pending()

        await until(free, "nothing is pending")


class Gates:
    """Replies that stop before each word but the first, until they are let go."""

    def __init__(self) -> None:
        self.reached: dict[str, asyncio.Event] = {}
        self.opened: dict[str, asyncio.Event] = {}

    def _of(self, kind: dict[str, asyncio.Event], text: str) -> asyncio.Event:
        return kind.setdefault(text, asyncio.Event())

    async def reply(self, text: str) -> AsyncGenerator[str, None]:
        for number, word in enumerate(text.split()):
            if number:
                self._of(self.reached, text).set()
                await self._of(self.opened, text).wait()
            yield word

    async def running(self, text: str) -> None:
        await self._of(self.reached, text).wait()

    def open(self, text: str) -> None:
        self._of(self.opened, text).set()
