"""Scenarios of both charts, rendered once per process; and the few commands the chart tests run."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from functools import cache
from pathlib import Path
from typing import TYPE_CHECKING, Any

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

Object = dict[str, Any]

ROOT = Path(__file__).resolve().parents[2]
CHARTS = ROOT / "charts"
SESSION = "3f1c2d4e-5b6a-4c7d-8e9f-0a1b2c3d4e5f"
_RELEASES = {"user-session": (SESSION, "sessions"), "platform": ("sessionctl", "sessionctl")}


class CommandError(AssertionError):
    """A command failed that should not have."""


def run(
    *argv: str | Path, env: Mapping[str, str], stdin: str | None = None, cwd: Path | None = None, timeout: float = 120
) -> str:
    """Return the standard output of a command; raises CommandError with all it said."""
    outcome = attempt(*argv, env=env, stdin=stdin, cwd=cwd, timeout=timeout)
    if outcome.returncode:
        msg = f"{' '.join(map(str, argv))}\nexit code {outcome.returncode}\n{outcome.stdout}\n{outcome.stderr}"
        raise CommandError(msg)
    return outcome.stdout


def attempt(
    *argv: str | Path, env: Mapping[str, str], stdin: str | None = None, cwd: Path | None = None, timeout: float = 120
) -> subprocess.CompletedProcess[str]:
    """Run a command that may fail."""
    return subprocess.run(
        [*map(str, argv)],
        env=dict(env),
        input=stdin,
        cwd=cwd,
        timeout=timeout,
        capture_output=True,
        text=True,
        check=False,
    )


@dataclass(frozen=True)
class Scenario:
    """One ``ci/<name>-values.yaml`` of a chart."""

    chart: str
    name: str

    @property
    def values(self) -> Path:
        """Return the values file."""
        return CHARTS / self.chart / "ci" / f"{self.name}-values.yaml"

    @property
    def release(self) -> str:
        """Return a release name the chart accepts."""
        return _RELEASES[self.chart][0]

    @property
    def namespace(self) -> str:
        """Return the namespace the release is rendered for."""
        return _RELEASES[self.chart][1]

    def __str__(self) -> str:
        """Return the test id."""
        return f"{self.chart}-{self.name}"


def scenarios() -> list[Scenario]:
    """List the scenarios of both charts."""
    files = sorted(CHARTS.glob("*/ci/*-values.yaml"))
    return [Scenario(file.parent.parent.name, file.name.removesuffix("-values.yaml")) for file in files]


@cache
def rendered_text(helm: Path, scenario: Scenario, chart: Path | None = None) -> str:
    """Return what ``helm template`` prints; no cluster is asked."""
    chart = chart or CHARTS / scenario.chart
    argv = ("template", scenario.release, chart, "--namespace", scenario.namespace, "--values", scenario.values)
    return run(helm, *argv, env={"HOME": "/nonexistent", "KUBECONFIG": "/dev/null"})


def rendered(helm: Path, scenario: Scenario, chart: Path | None = None) -> list[Object]:
    """Return the objects of a scenario, from another copy of its chart where one is given."""
    documents = yaml.load_all(rendered_text(helm, scenario, chart), Loader=yaml.CSafeLoader)
    return [document for document in documents if document]


def pod_templates(objects: list[Object]) -> Iterator[tuple[Object, Object]]:
    """Yield each workload with its pod template."""
    for item in objects:
        if "template" in item.get("spec", {}):
            yield item, item["spec"]["template"]


def title(item: Object) -> str:
    """Return kind and name, for messages."""
    return f"{item['kind']} {item['metadata']['name']}"


def copy_chart(name: str, folder: Path, *, version: str) -> Path:
    """Copy a chart and change nothing but its version."""
    target = folder / version / name
    shutil.copytree(CHARTS / name, target)
    manifest = target / "Chart.yaml"
    lines = manifest.read_text().splitlines()
    manifest.write_text("\n".join(f"version: {version}" if line.startswith("version:") else line for line in lines))
    return target
