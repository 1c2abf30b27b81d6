"""`sessionctl serve` as a process of its own."""

from __future__ import annotations

import json
import signal
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

import httpx

from sessionctl.core.keys import render_entry
from tests.support.sessionctl_cli import start_manager
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from sessionctl.models import ApiKey
    from tests.support.sessionctl_cli import Cli
    from tests.support.spawn import Forked


@dataclass
class Manager:
    """A running manager."""

    process: Forked
    log: Path
    keys: Path
    url: str = ""

    def lines(self) -> list[dict[str, Any]]:
        """Return what it logged."""
        # Before it has read its settings it speaks plainly.
        lines = [line for line in self.log.read_text().splitlines() if not line.startswith("not started yet: ")]
        return [json.loads(line) for line in lines]

    def says(self, message: str) -> list[dict[str, Any]]:
        """Return the lines with this message."""
        return [line for line in self.lines() if line["message"].startswith(message)]

    def is_ready(self) -> bool:
        """Whether requests should be sent to it."""
        assert self.process.poll() is None, self.log.read_text()
        try:
            return httpx.get(f"{self.url}/readyz").status_code == 200
        except httpx.TransportError:
            return False

    def wait_ready(self) -> None:
        """Return when requests may be sent to it."""
        (started,) = wait_for(self._port, "the manager listens")
        self.url = f"http://127.0.0.1:{started['message'].split()[-1]}"
        wait_for(self.is_ready, "the manager is ready")

    def _port(self) -> list[dict[str, Any]]:
        assert self.process.poll() is None, self.log.read_text()
        return self.says("listening on port")

    def tell(self, signum: signal.Signals) -> None:
        """Send a signal."""
        self.process.send_signal(signum)

    def wait(self) -> int:
        """Return its exit code."""
        return self.process.wait(timeout=60)


def write_keys(directory: Path, keys: Mapping[str, ApiKey]) -> None:
    """Lay keys out as kubelet mounts a Secret: a symbolic link is swapped."""
    version = directory / f"..{len(list(directory.iterdir()))}"
    version.mkdir()
    for name, key in keys.items():
        (version / name).write_text(render_entry(key))
    swap(directory, version)


def swap(directory: Path, version: Path) -> None:
    """Make the directory show another version of the Secret."""
    fresh = directory / "..fresh"
    fresh.symlink_to(version.name)
    fresh.rename(directory / "..data")
    wanted = {file.name for file in version.iterdir()}
    for shown in directory.iterdir():
        if not shown.name.startswith("..") and shown.name not in wanted:
            shown.unlink()
    for name in wanted:
        if not (directory / name).is_symlink():
            (directory / name).symlink_to(f"..data/{name}")


@contextmanager
def serving(cli: Cli, folder: Path, keys: Mapping[str, ApiKey], *argv: str, **environment: str) -> Iterator[Manager]:
    """Run a manager that is ready; killed at the end if it still runs."""
    with starting(cli, folder, keys, *argv, **environment) as manager:
        manager.wait_ready()
        yield manager


@contextmanager
def starting(cli: Cli, folder: Path, keys: Mapping[str, ApiKey], *argv: str, **environment: str) -> Iterator[Manager]:
    """Run a manager, however far it comes; killed at the end if it still runs."""
    directory, log = folder / "keys", folder / "log"
    directory.mkdir()
    write_keys(directory, keys)
    command = ["serve", "--host", "127.0.0.1", "--port", "0", "--api-keys", str(directory), *argv]
    with log.open("wb") as output:
        process = start_manager(command, {**cli.environment, **environment}, output)
    manager = Manager(process, log, directory)
    try:
        yield manager
    finally:
        process.kill()
        process.wait()
