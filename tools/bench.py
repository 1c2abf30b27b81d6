"""`make bench`: what `create` costs beside its own start and a bare `helm install`, all in one run; then the API.

Absolute times depend on the machine; the ratio of medians at the end is what counts. The commands take turns, and each
goes first as often as the others, so that a machine that slows down slows them all. The middle half of the rounds' own
ratios shows how far to trust it: on a machine with other work, create suffers more than what it is compared with,
because part of it runs beside Helm on the second core.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import sysconfig
import tempfile
import time
import uuid
from pathlib import Path

from tools import apibench
from tools.localcluster import ClusterSpec, LocalCluster

HELP, BARE_HELM, CREATE = "sessionctl --help", "bare helm install", "create"
ROUNDS = 18
PAUSE_SECONDS = 0.5
"""The controllers of a new Deployment go on for a moment after KEDA is done."""
SESSIONCTL = str(Path(sysconfig.get_path("scripts")) / "sessionctl")
HELM_FLAGS = ("--disable-openapi-validation", "--no-hooks", "--namespace", "sessions", "--values", "-")


class Bench:
    """The commands, each returning its wall time in seconds."""

    def __init__(self, cluster: LocalCluster) -> None:
        self._cluster = cluster
        # An installed package has its bytecode; an environment that forbids writing it would compile at each start.
        self._environment = {k: v for k, v in cluster.environment().items() if k != "PYTHONDONTWRITEBYTECODE"}
        self._helm = str(cluster.binary("helm"))
        rendered = json.loads(self._run([SESSIONCTL, "template", "-o", "json"])[1])
        self._values = json.dumps(rendered)
        self._chart = str(Path(__file__).resolve().parent.parent / "charts" / "user-session")

    def _run(self, argv: list[str], stdin: str = "") -> tuple[float, str]:
        started = time.monotonic()
        done = subprocess.run(
            argv,
            env=self._environment,
            input=stdin,
            stdout=subprocess.PIPE,
            stderr=subprocess.DEVNULL,
            text=True,
            check=True,
        )
        return time.monotonic() - started, done.stdout

    def help(self) -> dict[str, float]:
        """Time the CLI's own start."""
        return {HELP: self._run([SESSIONCTL, "--help"])[0]}

    def bare_helm(self) -> dict[str, float]:
        """Time Helm alone, with the same chart, flags and values."""
        session_id = str(uuid.uuid4())
        elapsed, _ = self._run([self._helm, "install", session_id, self._chart, *HELM_FLAGS], self._values)
        self._settle(session_id)
        return {BARE_HELM: elapsed}

    def create(self) -> dict[str, float]:
        """Time create, phase by phase, by the moments of its progress lines; then one status."""
        started = time.monotonic()
        phases: dict[str, float] = {}
        with subprocess.Popen(
            [SESSIONCTL, "create", "--user", "bench", "-o", "json"],
            env=self._environment,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
        ) as process:
            assert process.stderr
            assert process.stdout
            phase, since = "  start, imports, platform, checks", started
            for line in process.stderr:
                now = time.monotonic()
                phases[phase], phase, since = now - since, "  " + line.strip(" .\n"), now
            answer = process.stdout.read()
        phases[phase] = time.monotonic() - since
        phases[CREATE] = time.monotonic() - started
        session_id = json.loads(answer)["uuid"]
        self._settle(session_id)
        return phases | {"sessionctl status": self._run([SESSIONCTL, "status", session_id])[0]}

    def _settle(self, session_id: str) -> None:
        """Wait until KEDA has taken up the session: its work must not fall into the time of the next command."""
        name = f"scaledobject/user-{session_id}-scaler"
        self._cluster.kubectl("-n", "sessions", "wait", "--for=condition=Ready", "--timeout=60s", name)
        time.sleep(PAUSE_SECONDS)


def _allowed(own: float, helm: float) -> float:
    return 3 * own + 1.2 * helm


def main() -> int:
    """Start a cluster, run the rounds, print medians and the ratio."""
    with tempfile.TemporaryDirectory(prefix="sessionctl-bench-") as folder:
        cluster = LocalCluster.start(ClusterSpec(), Path(folder) / "cluster", os.getpid(), print)
        try:
            cluster.install_platform()
            # KEDA takes sessions up once it may read their lists.
            subprocess.run([SESSIONCTL, "sweep"], env=cluster.environment(), stdout=subprocess.DEVNULL, check=True)
            bench = Bench(cluster)
            bench.bare_helm()
            rounds: dict[str, list[float]] = {}
            steps = [bench.help, bench.bare_helm, bench.create]
            for number in range(ROUNDS):
                first = number % len(steps)
                for step in steps[first:] + steps[:first]:
                    for name, seconds in step().items():
                        rounds.setdefault(name, []).append(seconds)
        finally:
            cluster.stop()
    medians = {name: statistics.median(values) for name, values in rounds.items()}
    for name, values in sorted(rounds.items()):
        print(f"{name:36} min {min(values):.3f}  p50 {medians[name]:.3f}  max {max(values):.3f} s")
    allowed = _allowed(medians[HELP], medians[BARE_HELM])
    print(f"3 x help + 1.2 x bare helm install = {allowed:.3f} s; create takes {medians[CREATE] / allowed:.2f} of it")
    pairs = zip(rounds[CREATE], rounds[HELP], rounds[BARE_HELM], strict=True)
    low, _, high = statistics.quantiles(create / _allowed(own, helm) for create, own, helm in pairs)
    print(f"middle half of the {ROUNDS} rounds: {low:.2f} to {high:.2f}; load of the machine: {os.getloadavg()[0]:.1f}")
    return apibench.main()


if __name__ == "__main__":
    sys.exit(main())
