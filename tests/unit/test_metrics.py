from __future__ import annotations

import re
import sys
from typing import Final

import pytest
import yaml

from sessionctl.adapters.prometheus import LABEL_VALUES, PrometheusMetrics
from sessionctl.models import Dependency, EventKind, Loop, MessageOutcome, SessionStatus
from sessionctl.testing.clock import FakeClock
from tools import metrics_page
from tools.pins import ROOT

ALERTS: Final = ROOT / "docs" / "how-to" / "alerts.md"


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


@pytest.fixture
def metrics(clock: FakeClock) -> PrometheusMetrics:
    return PrometheusMetrics(clock)


def value(metrics: PrometheusMetrics, name: str, **labels: str) -> float | None:
    return metrics.registry.get_sample_value(name, labels)


def test_two_processes_in_one_count_apart(metrics: PrometheusMetrics, clock: FakeClock) -> None:
    PrometheusMetrics(clock).count(EventKind.WOKEN)

    assert value(metrics, "sessionctl_session_events_total", kind="woken") == 0


async def test_a_loop_that_says_nothing_grows_old(metrics: PrometheusMetrics, clock: FakeClock) -> None:
    await clock.sleep(40)
    metrics.loop_ended(Loop.SWEEP, 0.1, failed=False)
    metrics.loop_ended(Loop.GATE, 0.1, failed=True)
    await clock.sleep(2)

    ages = [value(metrics, "sessionctl_loop_age_seconds", loop=loop) for loop in ("sweep", "gate", "reconcile")]
    assert ages == [2, 42, 42]


def test_the_labels_of_requests_stay_few(metrics: PrometheusMetrics) -> None:
    for number in range(1000):
        metrics.observe_request(f"M{number}", f"/{number}", 404, 0.1)

    text, kind = metrics.render()
    assert kind.startswith("text/plain")
    assert len(re.findall(rb"^sessionctl_http_requests_total\{", text, re.MULTILINE)) == 65


def test_what_it_is_told_is_what_it_says(metrics: PrometheusMetrics) -> None:
    metrics.count(EventKind.SLEPT)
    metrics.observe_start(1.5)
    metrics.observe_helm("install", 0.3, failed=True)
    metrics.set_health(Dependency.REDIS, healthy=True)
    metrics.set_sessions({SessionStatus.ACTIVE: 3}, 7)
    metrics.count_message(MessageOutcome.FAILED)
    metrics.set_deliveries(4)

    assert value(metrics, "sessionctl_session_events_total", kind="slept") == 1
    assert value(metrics, "sessionctl_start_seconds_bucket", le="2.0") == 1
    assert value(metrics, "sessionctl_start_seconds_bucket", le="1.0") == 0
    assert value(metrics, "sessionctl_helm_seconds_count", verb="install", failed="true") == 1
    assert value(metrics, "sessionctl_dependency_up", dependency="redis") == 1
    assert value(metrics, "sessionctl_sessions", status="active") == 3
    assert value(metrics, "sessionctl_sessions", status="sleeping") == 0
    assert value(metrics, "sessionctl_messages_waiting") == 7
    assert value(metrics, "sessionctl_messages_total", outcome="failed") == 1
    assert value(metrics, "sessionctl_messages_total", outcome="done") == 0
    assert value(metrics, "sessionctl_deliveries") == 4


def test_the_page_is_current() -> None:
    assert metrics_page.PAGE.read_text() == metrics_page.render(), "run: python -m tools.docs"


def test_alerts_ask_for_what_there_is(metrics: PrometheusMetrics) -> None:
    (block,) = re.findall(r"```yaml\n(.*?)```", ALERTS.read_text(), re.DOTALL)
    rules = yaml.safe_load(block)["groups"][0]["rules"]
    families = {family.name for family in metrics.registry.collect()}

    assert len(rules) == 3
    for name, labels in re.findall(r"(sessionctl_\w+)(?:\{([^}]*)\})?", ALERTS.read_text()):
        assert name.removesuffix("_total") in families
        for label, wanted in re.findall(r'(\w+)="([^"]*)"', labels):
            assert wanted in LABEL_VALUES[label]


def test_commands_do_not_load_the_library() -> None:
    """Only a session manager is measured; everybody else pays for nothing."""
    import subprocess

    code = "import sys, sessionctl.cli.app, sessionctl.factory; sys.exit('prometheus_client' in sys.modules)"
    assert subprocess.run([sys.executable, "-c", code], check=False).returncode == 0
