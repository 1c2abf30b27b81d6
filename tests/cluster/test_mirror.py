"""The mirror shows what the API server shows, asks it nothing, and survives whatever happens to its watches."""

from __future__ import annotations

import asyncio
import contextlib
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Final

import pytest

from sessionctl.adapters.clock import SystemClock
from sessionctl.adapters.cluster import client as api_client
from sessionctl.adapters.cluster.client import KubernetesClient
from sessionctl.adapters.cluster.kubernetes_cluster import KubernetesCluster
from sessionctl.adapters.metrics import NoMetrics
from sessionctl.core.identity import new_session_id
from sessionctl.core.mirror import Mirror
from sessionctl.core.views import ViewService
from sessionctl.core.why import WhyService
from sessionctl.errors import ClusterError, NotFoundError, UnavailableError
from sessionctl.models import HolderKind, SessionStatus
from tests.cluster.stage import READY_DELAY
from tests.support.api_proxy import ApiProxy, listing, watching
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from sessionctl.models import SessionId, Workspace
    from sessionctl.ports import ClusterView
    from tests.cluster.stage import Stage
    from tests.support.api_proxy import Request

DEPLOYMENTS: Final = "/deployments"
KINDS: Final = (DEPLOYMENTS, "/persistentvolumeclaims", "/pods", "/events")
EVENTS: Final = "/api/v1/namespaces/sessions/events"
INTERRUPTED: Final = "is interrupted"


class Nobody:
    """Has asked no agent."""

    async def last_answer(self, workspace: Workspace) -> None:
        assert workspace.ready_replicas


@pytest.fixture(scope="module")
def with_keda() -> bool:
    return False


@pytest.fixture
def proxy(stage: Stage) -> Iterator[ApiProxy]:
    with ApiProxy(stage.arena) as proxy:
        yield proxy


@dataclass
class Watched:
    """A mirror behind a proxy."""

    mirror: Mirror
    cluster: KubernetesCluster
    proxy: ApiProxy
    running: asyncio.Task[None]

    def lists(self, path: str) -> int:
        """Count the lists of a kind that were asked for, pages after the first left out."""
        matches = listing(path)
        return sum(matches(request) and "continue" not in request.query for request in list(self.proxy.reads))

    def watches(self, path: str) -> list[Request]:
        """Return the watches of a kind, in order."""
        return [request for request in list(self.proxy.reads) if watching(path)(request)]

    async def interrupt(self) -> None:
        """Cut everything, and return when sessions are listed again and their next watch is asked for."""
        before = len(self.watches(DEPLOYMENTS))
        self.proxy.cut()
        await until(lambda: len(self.watches(DEPLOYMENTS)) > before, "another watch")

    async def replicas(self, session: SessionId) -> int | None:
        """Return what the mirror shows of one session."""
        found = await self.mirror.find_workspace(session)
        return found.replicas if found else None

    async def shows(self, session: SessionId, replicas: int | None) -> None:
        """Return when the mirror shows a session so."""

        async def so() -> bool:
            return await self.replicas(session) == replicas

        await until(so, f"the mirror shows replicas {replicas}")


@pytest.fixture
async def unstarted(stage: Stage, proxy: ApiProxy, tmp_path: Path) -> AsyncIterator[KubernetesCluster]:
    kubeconfig = proxy.write_kubeconfig(tmp_path / "kubeconfig")
    async with await KubernetesClient.connect(str(kubeconfig), None) as client:
        yield KubernetesCluster(client, stage.factory.platform.sessions_namespace)


@pytest.fixture
async def watched(unstarted: KubernetesCluster, proxy: ApiProxy) -> AsyncIterator[Watched]:
    mirror = Mirror(unstarted, SystemClock(), NoMetrics())
    running = asyncio.create_task(mirror.run())
    await mirror.wait_synced()
    # Lists are there before the watches that follow them.
    await until(lambda: all(any(watching(kind)(r) for r in list(proxy.reads)) for kind in KINDS), "every watch")
    yield Watched(mirror, unstarted, proxy, running)
    assert not running.done()
    running.cancel()
    with contextlib.suppress(asyncio.CancelledError):
        await running


def event(stage: Stage, kind: str, name: str, reason: str, second: int, number: int, type_: str = "Warning") -> str:
    """Report something about an object, and return the name of the event."""
    event_name = f"{name}.{number}"
    body = {
        "apiVersion": "v1",
        "kind": "Event",
        "metadata": {"name": event_name, "namespace": "sessions"},
        "involvedObject": {"kind": kind, "namespace": "sessions", "name": name},
        "type": type_,
        "reason": reason,
        "message": f"{reason} at {second}",
        "lastTimestamp": f"2026-01-01T00:00:{second:02}Z",
    }
    stage.api.create(EVENTS, body)
    return event_name


