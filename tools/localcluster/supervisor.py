"""The process that owns a cluster: `python -m tools.localcluster.supervisor DIRECTORY ANSWER_FD`.

Every other process of the cluster is its child and is killed by the kernel when it ends. It ends, and removes the
directory, on SIGTERM, on the command `stop`, and when the owner that it was given dies, however that happens.
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
from pathlib import Path
from typing import TYPE_CHECKING, Any

from tools import processes
from tools.localcluster.children import Children
from tools.localcluster.control_plane import ControlPlane
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
from tools.localcluster.ports import HOST, Ports
from tools.localcluster.simulated import SimulatedKind
from tools.toolchain import Tools

if TYPE_CHECKING:
    from collections.abc import Mapping

_ATTEMPTS = 3
_PORT_TAKEN = "address already in use"


class Supervisor:
    """Starts a cluster, serves commands on a socket in its directory, and takes everything down again."""

    def __init__(self, layout: Layout, order: Mapping[str, Any]) -> None:
        self._layout = layout
        self._spec = ClusterSpec(**order["spec"])
        data = {(tool, folder): Path(path) for tool, folder, path in order["data"]}
        self._tools = Tools({name: Path(file) for name, file in order["binaries"].items()}, data)
        self._children = Children(layout)
        self._started: float = order["started"]
        self._seconds: dict[str, float] = {}
        self._over = asyncio.Event()
        self._owner: int | None = None

    async def run(self, owner: int | None, answer: int) -> None:
        """Live from start to teardown; write one JSON line to the descriptor when the start succeeded or failed."""
        loop = asyncio.get_running_loop()
        for signum in STOP_SIGNALS:
            loop.add_signal_handler(signum, self._over.set)
        signal.pthread_sigmask(signal.SIG_UNBLOCK, STOP_SIGNALS)
        loop.add_signal_handler(signal.SIGCHLD, self._children.reap_orphans)
        self._watch_owner(owner)
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
            shutil.rmtree(self._layout.directory, ignore_errors=True)

    def _watch_owner(self, owner: int | None) -> None:
        if owner is None:
            return
        try:
            self._owner = os.pidfd_open(owner)
        except ProcessLookupError:
            self._over.set()
            return
        asyncio.get_running_loop().add_reader(self._owner, self._over.set)

    def _disown(self) -> None:
        if self._owner is not None:
            asyncio.get_running_loop().remove_reader(self._owner)
            os.close(self._owner)
            self._owner = None

    async def _start(self, ports: Ports) -> None:
        secrets = Secrets.generate(tuple(USERS))
        for attempt in range(1, _ATTEMPTS + 1):
            redis = RedisEndpoint(
                HOST, ports["redis"], "default", secrets.redis_password, "keda", secrets.keda_password
            )
            plane = ControlPlane(self._layout, self._tools, ports, secrets)
            try:
                await self._carry_out(list(SimulatedKind(self._spec, plane, redis).plan()))
            except ExceptionGroup as group:
                port_error = next((error for error in group.exceptions if _PORT_TAKEN in str(error).lower()), None)
                if port_error is None or attempt == _ATTEMPTS:
                    raise (port_error or group.exceptions[0]) from None
            else:
                self._write_state(plane, redis)
                return
            # Somebody bound one of the ports in spite of the reservation.
            self._children.end_all()
            ports.release()
            shutil.rmtree(self._layout.directory / "data")
            self._layout.create()

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

    def _write_state(self, plane: ControlPlane, redis: RedisEndpoint) -> None:
        pid = os.getpid()
        state = State(
            kind=self._spec.kind,
            supervisor=pid,
            supervisor_ticks=processes.start_ticks(pid) or 0,
            server=plane.server,
            redis=redis,
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
                await self._children.start_again(name, empty=command["empty"])
            case "run":
                await self._children.start(Component(name, tuple(command["argv"]), env=command["env"]))
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


def main() -> None:
    """Run the supervisor of the directory on the command line."""
    processes.become_subreaper()
    layout, answer = Layout(Path(sys.argv[1])), int(sys.argv[2])
    # Outside the directory that it removes in the end.
    os.chdir("/")
    order = json.loads((layout.directory / "order.json").read_text())
    asyncio.run(Supervisor(layout, order).run(order["owner"], answer))


if __name__ == "__main__":
    main()
