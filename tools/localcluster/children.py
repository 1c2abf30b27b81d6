"""The child processes of a supervisor: started from its main thread, so that the kernel ends them with it."""

from __future__ import annotations

import asyncio
import os
import shutil
import signal
import subprocess
import time

from tools import processes
from tools.localcluster.models import ClusterError, Component, Layout

_POLL_SECONDS = 0.02
_READY_SECONDS = 90.0
_TAIL_BYTES = 4000
_TERM_SECONDS = 0.0
# Memory is cheaper here than the two cores that everything shares: collecting garbage was a fifth of what these take.
_THRIFTY = {"GOGC": "400"}


class Children:
    """Named processes, at most one per name; nothing is restarted by itself."""

    def __init__(self, layout: Layout) -> None:
        self._layout = layout
        self._components: dict[str, Component] = {}
        self._running: dict[str, _Child] = {}

    def pids(self) -> dict[str, int | None]:
        """Return each known component's pid, None for those that do not run."""
        return {name: self._running[name].pid if self._is_running(name) else None for name in self._components}

    async def start(self, component: Component, *, wait: bool = True) -> None:
        """Start a component and return when it is ready, or at once.

        Raises:
            ClusterError: It runs already, ended, or was not ready in time.
        """
        if self._is_running(component.name):
            raise ClusterError(
                f"{component.name} runs already", f"stop it first, or see {self._layout.log(component.name)}"
            )
        self._components[component.name] = component
        child = _Child(component, self._layout)
        self._running[component.name] = child
        deadline = time.monotonic() + _READY_SECONDS
        while wait and component.ready is not None and not await asyncio.to_thread(component.ready):
            if child.exited.is_set():
                raise ClusterError(f"{component.name} ended during its start ({self._last_words(child)})", "")
            if time.monotonic() > deadline:
                raise ClusterError(
                    f"{component.name} is not ready after {_READY_SECONDS:.0f} s ({self._last_words(child)})", ""
                )
            await asyncio.sleep(_POLL_SECONDS)

    async def start_again(self, name: str, *, empty: bool, wait: bool) -> None:
        """Start a component that was killed, if asked without its data."""
        component = self._known(name)
        if empty and not self._is_running(name) and component.data is not None:
            shutil.rmtree(component.data, ignore_errors=True)
            component.data.mkdir()
        await self.start(component, wait=wait)

    async def signal(self, name: str, signum: int) -> None:
        """Send a signal; after SIGKILL or SIGTERM return when the process is gone. One that is gone already is fine."""
        self._known(name)
        if self._is_running(name):
            child = self._running[name]
            os.kill(child.pid, signum)
            if signum in (signal.SIGKILL, signal.SIGTERM):
                await child.exited.wait()

    def end_all(self) -> None:
        """Kill every child and whatever they left behind."""
        for child in self._running.values():
            child.kill()
        processes.end_descendants(_TERM_SECONDS)
        for child in self._running.values():
            child.wait()
        self._running.clear()

    def reap_orphans(self) -> None:
        """Collect dead grandchildren, which come to this process because it is their subreaper."""
        processes.reap(frozenset(child.pid for child in self._running.values() if not child.exited.is_set()))

    def _is_running(self, name: str) -> bool:
        return name in self._running and not self._running[name].exited.is_set()

    def _known(self, name: str) -> Component:
        if name not in self._components:
            raise ClusterError(f"the cluster has no component {name}", f"it has {', '.join(self._components)}")
        return self._components[name]

    def _last_words(self, child: _Child) -> str:
        """Return the log of this run, shortened: its first complaint about a port, or its last lines."""
        with self._layout.log(child.name).open("rb") as log:
            log.seek(child.log_start)
            text = log.read().decode(errors="replace")
        lines = [line for line in text.splitlines() if line.strip()]
        told = next((line for line in lines if "address already in use" in line.lower()), " | ".join(lines[-3:]))
        return f"{told[:_TAIL_BYTES] or 'it wrote nothing'}; {self._layout.log(child.name).name}"


class _Child:
    """One running process and the event of its end."""

    def __init__(self, component: Component, layout: Layout) -> None:
        self.name = component.name
        self.exited = asyncio.Event()
        log = layout.log(component.name)
        with log.open("ab") as output:
            self.log_start = output.tell()
            self._process = subprocess.Popen(
                component.argv,
                env={**_THRIFTY, **os.environ, **component.env},
                cwd=layout.directory,
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
                preexec_fn=processes.dies_with_parent(),
            )
        self.pid = self._process.pid
        self._descriptor = os.pidfd_open(self.pid)
        self._loop = asyncio.get_running_loop()
        self._loop.add_reader(self._descriptor, self._ended)

    def kill(self) -> None:
        """Send SIGKILL."""
        self._process.kill()

    def wait(self) -> None:
        """Wait for the end."""
        self._ended()

    def _ended(self) -> None:
        if not self.exited.is_set():
            self._loop.remove_reader(self._descriptor)
            os.close(self._descriptor)
            self._process.wait()
            self.exited.set()