async def everything(view: ClusterView, sessions: list[SessionId], pods: list[str]) -> dict[str, Any]:
    """Return all that a view says of some sessions."""
    return {
        "stale": view.stale_for(),
        "workspaces": sorted(await view.list_workspaces(), key=lambda w: w.session_id),
        "volumes": sorted(await view.list_volumes(), key=lambda v: v.session_id),
        "found": [(await view.find_workspace(s), await view.find_volume(s)) for s in sessions],
        "pods": [sorted(await view.list_pods(s), key=lambda p: p.name) for s in sessions],
        "troubles": [await view.find_trouble("Pod", pod) for pod in pods],
        "claims": [await view.find_trouble("PersistentVolumeClaim", f"user-{s}") for s in sessions],
    }


async def test_it_shows_what_the_api_server_shows(stage: Stage, watched: Watched) -> None:
    asleep, ready = stage.fleet[:2]
    starting, deleted, purged = [await stage.create() for _ in range(3)]
    stage.change_pod(starting, {"metadata": {"annotations": {READY_DELAY: "1h"}}})
    await stage.wake(ready)
    await stage.starting(starting)
    service = await stage.factory.create_session_service()
    await service.delete(deleted, purge=False)
    await service.delete(purged, purge=True)
    pods = [i["metadata"]["name"] for i in stage.objects("v1", "pods") if i["metadata"]["labels"]["uuid"] == starting]
    (pod,) = pods
    event(stage, "Pod", pod, "FailedMount", 5, 1)
    event(stage, "Pod", pod, "Pulling", 7, 2, "Normal")
    event(stage, "Pod", pod, "FailedScheduling", 9, 3)
    event(stage, "Pod", pod, "Started", 9, 4, "Normal")
    # Two in one second: whichever counts, it is the same one for both.
    event(stage, "PersistentVolumeClaim", f"user-{starting}", "ProvisioningFailed", 3, 1)
    event(stage, "PersistentVolumeClaim", f"user-{starting}", "FailedBinding", 3, 2)
    sessions = [asleep, ready, starting, deleted, purged, new_session_id()]

    async def same() -> bool:
        shown, live = [await everything(view, sessions, pods) for view in (watched.mirror, watched.cluster)]
        return shown == live and live["troubles"] == ["Pulling at 7"]

    await until(same, "the same by both")
    live = await everything(watched.cluster, sessions, pods)
    assert live["claims"][2] == "FailedBinding: FailedBinding at 3"
    assert [workspace is not None for workspace, _ in live["found"]] == [True, True, True, False, False, False]
    assert [volume is not None for _, volume in live["found"]] == [True, True, True, True, False, False]
    assert [len(found) for found in live["pods"]] == [0, 1, 1, 0, 0, 0]

    stage.api.delete(f"{EVENTS}/{pod}.2")

    async def expired() -> bool:
        return await watched.mirror.find_trouble("Pod", pod) is None

    await until(expired, "an event that is gone is no trouble any more")
    await service.delete(deleted, purge=True)


async def test_it_counts_what_users_and_tenants_have(stage: Stage, watched: Watched) -> None:
    mine = await stage.create("somebody-new")
    await watched.shows(mine, 0)
    assert watched.mirror.count_sessions("default", "somebody-new") == 1
    assert watched.mirror.count_sessions("default", "nobody") == 0
    assert watched.mirror.count_sessions("elsewhere", "somebody-new") == 0
    assert watched.mirror.count_awake("default") == 0
    await stage.wake(mine)
    await watched.shows(mine, 1)
    assert (watched.mirror.count_awake("default"), watched.mirror.count_awake("elsewhere")) == (1, 0)
    await (await stage.factory.create_session_service()).delete(mine, purge=True)
    await watched.shows(mine, None)
    assert (watched.mirror.count_sessions("default", "somebody-new"), watched.mirror.count_awake("default")) == (0, 0)


