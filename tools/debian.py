"""What is taken from Debian: packages that root installs, and redis-server unpacked into the tool cache.

Redis is unpacked instead of installed, for root too: installing the package would start a Redis on the machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from pathlib import Path
from typing import TYPE_CHECKING

from tools.cache import locked
from tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.progress import Progress

_BINARIES = ("redis-server", "redis-cli")
# The second line is what a minimal Debian lacks of their libraries.
_PACKAGES = ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1")
_BY_HAND = "install Debian's package redis-server (as root: apt-get install redis-server)"


def ensure_packages(names: Iterable[str], progress: Progress) -> None:
    """Install the packages that are missing; none of them may be one that starts a service.

    Raises:
        ToolError: Something is missing that only a person can install, or the installation failed.
    """
    missing = [name for name in names if not _is_installed(name)]
    if not missing:
        return
    listed = " ".join(missing)
    by_hand = f"as root: apt-get install --no-install-recommends {listed}"
    if shutil.which("apt-get") is None or shutil.which("dpkg-query") is None:
        raise ToolError(f"Debian packages are missing ({listed})", "install what they hold, or use a Debian machine")
    if os.geteuid() != 0:
        raise ToolError(f"Debian packages are missing ({listed})", by_hand)
    # Somebody else's apt may be at work.
    apt = ["apt-get", "-q", "-y", "-o", "DPkg::Lock::Timeout=300"]
    with progress.step(f"installing Debian's {listed}"):
        done = _install(apt, missing)
        if done.returncode != 0:
            # The package lists may be missing or stale.
            subprocess.run([*apt, "update"], stdin=subprocess.DEVNULL, capture_output=True, check=False)
            done = _install(apt, missing)
    if done.returncode != 0:
        reason = (done.stderr.strip().splitlines() or ["no reason given"])[-1]
        raise ToolError(f"apt-get cannot install {listed} ({reason[:300]})", f"check the network, or {by_hand}")


def _is_installed(name: str) -> bool:
    argv = ["dpkg-query", "--show", "--showformat=${db:Status-Status}", name]
    try:
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    except FileNotFoundError:
        return False
    return done.returncode == 0 and done.stdout == "installed"


def _install(apt: list[str], names: list[str]) -> subprocess.CompletedProcess[str]:
    argv = [*apt, "install", "--no-install-recommends", *names]
    environment = os.environ | {"DEBIAN_FRONTEND": "noninteractive", "LC_ALL": "C.UTF-8"}
    return subprocess.run(argv, env=environment, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)


def ensure_redis(cache: Path, progress: Progress) -> dict[str, Path]:
    """Return redis-server and redis-cli.

    Raises:
        ToolError: They are neither installed nor can Debian's packages be had.
    """
    installed = {name: shutil.which(name) for name in _BINARIES}
    if all(installed.values()):
        return {name: Path(file) for name, file in installed.items() if file}
    entry = cache / f"redis-debian-{os.uname().machine}"
    if not entry.is_dir():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise ToolError("redis-server is missing", _BY_HAND)
        with locked(cache, entry.name, lambda: progress.line("waiting for another download of redis-server")):
            if not entry.is_dir():
                draft = cache / "drafts" / entry.name
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
                with progress.step("redis-server is missing: unpacking Debian's package into the tool cache"):
                    _unpack(draft)
                # The wrappers carry the final path, so a draft cannot be tried before it is there.
                draft.rename(entry)
                _check(entry)
    return {name: entry / "bin" / name for name in _BINARIES}


def _unpack(draft: Path) -> None:
    packages = draft / "packages"
    packages.mkdir()
    if not _download(packages, []):
        # The machine may have no package lists, or stale ones; own lists need no root.
        private = draft / "apt"
        (private / "lists" / "partial").mkdir(parents=True)
        (private / "cache" / "archives" / "partial").mkdir(parents=True)
        options = ["-o", f"Dir::State::Lists={private}/lists", "-o", f"Dir::Cache={private}/cache"]
        update = [*_apt(options), "update"]
        subprocess.run(update, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if not _download(packages, options):
            raise ToolError(
                "redis-server is missing and its package cannot be downloaded", f"check the network, or {_BY_HAND}"
            )
        shutil.rmtree(private)
    root = draft / "root"
    root.mkdir()
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, root], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    shutil.rmtree(packages)
    (draft / "bin").mkdir()
    for name in _BINARIES:
        wrapper = draft / "bin" / name
        # exec keeps the pid; the root is found from the wrapper's own place, so the cache may be moved.
        wrapper.write_text(
            "#!/bin/sh\n"
            'root=$(dirname "$(dirname "$(readlink -f "$0")")")/root\n'
            'for lib in "$root"/usr/lib/*-linux-*; do LD_LIBRARY_PATH=$lib; done\n'
            f'export LD_LIBRARY_PATH\nexec "$root/usr/bin/{name}" "$@"\n'
        )
        wrapper.chmod(0o755)


def _download(folder: Path, options: list[str]) -> bool:
    argv = [*_apt(options), "download", *_PACKAGES]
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def _apt(options: list[str]) -> list[str]:
    # apt as root downloads as the user _apt, who cannot write here.
    return ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *options]


def _check(entry: Path) -> None:
    for name in _BINARIES:
        argv = [str(entry / "bin" / name), "--version"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode != 0:
            shutil.rmtree(entry)
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise ToolError(f"{shlex.join(argv[:1])} does not run ({reason})", _BY_HAND)
