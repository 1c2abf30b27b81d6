"""What make runs: `python3 tools/dev.py TARGET [ARGUMENT...]`, with nothing but Python 3.11 and its standard library.

Makes .venv, builds the tools that the target needs, runs the target, and leaves no process behind.
"""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import signal
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Callable, Sequence

ROOT = Path(__file__).resolve().parent.parent
OLDEST_PYTHON = (3, 11)

# Run as a script, Python puts tools/ on the path; what is imported below is the package that holds it.
sys.path[0] = str(ROOT)

VENV = ROOT / ".venv"
_PINS = ("pyproject.toml", "constraints.txt")
_DEBRIS = (
    ".venv",
    ".mypy_cache",
    ".ruff_cache",
    ".pytest_cache",
    ".import_linter_cache",
    ".hypothesis",
    "build",
    "dist",
)


@dataclass(frozen=True)
class Target:
    """A make target.

    Attributes:
        help: One line for `make`.
        argv: Command of the virtual environment's Python; None for what this file does itself.
        tools: Folders under tools/ that are built before it; what starts a cluster builds what its kind needs.
        daemons_stay: What it started stays when it succeeded.
    """

    help: str
    argv: Sequence[str] | None
    tools: Sequence[str] = ()
    daemons_stay: bool = False


def targets() -> dict[str, Target]:
    """Return every target by name."""
    # Not before the version of Python is checked, here and below.
    from tools.pins import ALL_TOOLS, CLUSTER_TOOLS, TEST_TOOLS  # noqa: PLC0415

    cluster = ("-m", "tools.localcluster")
    return {
        "demo": Target("walk through the life of a session on a local cluster", ("-m", "tools.demo")),
        "test": Target("run every check: lint, unit, chart and cluster tests", ("-m", "tools.checks"), TEST_TOOLS),
        "browser": Target(
            "walk a browser through portal, editor and wake page on real pods: 6 minutes",
            ("-m", "tools.checks", "browser"),
            TEST_TOOLS,
        ),
        "lint": Target("run the linters only", ("-m", "tools.checks", "lint")),
        "bench": Target(
            "print what commands and API cost beside bare Helm and patches", ("-m", "tools.bench"), CLUSTER_TOOLS
        ),
        "bench-api": Target("the second half of bench: the API alone", ("-m", "tools.apibench"), CLUSTER_TOOLS),
        "bench-wake": Target("print what a wake costs on a real pod", ("-m", "tools.wakebench")),
        "bench-chat": Target("print what a chat costs beside its agent alone, on real pods", ("-m", "tools.chatbench")),
        "bench-router": Target(
            "print what the router costs beside the same nginx without auth",
            ("-m", "tools.routerbench"),
            ("helm", "nginx", "wrk"),
        ),
        "first-user": Target(
            "walk through the API with curl on real pods, with the default timeouts: 4 minutes",
            ("-m", "tools.firstuser"),
        ),
        "up": Target(
            "start a local cluster with the platform (KIND=real: with real pods), and print how to use it",
            (*cluster, "up"),
            daemons_stay=True,
        ),
        "load": Target(
            "put the workspace image, as it is now, into the cluster of `make up KIND=real`", (*cluster, "load")
        ),
        "down": Target("end the local cluster of `make up`", (*cluster, "down")),
        "images": Target("build the container images", ("-m", "tools.images")),
        "tools": Target("build the external tools that are missing", None, ALL_TOOLS),
        "clean": Target("remove what was made in this checkout; the tool cache and a running cluster stay", None),
    }


def help_text() -> str:
    """Return what `make` without a target prints."""
    lines = ["usage: make TARGET", ""]
    lines += [f"  {name:12} {target.help}" for name, target in targets().items()]
    lines += ["", "`python3 tools/dev.py run COMMAND...` runs a command of the virtual environment the same way."]
    return "\n".join(lines) + "\n"


def run_target(name: str, arguments: list[str]) -> int:
    """Do everything that a target stands for and return its exit status."""
    from tools.errors import ToolError  # noqa: PLC0415
    from tools.toolchain import ensure  # noqa: PLC0415

    try:
        if name == "clean":
            return clean()
        if name == "run":
            python = ensure_venv()
            return _call([str(python.parent / arguments[0]), *arguments[1:]])
        target = targets()[name]
        python = ensure_venv() if target.argv else Path(sys.executable)
        if target.tools:
            built = ensure(target.tools)
            if target.argv is None:
                _say(f"{len(built.binaries)} tools are ready:")
                sys.stdout.writelines(f"{binary:24} {file}\n" for binary, file in built.binaries.items())
        return _call([str(python), *target.argv, *arguments]) if target.argv else 0
    except ToolError as error:
        _say(f"error: {error}")
        return 1


