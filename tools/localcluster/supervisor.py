"""The process that owns a cluster: `python -m tools.localcluster.supervisor DIRECTORY ANSWER_FD`.

Every other process of the cluster is its child and is killed by the kernel when it ends. It ends, and removes the
directory, on SIGTERM, on the command `stop`, and when the owner that it was given dies, however that happens.
For real pods it is the first process of the cluster's namespaces, and a keeper outside answers to its pid.
"""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import sys
import time
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import processes
from tools.localcluster import machine, sandbox
from tools.localcluster.children import Children
from tools.localcluster.control_plane import ControlPlane
from tools.localcluster.edge import EDGE_SERVICE
from tools.localcluster.engines import answers
from tools.localcluster.managers import MANAGER_SERVICE, manager_name
from tools.localcluster.models import (
    STOP_SIGNALS,
    ClusterError,
    ClusterSpec,
    Component,
    Layout,
    RedisEndpoint,
    Secrets,
    State,
    Step,
)
from tools.localcluster.pki import USERS, write_private
from tools.localcluster.ports import HOST, Ports, listen
from tools.localcluster.real import RealKind, import_image
from tools.localcluster.relay import Relay
from tools.localcluster.simulated import SimulatedKind
from tools.toolchain import Tools

if TYPE_CHECKING:
    import socket
    from collections.abc import Callable, Mapping

_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"


@dataclass(frozen=True)
class Outside:
    """What a supervisor has of the world, gathered before it may be in namespaces of its own.

    Attributes:
        pid: What it is known by, with its start.
        owner: Descriptor of the process whose end is the cluster's; None: there is none.
        listeners: Where callers reach API server, Session API and edge of a cluster with a network of its own.
        keeper: Reads end-of-file when the process that keeps the namespaces is gone.
    """

    pid: int
    ticks: int
    owner: int | None
    listeners: tuple[socket.socket, ...] = ()
    keeper: int | None = None


