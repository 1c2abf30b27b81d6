"""The router on this machine: a real nginx with what charts/platform renders, its addresses aside.

Nothing of it is written by hand here: what tests and benchmarks run is what a cluster gets.
"""

from __future__ import annotations

import json
import os
import re
import signal
import subprocess
import time
from contextlib import closing, suppress
from http import HTTPStatus
from http.client import HTTPConnection
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, Self

import yaml

from tools.errors import ToolError
from tools.localcluster.platform import CHART, write_placeholder_charts
from tools.localcluster.ports import HOST, Ports
from tools.processes import descendants
from tools.toolchain import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_CONFIG: Final = "/etc/sessionctl/router/"
_END_SECONDS: Final = 10
_POLL_SECONDS: Final = 0.02


def render_router(values: Mapping[str, Any]) -> dict[str, str]:
    """Return the files of the ConfigMap that the chart renders with these values.

    Raises:
        ToolError: Helm refused them.
    """
    write_placeholder_charts()
    argv = [str(ensure(["helm"]).binary("helm")), "template", "sessionctl", str(CHART), "--namespace", "sessionctl"]
    done = subprocess.run(
        [*argv, "--show-only", "templates/router/configmap.yaml", "--values", "-"],
        input=json.dumps(values),
        env={"HOME": "/nonexistent", "KUBECONFIG": "/dev/null"},
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        raise ToolError(f"helm template fails: {done.stderr.strip()}", "mend the values or the chart")
    return dict(yaml.safe_load(done.stdout)["data"])


class LocalRouter:
    """One nginx; a context manager that ends it.

    ``edit`` may change its configuration: to see what a guard is for, or what it costs.

    Attributes:
        port: Where it serves editors, whatever host a request names.
        log: Its access log, one JSON object a line.
        errors: Its error log.
    """

    def __init__(
        self,
        folder: Path,
        *,
        values: Mapping[str, Any],
        managers: Sequence[int],
        dns: int,
        pod_port: int,
        edit: Callable[[str], str] = str,
    ) -> None:
        self._folder = folder
        self._process: subprocess.Popen[bytes] | None = None
        router = {"resolver": f"{HOST}:{dns}", **values.get("router", {})}
        files = render_router({**values, "router": router})
        self._ports = Ports()
        self.port = self._ports["http"]
        self.health_port = self._ports["health"]
        self.log = folder / "access.log"
        self.errors = folder / "error.log"
        self.configuration = edit(self._adapt(files.pop("nginx.conf"), list(managers), pod_port))
        (folder / "tmp").mkdir()
        for name, text in files.items():
            (folder / name).write_text(text)
        self._file = folder / "nginx.conf"
        self._file.write_text(self.configuration)

    def _adapt(self, text: str, managers: list[int], pod_port: int) -> str:
        targets = [f"server {HOST}:{port} " for port in managers]
        changes: list[tuple[str, str]] = [
            # First: the folder itself may be below it.
            (r"/tmp/", f"{self._folder}/tmp/"),
            (r"listen 8080\b", f"listen {HOST}:{self.port}"),
            (r"listen 8081\b", f"listen {HOST}:{self.health_port}"),
            (r"(proxy_pass http://user-\$uuid\.\S+):8080;", rf"\1:{pod_port};"),
            (re.escape(_CONFIG), f"{self._folder}/"),
            (r"error_log stderr", f"error_log {self.errors}"),
        ]
        if "/dev/stdout" in text:
            changes.append(("/dev/stdout", str(self.log)))
        for pattern, replacement in changes:
            text, count = re.subn(pattern, replacement, text)
            if not count:
                raise ToolError(f"the router's configuration has no {pattern}", "change tools/localrouter.py with it")
        used = iter(targets * 2)
        return re.sub(r"server sessionctl-manager\.\S+ ", lambda _: next(used), text)

    def __enter__(self) -> Self:
        try:
            self.start()
        except ToolError:
            self._ports.release()
            raise
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
        self._ports.release()

    def start(self) -> None:
        """Start it; it answers when this returns.

        Raises:
            ToolError: nginx refused its configuration.
        """
        binary = str(ensure(["nginx"]).binary("nginx"))
        # Its workers would be nobody, who cannot read a test's folder.
        user = ["-g", "user root;"] if os.geteuid() == 0 else []
        argv = [binary, "-e", str(self.errors), "-p", str(self._folder), "-c", str(self._file), *user]
        tried = subprocess.run([*argv, "-t"], capture_output=True, text=True, check=False)
        if tried.returncode:
            raise ToolError(f"nginx refuses its configuration: {tried.stderr.strip()}", "mend the chart")
        self.warnings = [line for line in tried.stderr.splitlines() if "[warn]" in line or "[alert]" in line]
        self._process = subprocess.Popen(argv, stdin=subprocess.DEVNULL)
        self._wait_for_workers()

    def _wait_for_workers(self) -> None:
        while True:
            if self._process is not None and self._process.poll() is not None:
                raise ToolError(f"nginx ended: {self.errors.read_text()[-800:]}", "mend the chart")
            connection = HTTPConnection(HOST, self.health_port, timeout=30)
            with suppress(ConnectionRefusedError), closing(connection):
                connection.request("GET", "/healthz")
                if connection.getresponse().status == HTTPStatus.OK:
                    return
            time.sleep(_POLL_SECONDS)

    def stop(self) -> None:
        """End it as fast as it can."""
        if self._process is not None:
            self._process.send_signal(signal.SIGTERM)
            try:
                self._process.wait(_END_SECONDS)
            except subprocess.TimeoutExpired:
                self._process.kill()
                self._process.wait()
            self._process = None

    def signal(self, signum: signal.Signals) -> None:
        """Send a signal to the master."""
        if self._process is not None:
            self._process.send_signal(signum)

    def log_lines(self) -> list[dict[str, Any]]:
        """Return what it logged of requests."""
        return [json.loads(line) for line in self.log.read_text().splitlines()]

    def cache_files(self) -> list[Path]:
        """List what it keeps of managers' answers."""
        return [file for file in (self._folder / "tmp" / "cache").rglob("*") if file.is_file()]

    def workers(self) -> list[int]:
        """List the processes that serve."""
        found = descendants(self._process.pid) if self._process is not None else []
        return sorted(pid for pid in found if _is_worker(pid))

    def resident_kib(self) -> int:
        """Return the memory of the worker that has most."""
        sizes = [re.search(r"VmRSS:\s+(\d+)", Path("/proc", str(pid), "status").read_text()) for pid in self.workers()]
        return max(int(found[1]) for found in sizes if found)

    def cpu_seconds(self) -> float:
        """Return what its workers have used of processors."""
        ticks = 0
        for pid in self.workers():
            fields = Path("/proc", str(pid), "stat").read_text().rpartition(")")[2].split()
            ticks += int(fields[11]) + int(fields[12])
        return ticks / os.sysconf("SC_CLK_TCK")


def _is_worker(pid: int) -> bool:
    try:
        return b"worker process" in Path("/proc", str(pid), "cmdline").read_bytes()
    except OSError:
        # It has just ended.
        return False
