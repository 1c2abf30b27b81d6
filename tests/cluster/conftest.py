"""A cluster of these tests' own: they kill Redis, KEDA and the API server in it, and its times are short."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Final

import pytest
from redis import Redis

from sessionctl.core.journal import Journal
from sessionctl.core.scalers import ScalerKeeper
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.testing.clock import FakeClock
from sessionctl.testing.metrics import CountingMetrics
from tests.cluster.stage import CONFIG, SWEEP, Stage
from tests.support.between import Hooks
from tests.support.clusters import start_or_skip
from tests.support.fleet import make_fleet
from tests.support.sessionctl_cli import Cli
from tests.support.table import Table
from tests.support.waiting import until
from tools.localcluster import ClusterSpec, LocalCluster
from tools.localcluster.api import Api

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Generator, Iterator

    from sessionctl.models import SessionId

FLEET: Final = 40
MORTAL: Final = ("kube-apiserver", "redis")
KEDA: Final = "keda"
LOG_CHARACTERS: Final = 6000


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(item: pytest.Item) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show with a failure what the sweep said: its log is gone with the arena."""
    report = yield
    arena = getattr(item, "funcargs", {}).get("arena")
    if report.failed and arena is not None and arena.log(SWEEP).exists():
        report.sections.append(("log of the sweep", arena.log(SWEEP).read_text()[-LOG_CHARACTERS:]))
    return report


@pytest.fixture(scope="session")
def arena(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    started = start_or_skip(ClusterSpec(), tmp_path_factory.mktemp("arena") / "c")
    started.install_platform({"config": CONFIG})
    with pytest.MonkeyPatch.context() as patch:
        for name in ("HELM_CACHE_HOME", "HELM_CONFIG_HOME", "HELM_DATA_HOME"):
            patch.setenv(name, started.environment()[name])
        yield started
    started.stop()


@pytest.fixture(scope="session")
def options(arena: LocalCluster) -> DirectOptions:
    return DirectOptions(kubeconfig=str(arena.kubeconfig), helm=str(arena.binary("helm")))


@pytest.fixture(scope="session")
def fleet(arena: LocalCluster, options: DirectOptions) -> list[SessionId]:
    async def make() -> list[SessionId]:
        async with open_factory(options) as factory:
            return await make_fleet(factory, arena, FLEET)

    return asyncio.run(make())


@pytest.fixture(scope="module")
def with_keda(request: pytest.FixtureRequest) -> bool:
    """Whether KEDA runs; modules say WITH_KEDA = False where it would do what somebody else has to be seen doing."""
    return bool(getattr(request.module, "WITH_KEDA", True))


@pytest.fixture
def hooks() -> Hooks:
    """For a test's own acts between the steps of a service."""
    return Hooks()


@pytest.fixture(scope="module")
def fleet_sleeps() -> bool:
    """Whether the sessions are put to sleep before each test; modules say no that want all of them awake."""
    return True


@pytest.fixture
async def stage(
    arena: LocalCluster, options: DirectOptions, fleet: list[SessionId], with_keda: bool, fleet_sleeps: bool
) -> AsyncIterator[Stage]:
    """The gate is open, nobody sweeps, and every session sleeps with an empty list (but see `fleet_sleeps`)."""
    running = arena.pids()
    for name in (*MORTAL, KEDA) if with_keda else MORTAL:
        if running.get(name) is None:
            arena.start_component(name)
    if not with_keda:
        arena.kill(KEDA)
    async with open_factory(options) as factory:
        with Redis(host=arena.redis.host, port=arena.redis.port, password=arena.redis.password) as admin:
            metrics = CountingMetrics()
            journal = Journal(factory.store, metrics)
            api = Api.from_kubeconfig(arena.kubeconfig)
            found = Stage(arena, factory, Table(admin), fleet, api, metrics, journal)
            await until(found.gate(Hooks()).check, "the gate opens")
            if fleet_sleeps:
                await _put_to_sleep(found)
            if with_keda:
                await _watched(found)
            await factory.journal.close()
            for key in (*admin.scan_iter("events:*"), *admin.scan_iter("marks:*")):
                admin.delete(key)
            metrics.counts.clear()
            yield found
            await journal.close()
    if arena.pids().get(SWEEP) is not None:
        arena.kill(SWEEP)


async def _put_to_sleep(stage: Stage) -> None:
    everyone = await stage.factory.cluster.list_workspaces()
    for workspace in everyone:
        stage.table.admin.delete(f"queue:{workspace.session_id}")
    awake = [w.session_id for w in everyone if w.replicas or w.ready_replicas]
    # By force: a test may have left a wake without its patch.
    await asyncio.gather(*(stage.factory.demand.sleep(session, force=True) for session in awake))
    await until(lambda: not stage.pods(awake), "every session asleep")


async def _watched(stage: Stage) -> None:
    cluster, clock = stage.factory.cluster, FakeClock()
    keeper = ScalerKeeper(cluster, clock)

    async def are_watched() -> bool:
        # A step of this clock is longer than the keeper's: KEDA is asked again every twenty looks.
        await keeper.check(gate_open=True)
        await clock.sleep(0.25)
        return all(scaler.ready for scaler in await cluster.list_scalers())

    await until(are_watched, "KEDA watches every session")


@pytest.fixture
def cli(arena: LocalCluster) -> Cli:
    return Cli.on(arena)