async def test_nothing_is_asked_once_it_has_seen_everything(stage: Stage, watched: Watched) -> None:
    stuck = await stage.create()
    stage.change_pod(stuck, {"metadata": {"annotations": {READY_DELAY: "1h"}}})
    await stage.starting(stuck)
    await watched.shows(stuck, 1)
    views = ViewService(
        view=watched.mirror,
        live=watched.cluster,
        store=stage.factory.store,
        settings=stage.factory.settings.sessions,
    )
    whys = WhyService(
        views=views,
        store=stage.factory.store,
        answers=Nobody(),
        clock=stage.factory.clock,
        settings=stage.factory.settings,
    )
    before = len(watched.proxy.reads)

    shown = [await views.get_status(session) for session in (stuck, *stage.fleet)]
    page = await views.list_sessions(tenant="default", limit=10)
    asleep, starting = await whys.explain(stage.fleet[0]), await whys.explain(stuck)

    assert (len(watched.proxy.reads), watched.proxy.writes) == (before, [])
    assert shown[0].status is SessionStatus.WAKING
    assert len(page.sessions) == 10
    assert page.cursor
    assert (asleep.awake, asleep.held_by, asleep.sleeps_at) == (False, (), None)
    (holder,) = starting.held_by
    assert (holder.kind, holder.detail) == (HolderKind.STARTING, starting.reason)
    assert starting.sleeps_at == holder.until


async def test_what_another_manager_has_just_made_is_asked_for(stage: Stage, watched: Watched) -> None:
    """Whoever made it has its answer already, and may come to this manager next."""
    watched.proxy.edit_watch = lambda _, __: b""
    made = await stage.create()
    views = ViewService(
        view=watched.mirror,
        live=watched.cluster,
        store=stage.factory.store,
        settings=stage.factory.settings.sessions,
    )
    assert await watched.replicas(made) is None
    assert (await views.get_status(made)).status is SessionStatus.CREATED
    with pytest.raises(NotFoundError):
        await views.get_status(new_session_id())
    watched.proxy.away = True
    watched.proxy.cut()
    await until(lambda: watched.mirror.stale_for() is not None, "the mirror knows that it misses things")
    with pytest.raises(UnavailableError):
        await views.get_status(new_session_id())
    with pytest.raises(ClusterError):
        await views.get_status(made)


async def test_before_it_has_seen_anything_it_says_so(unstarted: KubernetesCluster) -> None:
    mirror = Mirror(unstarted, SystemClock(), NoMetrics())
    session = new_session_id()
    for read in (mirror.list_workspaces(), mirror.find_volume(session), mirror.list_pods(session)):
        with pytest.raises(UnavailableError):
            await read
    with pytest.raises(UnavailableError):
        mirror.count_awake("default")
    assert not mirror.is_synced