def ensure_venv() -> Path:
    """Return the Python of .venv, made anew when the pins or the Python it is made with changed.

    Raises:
        ToolError: Python's venv module is unusable, or a package cannot be installed.
    """
    from tools.errors import ToolError  # noqa: PLC0415

    python = VENV / "bin" / "python"
    stamp = VENV / ".pins"
    # Two makes in one checkout take turns; the lock needs no file of its own.
    with (ROOT / "pyproject.toml").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        key = _venv_key()
        if stamp.is_file() and stamp.read_text() == key and os.access(python, os.X_OK):
            return python
        started = time.monotonic()
        _say("installing Python packages into .venv ...")
        shutil.rmtree(VENV, ignore_errors=True)
        made = subprocess.run([sys.executable, "-m", "venv", VENV], capture_output=True, text=True, check=False)
        if made.returncode != 0:
            shutil.rmtree(VENV, ignore_errors=True)
            raise ToolError(
                f"{sys.executable} cannot make a virtual environment",
                "install Debian's package python3-venv (as root: apt-get install python3-venv)",
            )
        log = VENV / "install.log"
        install = [str(python), "-m", "pip", "install", "--quiet", "--no-input", "--disable-pip-version-check"]
        with log.open("wb") as output:
            pinned = [*install, "-e", ".[dev]", "-c", "constraints.txt"]
            done = subprocess.run(pinned, cwd=ROOT, stdin=subprocess.DEVNULL, stdout=output, stderr=output, check=False)
        if done.returncode != 0:
            last = next((line for line in reversed(log.read_text(errors="replace").splitlines()) if line.strip()), "")
            raise ToolError(f"pip cannot install the Python packages ({last[:300]})", f"check the network; see {log}")
        stamp.write_text(key)
        _say(f"installing Python packages into .venv ... {time.monotonic() - started:.0f} s")
        return python


def clean() -> int:
    """Remove what is generated inside the checkout."""
    for name in _DEBRIS:
        shutil.rmtree(ROOT / name, ignore_errors=True)
    shutil.rmtree(ROOT / "charts" / "platform" / "charts", ignore_errors=True)
    for pattern in ("*.egg-info", "*/__pycache__", "*/*/__pycache__", "*/*/*/__pycache__"):
        for found in ROOT.glob(pattern):
            shutil.rmtree(found, ignore_errors=True)
    return 0


def _venv_key() -> str:
    digest = hashlib.sha256(f"{sys.version} {sys.base_prefix} {ROOT}".encode())
    for name in _PINS:
        digest.update((ROOT / name).read_bytes())
    return digest.hexdigest() + "\n"


def _call(argv: list[str]) -> int:
    environment = {**os.environ, "PATH": f"{VENV / 'bin'}{os.pathsep}{os.environ.get('PATH', os.defpath)}"}
    process = subprocess.Popen(argv, cwd=ROOT, env=environment)
    try:
        return _status(process.wait())
    except KeyboardInterrupt:
        # A terminal sends Ctrl-C to all of us; `kill -INT` meant for make reaches only this process.
        if not _in_foreground():
            process.send_signal(signal.SIGINT)
        # It takes down what it started. A second Ctrl-C ends this wait, and the guard ends the rest.
        return _status(process.wait())


def _status(code: int) -> int:
    return code if code >= 0 else 128 - code


def _in_foreground() -> bool:
    try:
        with Path("/dev/tty").open() as terminal:
            return os.tcgetpgrp(terminal.fileno()) == os.getpgrp()
    except OSError:
        return False


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main(argv: list[str], guard: Callable[..., int] | None = None) -> int:
    """Run the target of the command line under the guard."""
    if sys.version_info < OLDEST_PYTHON:
        wanted = ".".join(map(str, OLDEST_PYTHON))
        found = sys.version.split()[0]
        _say(f"error: this is Python {found}: use Python {wanted} or newer (make PYTHON=python{wanted} ...)")
        return 1
    from tools.guard import guarded  # noqa: PLC0415

    name, arguments = (argv[0], argv[1:]) if argv else ("help", [])
    known = targets()
    if name == "help" or (name != "run" and name not in known) or (name == "run" and not arguments):
        sys.stdout.write(help_text())
        return 0 if name == "help" else 2
    daemons_stay = name in known and known[name].daemons_stay
    return (guard or guarded)(lambda: run_target(name, arguments), daemons_stay=daemons_stay)


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
