"""`make test` and `make lint`: every check there is, in one order, ending with the test runner's own line."""

from __future__ import annotations

import os
import subprocess
import sys
import time
from pathlib import Path

from tools.errors import ToolError
from tools.images import NAMES, ensure_images
from tools.localcluster import ClusterSpec, machine, prepare
from tools.pins import ROOT

LINT = (
    ("format", ("ruff", "format", "--check", "--quiet", ".")),
    ("lint", ("ruff", "check", "--quiet", ".")),
    ("types", ("mypy", "--no-error-summary")),
    ("layers", ("lint-imports", "--no-logo")),
    ("yaml", ("yamllint", "-c", ".ct/lintconf.yaml", "ct.yaml", ".ct")),
)

WORKERS = "3"
"""More than cores: most tests wait for a cluster most of the time. tests/conftest.py says which stay together."""


def check(name: str, argv: tuple[str, ...]) -> bool:
    """Run one check; its output is shown when it fails."""
    started = time.monotonic()
    command = [sys.executable, "-m", *argv] if argv[0] in {"mypy", "pytest"} else [*argv]
    done = subprocess.run(command, cwd=ROOT, capture_output=True, text=True, check=False, env=_environment())
    passed = done.returncode == 0
    print(f"{'ok' if passed else 'FAILED':8}{name:10}{time.monotonic() - started:6.1f} s", flush=True)
    if not passed:
        print(done.stdout + done.stderr, flush=True)
    return passed


def _prepare() -> ToolError | None:
    """Build what takes longer than a test may: the tools of a real node, and all images."""
    if machine.why_not():
        return None
    try:
        tools, _ = prepare(ClusterSpec(kind="real"))
        ensure_images(NAMES, tools)
    except ToolError as error:
        return error
    return None


def _browse() -> int:
    if error := _prepare():
        print(f"error: {error}", flush=True)
        return 1
    tests = [sys.executable, "-m", "pytest", "tests/node/browser"]
    return subprocess.run(
        tests, cwd=ROOT, check=False, env=_environment() | {"SESSIONCTL_TEST_BROWSER": "1"}
    ).returncode


def _environment() -> dict[str, str]:
    scripts = Path(sys.executable).parent
    return {**os.environ, "PATH": f"{scripts}:{os.environ['PATH']}"}


def main(arguments: list[str]) -> int:
    """Run the checks, then, unless only ``lint`` was asked for, all tests; ``browser`` runs those of the browser."""
    if arguments == ["browser"]:
        return _browse()
    passed = [check(name, argv) for name, argv in LINT]
    if not all(passed):
        return 1
    if arguments == ["lint"]:
        return 0
    if arguments == [] and (error := _prepare()):
        print(f"error: {error}", flush=True)
        return 1
    tests = [sys.executable, "-m", "pytest", "-n", WORKERS, "--durations=15", *arguments]
    return subprocess.run(tests, cwd=ROOT, check=False, env=_environment()).returncode


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
