"""The real command line, run as people run it: a process of its own, with a kubeconfig and nothing else."""

from __future__ import annotations

import contextlib
import json
import os
import signal
import subprocess
import sysconfig
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import IO, TYPE_CHECKING, Any, Final, Self

from tests.support.spawn import COMMAND_LINE, MANAGER, differs, zygote

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from tests.support.spawn import Forked
    from tools.localcluster import LocalCluster

PROGRAM: Final = str(Path(sysconfig.get_path("scripts")) / "sessionctl")
ENTRY: Final = "sessionctl.cli.app:main"
TIMEOUT_SECONDS: Final = 120
# A password, and settings of Python under which its output and its speed are not what people see.
_NOT_AN_OPERATORS: Final = frozenset({"REDISCLI_AUTH", "PYTHONUNBUFFERED", "PYTHONDONTWRITEBYTECODE"})


@dataclass(frozen=True)
class Done:
    """How a call ended; bytes, because nothing says that they are text."""

    code: int
    out: bytes
    err: bytes

    @property
    def stdout(self) -> str:
        """What it printed."""
        return self.out.decode()

    @property
    def stderr(self) -> str:
        """What it said besides."""
        return self.err.decode()

    @property
    def json(self) -> Any:
        """Its answer; the call must have succeeded."""
        assert self.code == 0, self.stderr
        return json.loads(self.out)


class Running:
    """A call under way, in a process group of its own; ends it at the end of its ``with`` block."""

    def __init__(self, process: subprocess.Popen[bytes] | Forked) -> None:
        self._process = process

    @property
    def pid(self) -> int:
        """The process, which is the id of its group too."""
        return self._process.pid

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_: object) -> None:
        if self._process.poll() is None:
            self.kill_group()
        self.wait()

    def kill_group(self) -> None:
        """Kill it and Helm, as the end of a machine does."""
        with contextlib.suppress(ProcessLookupError):
            os.killpg(self.pid, signal.SIGKILL)

    def send(self, signum: signal.Signals) -> None:
        """Send a signal to the one process, not to Helm."""
        self._process.send_signal(signum)

    def send_to_group(self, signum: signal.Signals) -> None:
        """Send a signal to all of it, as a terminal does."""
        os.killpg(self.pid, signum)

    def wait(self, given: bytes | None = None) -> Done:
        """Return how it ended, having been given something to read."""
        out, err = self._process.communicate(given, timeout=TIMEOUT_SECONDS)
        return Done(self._process.wait(), out or b"", err or b"")


@dataclass(frozen=True)
class Cli:
    """sessionctl in an environment.

    Attributes:
        before: Options before the command.
        loaded: Calls are forked from a process that has loaded it, which takes a tenth of the time; what is tested of
            loading, and what /proc says of a process, needs one that was executed.
    """

    environment: Mapping[str, str]
    before: tuple[str, ...] = ("--quiet",)
    cwd: Path | None = field(default=None)
    loaded: bool = True

    @classmethod
    def on(cls, cluster: LocalCluster, kubeconfig: Path | None = None) -> Self:
        """Use a cluster, through another kubeconfig if one is given."""
        tools = {name: value for name, value in cluster.environment().items() if name not in _NOT_AN_OPERATORS}
        return cls(tools | {"KUBECONFIG": str(kubeconfig or cluster.kubeconfig)})

    def having(self, **variables: str) -> Self:
        """Return one with more variables."""
        return replace(self, environment={**self.environment, **variables})

    def executed(self) -> Self:
        """Return one whose calls are executed, as a shell does it."""
        return replace(self, loaded=False)

    def start(
        self,
        *argv: str | bytes,
        stdin: int = subprocess.DEVNULL,
        stdout: int = subprocess.PIPE,
        stderr: int = subprocess.PIPE,
    ) -> Running:
        """Start a call."""
        command, environment = [PROGRAM, *self.before, *argv], dict(self.environment)
        if self.loaded and not differs(environment):
            return Running(
                zygote(COMMAND_LINE).start(
                    ENTRY,
                    command,
                    environment,
                    cwd=self.cwd,
                    stdin=stdin,
                    stdout=stdout,
                    stderr=stderr,
                    new_session=True,
                )
            )
        process = subprocess.Popen(
            command,
            env=environment,
            cwd=self.cwd,
            stdin=stdin,
            stdout=stdout,
            stderr=stderr,
            start_new_session=True,
        )
        return Running(process)

    def run(self, *argv: str | bytes, given: bytes | None = None) -> Done:
        """Run a call to its end, with something on its standard input."""
        with self.start(*argv, stdin=subprocess.DEVNULL if given is None else subprocess.PIPE) as running:
            return running.wait(given)

    def json(self, *argv: str | bytes) -> Any:
        """Run a call that succeeds and return its answer."""
        return self.run(*argv, "--output", "json").json


def start_manager(argv: Sequence[str], environment: Mapping[str, str], log: IO[bytes]) -> Forked:
    """Start `sessionctl serve`."""
    number = log.fileno()
    return zygote(MANAGER).start(ENTRY, [PROGRAM, *argv], environment, stdout=number, stderr=number)