class Supervisor:
    """Starts a cluster, serves commands on a socket in its directory, and takes everything down again."""

    def __init__(self, layout: Layout, order: Mapping[str, Any], outside: Outside) -> None:
        self._layout = layout
        self._outside = outside
        self._spec = ClusterSpec(**order["spec"])
        self._images = {name: Path(file) for name, file in order["images"].items()}
        data = {(tool, folder): Path(path) for tool, folder, path in order["data"]}
        self._tools = Tools({name: Path(file) for name, file in order["binaries"].items()}, data)
        self._children = Children(layout)
        self._started: float = order["started"]
        self._seconds: dict[str, float] = {}
        self._over = asyncio.Event()
        self._owner = outside.owner

    async def run(self, answer: int) -> None:
        """Live from start to teardown; write one JSON line to the descriptor when the start succeeded or failed."""
        loop = asyncio.get_running_loop()
        for signum in STOP_SIGNALS:
            loop.add_signal_handler(signum, self._over.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        loop.add_signal_handler(signal.SIGCHLD, self._children.reap_orphans)
        for descriptor in (self._owner, self._outside.keeper):
            if descriptor is not None:
                loop.add_reader(descriptor, self._over.set)
        over = asyncio.create_task(self._over.wait())
        try:
            with Ports() as ports:
                starting = asyncio.create_task(self._start(ports))
                await asyncio.wait({starting, over}, return_when=asyncio.FIRST_COMPLETED)
                if not starting.done():
                    starting.cancel()
                elif error := starting.exception():
                    _answer(answer, {"ok": False, "error": str(error) or repr(error)})
                else:
                    async with await self._listen():
                        _answer(answer, {"ok": True})
                        await over
        finally:
            self._children.end_all()

    def _disown(self) -> None:
        if self._owner is not None:
            asyncio.get_running_loop().remove_reader(self._owner)
            os.close(self._owner)
            self._owner = None

    async def _start(self, ports: Ports) -> None:
        secrets = find_secrets(self._layout)
        if self._outside.listeners:
            api_server, session_api, edge = self._outside.listeners
            # The same port inside and outside, so that one kubeconfig serves both.
            port = api_server.getsockname()[1]
            ports.fix("kube-apiserver", port)
            await Relay(HOST, port).serve(api_server)
            await Relay(*MANAGER_SERVICE).serve(session_api)
            await Relay(*EDGE_SERVICE).serve(edge)
        for attempt in range(1, _ATTEMPTS + 1):
            plane = ControlPlane(self._layout, self._tools, ports, secrets, has_node=self._spec.kind == "real")
            redis, plan = self._plan(plane)
            try:
                await self._carry_out(plan)
            except ExceptionGroup as group:
                port_error = next((error for error in group.exceptions if _PORT_TAKEN in str(error).lower()), None)
                if port_error is None or attempt == _ATTEMPTS:
                    raise (port_error or group.exceptions[0]) from None
            else:
                self._write_state(plane, redis, self._api_urls(ports))
                return
            # Somebody bound one of the ports in spite of the reservation.
            self._children.end_all()
            ports.release()
            shutil.rmtree(self._layout.directory / "data")
            self._layout.create()

    def _plan(self, plane: ControlPlane) -> tuple[RedisEndpoint | None, list[Component | Step]]:
        if self._spec.kind == "real":
            return None, list(RealKind(plane, self._images).plan())
        secrets, port = plane.secrets, plane.ports["redis"]
        redis = RedisEndpoint(HOST, port, "default", secrets.redis_password, "keda", secrets.keda_password)
        return redis, list(SimulatedKind(self._spec, plane, redis).plan())

    async def _carry_out(self, plan: list[Component | Step]) -> None:
        """Start and do everything, each as soon as what it needs is ready."""
        done = {item.name: asyncio.Event() for item in plan}

        async def carry_out(item: Component | Step) -> None:
            for name in item.after:
                await done[name].wait()
            if isinstance(item, Component):
                await self._children.start(item)
            else:
                try:
                    await asyncio.to_thread(item.run)
                except Exception as error:
                    raise ClusterError(f"step {item.name} of the cluster's start failed: {error}", "") from error
            self._seconds[item.name] = round(time.monotonic() - self._started, 2)
            done[item.name].set()

        async with asyncio.TaskGroup() as group:
            for item in plan:
                group.create_task(carry_out(item))

    def _api_urls(self, ports: Ports) -> tuple[str, ...]:
        if self._outside.listeners:
            found = [self._outside.listeners[1].getsockname()[1]]
        else:
            found = [ports[manager_name(number)] for number in range(self._spec.managers)]
        return tuple(f"http://{HOST}:{port}" for port in found)

    def _write_state(self, plane: ControlPlane, redis: RedisEndpoint | None, api_urls: tuple[str, ...]) -> None:
        state = State(
            kind=self._spec.kind,
            supervisor=self._outside.pid,
            supervisor_ticks=self._outside.ticks,
            server=plane.server,
            redis=redis,
            managers=self._spec.managers,
            api_urls=api_urls,
            edge_port=self._outside.listeners[2].getsockname()[1] if self._outside.listeners else None,
            tokens=plane.secrets.tokens,
            binaries={name: str(file) for name, file in self._tools.binaries.items()},
            seconds=self._seconds,
        )
        write_private(self._layout.state, json.dumps(state.to_json(), indent=1).encode())

    async def _listen(self) -> asyncio.Server:
        # Through the descriptor, because a socket's path may have 108 bytes and a test's directory has more.
        folder = os.open(self._layout.directory, os.O_PATH | os.O_DIRECTORY)
        return await asyncio.start_unix_server(self._serve, f"/proc/self/fd/{folder}/control")

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        answer: dict[str, Any] = {"ok": True}
        try:
            answer["result"] = await self._obey(json.loads(await reader.readline()))
        except ClusterError as error:
            answer = {"ok": False, "error": str(error)}
        except Exception as error:  # noqa: BLE001 - a bad command must not end the cluster
            answer = {"ok": False, "error": repr(error)}
        with contextlib.suppress(ConnectionError):
            writer.write(json.dumps(answer).encode() + b"\n")
            await writer.drain()
            writer.close()

    async def _obey(self, command: Mapping[str, Any]) -> object:
        name = command.get("name", "")
        match command["do"]:
            case "status":
                return self._children.pids()
            case "signal":
                await self._children.signal(name, command["signal"])
            case "start":
                await self._children.start_again(name, empty=command["empty"], wait=command["wait"])
            case "run":
                url = command["ready"]
                ready = (lambda: answers(url)) if url else None
                await self._children.start(Component(name, tuple(command["argv"]), env=command["env"], ready=ready))
            case "import" if self._spec.kind == "real":
                await asyncio.to_thread(import_image, self._tools, Path(command["archive"]))
            case "disown":
                self._disown()
            case "stop":
                self._over.set()
            case unknown:
                raise ClusterError(
                    f"unknown command {unknown}", "the checkout changed since this cluster started; `make down`"
                )
        return None


def _answer(descriptor: int, answer: Mapping[str, Any]) -> None:
    # Whoever asked may be gone.
    with contextlib.suppress(OSError):
        os.write(descriptor, json.dumps(answer).encode() + b"\n")
        os.close(descriptor)


def find_secrets(layout: Layout) -> Secrets:
    """Return the secrets of a cluster that was kept, or new ones, which are kept from now on."""
    try:
        return Secrets(**json.loads(layout.secrets.read_text()))
    except FileNotFoundError:
        secrets = Secrets.generate(tuple(USERS))
        write_private(layout.secrets, json.dumps(asdict(secrets)).encode())
        return secrets


def _run_inside(
    layout: Layout, order: Mapping[str, Any], outside: Outside, answer: int, tidy: Callable[[], None]
) -> int:
    """Run a supervisor as the first process of namespaces of its own."""
    try:
        machine.check()
        # Open until both processes are gone, and the lock with it.
        machine.claim()
    except ClusterError as error:
        _answer(answer, {"ok": False, "error": str(error)})
        shutil.rmtree(layout.directory, ignore_errors=True)
        return 1

    def work(inside: sandbox.Inside) -> None:
        known = replace(outside, listeners=inside.listeners, keeper=inside.keeper)
        asyncio.run(Supervisor(layout, order, known).run(answer))

    return sandbox.enter(layout, (listen(), listen(), listen()), work, tidy)


def main() -> int:
    """Run the supervisor of the directory on the command line."""
    processes.become_subreaper()
    layout, answer = Layout(Path(sys.argv[1])), int(sys.argv[2])
    # Outside the directory that it removes in the end.
    os.chdir("/")
    order = json.loads((layout.directory / "order.json").read_text())
    spec = ClusterSpec(**order["spec"])

    def tidy() -> None:
        if not spec.keep:
            shutil.rmtree(layout.directory, ignore_errors=True)
        if spec.kind == "real":
            machine.release()

    try:
        owner = None if order["owner"] is None else os.pidfd_open(order["owner"])
    except ProcessLookupError:
        tidy()
        return 1
    outside = Outside(os.getpid(), processes.start_ticks(os.getpid()) or 0, owner)
    if spec.kind == "real":
        return _run_inside(layout, order, outside, answer, tidy)
    try:
        asyncio.run(Supervisor(layout, order, outside).run(answer))
    finally:
        tidy()
    return 0


if __name__ == "__main__":
    sys.exit(main())
