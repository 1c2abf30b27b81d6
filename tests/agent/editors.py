"""The editor's container as a process of its own on loopback, with a stand-in for code-server."""

from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path

from tests.agent import stub_code_server
from tests.support.waiting import wait_for


def free_port() -> int:
    """Return a port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as taken:
        return int(taken.getsockname()[1])


@dataclass
class EditorProcess:
    """One started editor."""

    process: subprocess.Popen[bytes]
    port: int
    control_port: int
    stage: Path
    log: Path
    opened: list[socket.socket] = field(default_factory=list)

    def connect(self) -> socket.socket:
        """Connect and have something said back, so that the connection is carried; raises OSError."""
        connection = socket.create_connection(("127.0.0.1", self.port), timeout=60)
        self.opened.append(connection)
        connection.sendall(b"hello")
        assert connection.recv(5) == b"hello"
        return connection

    def listens(self) -> bool:
        with suppress(OSError), socket.create_connection(("127.0.0.1", self.port), timeout=60):
            return True
        return False

    def ready(self) -> EditorProcess:
        (self.stage / "go").touch()
        wait_for(self.listens, "the editor listens")
        return self

    def control(self, request: str) -> str:
        """Send a request to the control port and return the first line of the answer."""
        with socket.create_connection(("127.0.0.1", self.control_port), timeout=60) as connection:
            connection.sendall(f"{request} HTTP/1.1\r\nHost: x\r\nContent-Length: 0\r\n\r\n".encode())
            return connection.recv(4096).split(b"\r\n")[0].decode()

    def terminate(self) -> int:
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)

    def child(self) -> int:
        """Return the process that the stand-in has started."""
        return int(wait_for(lambda: (self.stage / "child").exists() and (self.stage / "child").read_text(), "a child"))

    def close(self) -> None:
        for connection in self.opened:
            connection.close()
        if self.process.poll() is None:
            self.terminate()


class Editors:
    """Starts editors on one workspace."""

    def __init__(self, folder: Path) -> None:
        self.stage = folder / "stage"
        self.workspace = folder / "workspace"
        self.home = folder / "home"
        self.temporary = folder / "tmp"
        for each in (self.stage, self.workspace, self.home / "bin", self.temporary):
            each.mkdir(parents=True)
        node = self.home / "bin" / "node"
        node.write_text(f'#!/bin/sh\nexec "{sys.executable}" "{stub_code_server.__file__}" "{self.stage}" "$@"\n')
        node.chmod(0o755)
        self._started: list[EditorProcess] = []

    def environment(self, **changes: str) -> dict[str, str]:
        return {
            **os.environ,
            "WORKSPACE": str(self.workspace),
            "TMPDIR": str(self.temporary),
            "SESSIONCTL_EDITOR_HOME": str(self.home),
            "SESSIONCTL_EDITOR_HOST": "127.0.0.1",
            **changes,
        }

    def start(self, *flags: str, **changes: str) -> EditorProcess:
        """Start one, whose code-server is staged by flags."""
        for flag in flags:
            (self.stage / flag).touch()
        log, port, control_port = self.stage / "log", free_port(), free_port()
        settings = {"SESSIONCTL_EDITOR_PORT": str(port), "SESSIONCTL_EDITOR_CONTROL_PORT": str(control_port)}
        with log.open("ab") as output:
            process = subprocess.Popen(
                [sys.executable, "-m", "sessionctl.agent.editor"],
                env=self.environment(**settings, **changes),
                stdin=subprocess.DEVNULL,
                stdout=output,
                stderr=output,
            )
        started = EditorProcess(process, port, control_port, self.stage, log)
        self._started.append(started)
        return started

    def close(self) -> None:
        for each in self._started:
            each.close()


@contextmanager
def editors_in(folder: Path) -> Iterator[Editors]:
    """Editors of one test or file."""
    found = Editors(folder)
    try:
        yield found
    finally:
        found.close()


def is_closed(connection: socket.socket) -> bool:
    """Wait until the other side ends a connection."""
    try:
        return connection.recv(1) == b""
    except ConnectionError:
        return True