class TestInterruptions:
    async def test_an_expired_watch_is_listed_again_without_a_word(
        self, stage: Stage, watched: Watched, caplog: pytest.LogCaptureFixture
    ) -> None:
        session, lists = stage.fleet[0], watched.lists(DEPLOYMENTS)
        # A watch that ends before it said anything is an interruption; this one speaks first.
        await stage.wake(session)
        await watched.shows(session, 1)
        watched.proxy.trap(watching(DEPLOYMENTS), refusal=(410, "too old resource version"))
        watched.proxy.end_watches(DEPLOYMENTS)
        await until(lambda: watched.lists(DEPLOYMENTS) == lists + 1, "another list")

        # And in the words of a watch that has begun.
        expired = json.dumps({"type": "ERROR", "object": {"kind": "Status", "code": 410}}).encode() + b"\n"
        said: list[bytes] = []

        def expire(request: Request, line: bytes) -> bytes:
            if not request.path.endswith(DEPLOYMENTS):
                return line
            said.append(line)
            # Twice in a row with nothing between would be an interruption too.
            return expired if len(said) == 2 else line

        caplog.clear()
        lists = watched.lists(DEPLOYMENTS)
        watched.proxy.edit_watch = expire
        await stage.factory.demand.sleep(session)
        await until(lambda: watched.lists(DEPLOYMENTS) == lists + 1, "another list")
        await watched.shows(session, 0)
        assert INTERRUPTED not in caplog.text

    async def test_a_watch_that_ends_goes_on_from_where_the_last_bookmark_was(
        self, stage: Stage, watched: Watched, caplog: pytest.LogCaptureFixture
    ) -> None:
        session, lists = stage.fleet[0], watched.lists(DEPLOYMENTS)
        event(stage, "Namespace", "sessions", "Anything", 1, stage.table.now())
        version = stage.api.get("/apis/apps/v1/namespaces/sessions/deployments?limit=1")["metadata"]["resourceVersion"]
        assert watched.watches(DEPLOYMENTS)[-1].query["resourceVersion"] != version
        bookmark = {"type": "BOOKMARK", "object": {"metadata": {"resourceVersion": version}}}
        marked: list[Request] = []

        def mark(request: Request, line: bytes) -> bytes:
            """Of the watch that is there, only the bookmark and none of the API server's words."""
            if not request.path.endswith(DEPLOYMENTS):
                return line
            marked.append(request)
            if len(marked) == 1:
                return json.dumps(bookmark).encode() + b"\n"
            return b"" if request is marked[0] else line

        watched.proxy.edit_watch = mark
        await stage.factory.demand.wake(session)
        await until(lambda: marked, "the watch says something")
        assert await watched.replicas(session) == 0
        watches = len(watched.watches(DEPLOYMENTS))
        watched.proxy.end_watches(DEPLOYMENTS)

        await watched.shows(session, 1)
        assert watched.watches(DEPLOYMENTS)[watches].query["resourceVersion"] == version
        assert watched.lists(DEPLOYMENTS) == lists
        assert INTERRUPTED not in caplog.text

    async def test_a_silent_watch_is_given_up(
        self, stage: Stage, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        """Without bookmarks nobody can tell it from one whose server is gone."""
        session = stage.fleet[0]
        monkeypatch.setattr(api_client, "WATCH_SILENCE_SECONDS", 0.5)
        watched.proxy.edit_watch = lambda _, __: b""
        await watched.interrupt()
        await stage.factory.demand.wake(session)
        await watched.shows(session, 1)

    async def test_a_watch_whose_answer_does_not_begin_is_given_up(
        self, stage: Stage, watched: Watched, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        session = stage.fleet[0]
        monkeypatch.setattr(api_client, "REPLY_SECONDS", 0.5)
        hold = watched.proxy.hold(watching(DEPLOYMENTS))
        await watched.interrupt()
        await stage.factory.demand.wake(session)
        await watched.shows(session, 1)
        hold.let_go()

    async def test_the_view_stays_while_the_api_server_is_away_and_then_catches_up(
        self, stage: Stage, watched: Watched
    ) -> None:
        woken, deleted = stage.fleet[0], await stage.create()
        await watched.shows(deleted, 0)
        changes = watched.mirror.follow_changes()
        await changes.take(5)
        watched.proxy.away = True
        watched.proxy.cut()
        await stage.wake(woken)
        await (await stage.factory.create_session_service()).delete(deleted, purge=True)

        await until(lambda: watched.mirror.stale_for() is not None, "the mirror knows that it misses things")
        assert (await watched.replicas(woken), await watched.replicas(deleted)) == (0, 0)
        assert len(await watched.mirror.list_workspaces()) == len(await stage.factory.cluster.list_workspaces()) + 1
        watched.proxy.away = False

        await until(lambda: watched.mirror.stale_for() is None, "the mirror is current again")
        assert (await watched.replicas(woken), await watched.replicas(deleted)) == (1, None)
        assert await watched.mirror.find_volume(deleted) is None
        # Whoever guards against missed changes is given every session to look at.
        assert {w.session_id for w in await changes.take(5)} >= set(stage.fleet)

    async def test_it_follows_an_api_server_that_was_killed(self, stage: Stage, watched: Watched) -> None:
        session = stage.fleet[0]
        stage.arena.kill("kube-apiserver")
        await until(lambda: watched.mirror.stale_for() is not None, "the mirror knows that it misses things")
        assert await watched.replicas(session) == 0
        stage.arena.start_component("kube-apiserver")
        await stage.factory.demand.wake(session)
        await watched.shows(session, 1)


class TestPages:
    async def test_a_long_list_comes_in_pages(
        self, stage: Stage, unstarted: KubernetesCluster, proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api_client, "PAGE_LENGTH", 7)
        before = len(proxy.reads)
        found = [workspace.session_id for workspace in await unstarted.list_workspaces()]
        assert len(found) == len(set(found)) >= len(stage.fleet)
        assert len(proxy.reads) - before == -(-len(found) // 7)

    async def test_it_begins_anew_when_it_expires_on_the_way(
        self, stage: Stage, unstarted: KubernetesCluster, proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api_client, "PAGE_LENGTH", 7)
        proxy.trap(lambda request: "continue" in request.query, nth=3, refusal=(410, "the continue token is too old"))
        found = [workspace.session_id for workspace in await unstarted.list_workspaces()]
        assert len(found) == len(set(found)) >= len(stage.fleet)

    async def test_one_that_always_expires_is_an_error_of_ours(
        self, unstarted: KubernetesCluster, proxy: ApiProxy, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        monkeypatch.setattr(api_client, "PAGE_LENGTH", 7)
        for nth in range(1, api_client.LIST_ATTEMPTS + 1):
            proxy.trap(lambda request: "continue" in request.query, nth=nth, refusal=(410, "too old"))
        with pytest.raises(ClusterError, match="410"):
            await unstarted.list_workspaces()
