"""The cluster as its users see it: start, attach, addresses, kill and start of parts, stop."""

from __future__ import annotations

import fcntl
import json
import os
import select
import shutil
import signal
import socket
import subprocess
import sys
import time
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self

from tools import processes
from tools.images import ensure_images
from tools.localcluster import machine
from tools.localcluster.edge import DOMAIN
from tools.localcluster.models import STOP_SIGNALS, ClusterError, ClusterSpec, Layout, RedisEndpoint, State
from tools.localcluster.pki import write_kubeconfig, write_private
from tools.localcluster.real import BARE_IMAGES, IMAGES, RealKind
from tools.localcluster.simulated import SimulatedKind
from tools.pins import ROOT
from tools.toolchain import Tools, ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence

_STOP_SECONDS = 60
_LAST_BREATH_SECONDS = 20
_PAUSE_SECONDS = 0.05
_STEP_LOG = "see the log it names, or run it again"


@dataclass(frozen=True)
class LocalCluster:
    """A running cluster.

    Attributes:
        directory: Everything that belongs to it.
        state: What its supervisor wrote down.
    """

    directory: Path
    state: State

    @classmethod
    def start(
        cls, spec: ClusterSpec, directory: Path, owner_pid: int | None, say: Callable[[str], None] | None = None
    ) -> Self:
        """Build the tools that are missing, start a cluster and return when it is ready.

        Args:
            spec: What to start.
            directory: Where; absent, empty, or left over from a cluster that is gone.
            owner_pid: When this process ends, so does the cluster; None: it lives until `stop`.
            say: Takes the progress lines of the builds.

        Raises:
            ClusterError: The directory is in use or a component did not start.
            ToolError: A tool is missing and could not be built.
        """
        tools, images = prepare(spec, say)
        layout = Layout(directory.absolute())
        lock = _claim(layout, keep=spec.keep)
        try:
            layout.create()
            # A cluster that was kept is not running before it says so again.
            layout.state.unlink(missing_ok=True)
            order = {
                "spec": asdict(spec),
                "owner": owner_pid,
                "started": time.monotonic(),
                "images": {name: str(file) for name, file in images.items()},
                "binaries": {name: str(file) for name, file in tools.binaries.items()},
                "data": [[tool, folder, str(path)] for (tool, folder), path in tools.data.items()],
            }
            write_private(layout.directory / "order.json", json.dumps(order).encode())
            answer = _spawn(layout, lock)
        finally:
            os.close(lock)
        if not answer["ok"]:
            raise ClusterError(f"the local cluster did not start: {answer['error']}", _STEP_LOG)
        return cls.attach(directory)

    @classmethod
    def attach(cls, directory: Path) -> Self:
        """Return the cluster that runs in a directory.

        Raises:
            ClusterError: None does.
        """
        layout = Layout(directory.absolute())
        try:
            state = State.from_json(json.loads(layout.state.read_text()))
        except (FileNotFoundError, NotADirectoryError):
            raise ClusterError(f"no local cluster runs in {layout.directory}", "start one with `make up`") from None
        if _is_dead(layout):
            raise ClusterError(f"the local cluster in {layout.directory} has died", "start it again with `make up`")
        return cls(layout.directory, state)

    @property
    def kubeconfig(self) -> Path:
        """Return the kubeconfig of the cluster's administrator."""
        return Layout(self.directory).kubeconfig

    @property
    def server(self) -> str:
        """Return the URL of the API server."""
        return self.state.server

    @property
    def control_plane_seconds(self) -> float:
        """Return how long it took from `start` until API server, controller manager and scheduler were ready."""
        return max(self.state.seconds[name] for name in ("kube-apiserver", "kube-controller-manager", "kube-scheduler"))

    @property
    def certificate_authority(self) -> Path:
        """Return the certificate that signs the API server's."""
        return Layout(self.directory).pki / "ca.crt"

    @property
    def redis(self) -> RedisEndpoint:
        """Return the address and the users of Redis.

        Raises:
            ClusterError: Redis is a pod, which has no address outside.
        """
        if self.state.redis is None:
            raise ClusterError("the Redis of this cluster is a pod", "use redis_cli, or a port-forward")
        return self.state.redis

    @property
    def api_url(self) -> str:
        """Return the URL of the Session API, of the first manager where each has its own.

        Raises:
            ClusterError: The cluster was started without managers.
        """
        if not self.state.api_urls:
            raise ClusterError("this cluster has no session manager", "start one with managers=1")
        return self.state.api_urls[0]

    @property
    def domain(self) -> str:
        """Return the domain of editors and API, with its port: what is below localhost browsers find on this machine.

        Raises:
            ClusterError: The cluster has no edge.
        """
        if self.state.edge_port is None:
            raise ClusterError("this cluster runs no pods, so there is nothing behind an edge", "start a real one")
        return f"{DOMAIN}:{self.state.edge_port}"

    @property
    def public_url(self) -> str:
        """Return the URL of the API as browsers see it; its certificate is self-made.

        Raises:
            ClusterError: The cluster has no edge.
        """
        return f"https://api.{self.domain}"

    def token_for(self, user: str) -> str:
        """Return the bearer token of a user of the token file, such as "admin"."""
        return self.state.tokens[user]

    def kubeconfig_for_token(self, token: str, path: Path, user: str = "token") -> Path:
        """Write a kubeconfig for a bearer token, such as one of `kubectl create token`, and return its path."""
        write_kubeconfig(path, Layout(self.directory), self.server, token, user)
        return path

    def binary(self, name: str) -> Path:
        """Return the file of a tool that the cluster came with."""
        return self.tools().binary(name)

    def environment(self) -> dict[str, str]:
        """Return this process's environment, changed so that kubectl, helm and redis-cli use this cluster."""
        folder = self.directory / "home"
        redis = {"REDISCLI_AUTH": self.state.redis.password} if self.state.redis else {}
        return {
            **os.environ,
            "PATH": self.tools().path(),
            "KUBECONFIG": str(self.kubeconfig),
            "KUBECACHEDIR": str(folder / "kube"),
            "HELM_CACHE_HOME": str(folder / "helm" / "cache"),
            "HELM_CONFIG_HOME": str(folder / "helm" / "config"),
            "HELM_DATA_HOME": str(folder / "helm" / "data"),
            **redis,
        }

    def tool(self, name: str, *argv: str, stdin: str | None = None) -> str:
        """Run a tool on this cluster and return what it printed.

        Raises:
            ClusterError: It failed; the message holds what it wrote to standard error.
        """
        done = subprocess.run(
            [self.binary(name), *argv],
            env=self.environment(),
            input=stdin,
            stdin=subprocess.DEVNULL if stdin is None else None,
            capture_output=True,
            text=True,
            check=False,
        )
        if done.returncode != 0:
            raise ClusterError(f"{name} failed: {done.stderr.strip() or done.stdout.strip()}", "")
        return done.stdout

    def kubectl(self, *argv: str, stdin: str | None = None) -> str:
        """Run kubectl as administrator."""
        return self.tool("kubectl", *argv, stdin=stdin)

    def redis_cli(self, *argv: str) -> str:
        """Run redis-cli as the default user, and return its answer without the line end."""
        if self.state.redis is None:
            return self.kubectl("-n", "sessionctl", "exec", "sessionctl-redis-0", "--", "redis-cli", *argv).rstrip("\n")
        address = ("-h", self.redis.host, "-p", str(self.redis.port))
        return self.tool("redis-cli", *address, *argv).removesuffix("\n")

    def install_platform(self, values: Mapping[str, Any] | None = None) -> None:
        """Install or upgrade charts/platform, with the engines that run as processes here switched off."""
        # Only the tests of charts need it, and it reads the repository.
        from tools.localcluster.platform import install_platform  # noqa: PLC0415

        install_platform(self, values or {})

    def pids(self) -> dict[str, int | None]:
        """Return the pid of each component, None for one that does not run."""
        pids: dict[str, int | None] = self._command("status")
        return pids

    def pid(self, name: str) -> int | None:
        """Return the pid of a component, None when it does not run."""
        return self.pids().get(name)

    def log(self, name: str) -> Path:
        """Return the log file of a component."""
        return Layout(self.directory).log(name)

    def kill(self, name: str) -> None:
        """Kill a component with SIGKILL and return when it is gone; nothing starts it again by itself."""
        self.signal(name, signal.SIGKILL)

    def signal(self, name: str, signum: int) -> None:
        """Send a signal to a component, such as SIGSTOP; after SIGTERM and SIGKILL return when it is gone."""
        self._command("signal", name=name, signal=int(signum))

    def start_component(self, name: str, *, empty: bool = False, wait: bool = True) -> None:
        """Start a component that was killed, and return when it is ready.

        Args:
            name: Its name.
            empty: Without the data that it had, as after the loss of its disk.
            wait: False returns at once: what it needs may be down.
        """
        self._command("start", name=name, empty=empty, wait=wait)

    def run(
        self, name: str, argv: Sequence[str | Path], env: Mapping[str, str] | None = None, ready: str | None = None
    ) -> None:
        """Start one more process that lives and dies with the cluster, in `environment()` and the given variables.

        Args:
            name: What it is called from now on.
            argv: Its command line.
            env: Variables that it gets besides.
            ready: URL that answers with success when it is ready; None: as soon as it runs.
        """
        environment = {**self.environment(), **(env or {})}
        self._command("run", name=name, argv=[str(part) for part in argv], env=environment, ready=ready)

    def import_image(self, archive: Path) -> None:
        """Put an image archive into the node; pods that start from now on run it."""
        self._command("import", archive=str(archive))

    def disown(self) -> None:
        """Let the cluster outlive its owner."""
        self._command("disown")

    def stop(self) -> None:
        """End every process of the cluster and remove its directory."""
        try:
            supervisor = os.pidfd_open(self.state.supervisor)
        except ProcessLookupError:
            supervisor = None
        if supervisor is not None:
            try:
                if processes.start_ticks(self.state.supervisor) == self.state.supervisor_ticks:
                    os.kill(self.state.supervisor, signal.SIGTERM)
                    # A stopped or stuck supervisor takes its children with it when it is killed.
                    if not select.select([supervisor], [], [], _STOP_SECONDS)[0]:
                        os.kill(self.state.supervisor, signal.SIGKILL)
                        select.select([supervisor], [], [])
            finally:
                os.close(supervisor)
            processes.reap_child(self.state.supervisor)
        shutil.rmtree(self.directory, ignore_errors=True)

    def tools(self) -> Tools:
        """Return the tools that the cluster came with."""
        return Tools({name: Path(file) for name, file in self.state.binaries.items()}, {})

    def _command(self, do: str, **details: object) -> Any:  # noqa: ANN401 - each command has its own answer
        folder = os.open(self.directory, os.O_PATH | os.O_DIRECTORY)
        try:
            with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as connection:
                connection.connect(f"/proc/self/fd/{folder}/control")
                connection.sendall(json.dumps({"do": do, **details}).encode() + b"\n")
                with connection.makefile("rb") as lines:
                    answer = json.loads(lines.readline() or b'{"ok": false, "error": "it ended"}')
        except OSError as error:
            raise ClusterError(
                f"the local cluster in {self.directory} does not answer ({error})", "start it with `make up`"
            ) from error
        finally:
            os.close(folder)
        if not answer["ok"]:
            raise ClusterError(f"local cluster: {answer['error']}", _STEP_LOG)
        return answer.get("result")


