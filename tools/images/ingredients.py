"""What goes into an image beside files of the checkout: named by what decides its content, made when it is needed."""

from __future__ import annotations

import hashlib
import os
import re
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.cache import cache_root
from tools.debian import ensure_packages
from tools.errors import ToolError
from tools.golang import find_go, install_go
from tools.images import debian
from tools.images.entries import entry
from tools.images.programs import run

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from tools.progress import Progress

# The Python of the local base image, and the newest glibc whose wheels it can load.
_PYTHON = "3.11"
_GLIBC_MINORS = range(36, 16, -1)
# The own package is built with it, inside the image build.
_BACKEND = "hatchling"


@dataclass(frozen=True)
class Ingredient:
    """A file or folder of a build context.

    Attributes:
        key: Changes with what it contains.
        make: Returns where it is, after making it if need be.
    """

    key: str
    make: Callable[[Progress], Path]


def binary(file: Path) -> Ingredient:
    """Return a built tool as an ingredient."""
    facts = file.stat()
    # An entry of the tool cache is named by all that decides its content; reading 80 MB again would be for nothing.
    return Ingredient(f"{file.parent.parent.name} {facts.st_size} {facts.st_mtime_ns}", lambda _: file)


def compiled(folder: Path) -> Ingredient:
    """Return the binary of a Go module that needs nothing but the standard library."""
    digest = _digest(*sorted((*folder.glob("*.go"), folder / "go.mod")))
    key = f"{folder.name}-{digest}-{os.uname().machine}"

    def make(progress: Progress) -> Path:
        def fill(draft: Path) -> None:
            go = find_go(cache_root()) or install_go(cache_root(), progress)
            argv = [str(go.binary), "build", "-trimpath", "-buildvcs=false", "-ldflags", "-s -w", "-o", str(draft)]
            run([*argv, "."], f"compiling {folder.name}", {"CGO_ENABLED": "0", "GOTOOLCHAIN": "local"}, cwd=folder)

        return entry(key, fill, progress)

    return Ingredient(key, make)


def debian_root() -> Ingredient:
    """Return the archive of a minimal Debian."""
    key = f"debian-{debian.SUITE}-{hashlib.sha256(debian.recipe().encode()).hexdigest()[:12]}-{os.uname().machine}.tar"

    def make(progress: Progress) -> Path:
        def fill(draft: Path) -> None:
            ensure_packages(["mmdebstrap"], progress)
            with progress.step(f"unpacking Debian {debian.SUITE}"):
                debian.make_root(draft)

        return entry(key, fill, progress)

    return Ingredient(key, make)


def wheels(constraints: Path, requirements: Path) -> Ingredient:
    """Return a folder with all wheels that the image needs.

    pip runs here rather than in the image build, because this machine knows its index, certificates and proxies.
    """
    key = f"wheels-{_digest(constraints, requirements)}-{os.uname().machine}"

    def make(progress: Progress) -> Path:
        def fill(draft: Path) -> None:
            draft.mkdir()
            argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-input", "--disable-pip-version-check"]
            argv += ["--dest", str(draft), "--constraint", str(constraints), "--only-binary=:all:"]
            argv += ["--implementation", "cp", "--python-version", _PYTHON]
            machine = os.uname().machine
            for platform in (f"manylinux_2_{minor}" for minor in _GLIBC_MINORS):
                argv += ["--platform", f"{platform}_{machine}"]
            argv += ["--platform", f"manylinux2014_{machine}", "--platform", f"linux_{machine}"]
            what = f"downloading the Python packages of {requirements.parent.name}"
            with progress.step(what):
                run([*argv, _BACKEND, *_requirements(requirements)], what)

        return entry(key, fill, progress)

    return Ingredient(key, make)


def _requirements(file: Path) -> list[str]:
    """Return the requirements without their conditions, which pip would judge by this machine's Python."""
    lines = (re.sub(r"\s*[#;].*", "", line).strip() for line in file.read_text().splitlines())
    found = [line for line in lines if line]
    if not found:
        raise ToolError(f"{file} lists no package", "name what the image needs, one package a line")
    return found


def _digest(*files: Path) -> str:
    digest = hashlib.sha256()
    for file in files:
        digest.update(hashlib.sha256(file.read_bytes()).digest())
    return digest.hexdigest()[:12]
