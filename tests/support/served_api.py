"""The Session API as a process of its own, and the command line with nothing but its URL and a key."""

from __future__ import annotations

import json
import re
import signal
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final, Self

from sessionctl.core.keys import make_key, render_entry
from sessionctl.models import Scope
from tests.support.sessionctl_cli import TIMEOUT_SECONDS, Cli, start_manager
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from pathlib import Path

    from tests.support.spawn import Forked
    from tools.localcluster import LocalCluster

HOST: Final = "127.0.0.1"
DEFAULT: Final = "default"
ACME: Final = "acme"
READER: Final = "reader"
_KEYS: Final = {DEFAULT: (DEFAULT, tuple(Scope)), ACME: (ACME, tuple(Scope)), READER: (DEFAULT, (Scope.READ,))}


@dataclass(frozen=True)
class ServedApi:
    """One session manager; ends it at the end of its ``with`` block.

    Attributes:
        folder: Holds a file with the key for each of DEFAULT and ACME (every right, of the tenant of that name) and
            READER (of DEFAULT, may only read).
    """

    process: Forked
    port: int
    folder: Path

    @classmethod
    def start(cls, cluster: LocalCluster, folder: Path) -> Self:
        """Start it and wait until it serves."""
        entries = folder / "entries"
        entries.mkdir()
        for name, (tenant, scopes) in _KEYS.items():
            text, stored = make_key(name, tenant, scopes, None)
            (entries / name).write_text(render_entry(stored))
            (folder / name).write_text(text + "\n")
        log = folder / "log"
        argv = ["serve", "--host", HOST, "--port", "0", "--drain", "0s", "--api-keys", str(entries)]
        with log.open("wb") as output:
            process = start_manager(argv, Cli.on(cluster).environment, output)

        def port() -> int:
            assert process.poll() is None, log.read_text()
            found = re.search(r"listening on port (\d+)", log.read_text())
            return int(found[1]) if found else 0

        return cls(process, wait_for(port, "the Session API listens"), folder)

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        self.process.send_signal(signal.SIGTERM)
        try:
            self.process.wait(TIMEOUT_SECONDS)
        finally:
            self.process.kill()

    @property
    def url(self) -> str:
        """Where it is."""
        return f"http://{HOST}:{self.port}"

    def key(self, name: str = DEFAULT) -> str:
        """Return a key."""
        return (self.folder / name).read_text().strip()

    def cli(self, name: str = DEFAULT) -> Cli:
        """Return the command line of somebody who has a key and nothing else: no cluster, no Helm."""
        return Cli(
            {
                "PATH": "/usr/bin:/bin",
                "HOME": "/nonexistent",
                "SESSIONCTL_API_URL": self.url,
                "SESSIONCTL_API_KEY_FILE": str(self.folder / name),
            }
        )

    def log_lines(self) -> list[dict[str, object]]:
        """Return what it logged."""
        return [json.loads(line) for line in (self.folder / "log").read_text().splitlines() if line.startswith("{")]