def prepare(spec: ClusterSpec, say: Callable[[str], None] | None = None) -> tuple[Tools, dict[str, Path]]:
    """Build what a cluster of this kind needs and the cache lacks; return its tools and its images.

    Raises:
        ToolError: Something is missing and could not be built.
    """
    if spec.kind == "simulated":
        return ensure(SimulatedKind.tool_names, say), {}
    machine.prepare(say)
    tools = ensure(RealKind.tool_names, say)
    return tools, ensure_images(BARE_IMAGES if spec.bare else IMAGES, tools, say)


def _claim(layout: Layout, *, keep: bool) -> int:
    """Return the locked descriptor of an empty directory; the lock belongs to the cluster as long as it lives."""
    directory = layout.directory
    deadline = time.monotonic() + _LAST_BREATH_SECONDS
    while True:
        try:
            directory.mkdir(mode=0o700, parents=True, exist_ok=True)
            lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        except FileNotFoundError:
            continue
        except OSError as error:
            raise ClusterError(
                f"cannot use {directory} for a local cluster: {error.strerror}", "set CLUSTER_DIR"
            ) from error
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            # The kernel ends the processes of one that was killed, but not all of them at the same moment.
            if _is_dead(layout) and time.monotonic() < deadline:
                time.sleep(_PAUSE_SECONDS)
                continue
            raise ClusterError(f"a local cluster runs in {directory}", "use it, or end it with `make down`") from None
        # The cluster that ended just now may have removed the directory that was opened.
        if directory.is_dir() and directory.stat().st_ino == os.fstat(lock).st_ino:
            break
        os.close(lock)
    left = list(directory.iterdir())
    if left and not layout.marker.exists():
        os.close(lock)
        raise ClusterError(f"{directory} holds other files", "give a directory of its own, with CLUSTER_DIR")
    for entry in [] if keep else left:
        shutil.rmtree(entry) if entry.is_dir() and not entry.is_symlink() else entry.unlink()
    return lock


def _is_dead(layout: Layout) -> bool:
    """Whether the keeper of the cluster that wrote its state there has died."""
    try:
        state = State.from_json(json.loads(layout.state.read_text()))
    except (OSError, ValueError):
        return False
    return processes.start_ticks(state.supervisor) != state.supervisor_ticks


def _spawn(layout: Layout, lock: int) -> dict[str, Any]:
    """Start the supervisor, in a session of its own, and return what it says when the cluster is ready."""
    reading, writing = os.pipe()
    for descriptor in (writing, lock):
        os.set_inheritable(descriptor, True)  # noqa: FBT003 - positional in the standard library
    log = str(layout.log("supervisor"))
    # Not subprocess: the supervisor may outlive this process, and an unwaited Popen is a warning.
    pid = os.posix_spawn(
        sys.executable,
        [sys.executable, "-m", "tools.localcluster.supervisor", str(layout.directory), str(writing)],
        {**os.environ, "PYTHONPATH": str(ROOT)},
        file_actions=[
            (os.POSIX_SPAWN_OPEN, 0, os.devnull, os.O_RDONLY, 0),
            (os.POSIX_SPAWN_OPEN, 1, log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600),
            (os.POSIX_SPAWN_DUP2, 1, 2),
        ],
        setsid=True,
        # Until it can react: a signal that killed it at once would leave the directory behind.
        setsigmask=STOP_SIGNALS,
    )
    os.close(writing)
    try:
        with os.fdopen(reading, "rb") as answers:
            line = answers.readline()
    except BaseException:
        os.kill(pid, signal.SIGTERM)
        processes.reap_child(pid, wait=True)
        raise
    if line:
        answer: dict[str, Any] = json.loads(line)
        if answer["ok"]:
            return answer
    else:
        answer = {"ok": False, "error": "its supervisor ended without a word"}
    processes.reap_child(pid, wait=True)
    return answer
