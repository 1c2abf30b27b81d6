"""What is taken from Debian: packages that root installs, and servers unpacked into the tool cache.

Servers are unpacked instead of installed, for root too: installing their packages would start them on the machine.
"""

from __future__ import annotations

import os
import shlex
import shutil
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.cache import locked
from tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.progress import Progress

_NO_START: Final = (126, 127)
"""What shell and loader answer for a program that cannot be started."""


@dataclass(frozen=True)
class Unpacked:
    """Programs that are taken out of Debian's packages.

    Attributes:
        name: In the cache and in progress lines.
        programs: Name of a program -> its file in the packages.
        packages: The first is the one a person would install; the others are what a minimal Debian lacks of libraries.
    """

    name: str
    programs: dict[str, str]
    packages: tuple[str, ...]

    @property
    def by_hand(self) -> str:
        """Return what a person can do."""
        return f"install Debian's package {self.packages[0]} (as root: apt-get install {self.packages[0]})"


UNPACKED: Final = {
    each.name: each
    for each in (
        Unpacked(
            "redis",
            {"redis-server": "usr/bin/redis-server", "redis-cli": "usr/bin/redis-cli"},
            ("redis-server", "redis-tools", "libjemalloc2", "liblzf1", "libatomic1"),
        ),
        Unpacked("nginx", {"nginx": "usr/sbin/nginx"}, ("nginx",)),
        Unpacked("wrk", {"wrk": "usr/bin/wrk"}, ("wrk", "libluajit-5.1-2", "libluajit-5.1-common")),
    )
}


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


def ensure_unpacked(wanted: Unpacked, cache: Path, progress: Progress) -> dict[str, Path]:
    """Return its programs.

    Raises:
        ToolError: They are neither installed nor can Debian's packages be had.
    """
    installed = {name: shutil.which(name) for name in wanted.programs}
    if all(installed.values()):
        return {name: Path(file) for name, file in installed.items() if file}
    label = wanted.packages[0]
    entry = cache / f"{wanted.name}-debian-{os.uname().machine}"
    if not entry.is_dir():
        if shutil.which("apt-get") is None or shutil.which("dpkg") is None:
            raise ToolError(f"{label} is missing", wanted.by_hand)
        with locked(cache, entry.name, lambda: progress.line(f"waiting for another download of {label}")):
            if not entry.is_dir():
                draft = cache / "drafts" / entry.name
                shutil.rmtree(draft, ignore_errors=True)
                draft.mkdir()
                with progress.step(f"{label} is missing: unpacking Debian's package into the tool cache"):
                    _unpack(wanted, draft)
                # The wrappers carry the final path, so a draft cannot be tried before it is there.
                draft.rename(entry)
                _check(wanted, entry)
    return {name: entry / "bin" / name for name in wanted.programs}


def _unpack(wanted: Unpacked, draft: Path) -> None:
    packages = draft / "packages"
    packages.mkdir()
    if not _download(wanted, packages, []):
        # The machine may have no package lists, or stale ones; own lists need no root.
        private = draft / "apt"
        (private / "lists" / "partial").mkdir(parents=True)
        (private / "cache" / "archives" / "partial").mkdir(parents=True)
        options = ["-o", f"Dir::State::Lists={private}/lists", "-o", f"Dir::Cache={private}/cache"]
        update = [*_apt(options), "update"]
        subprocess.run(update, stdin=subprocess.DEVNULL, capture_output=True, check=False)
        if not _download(wanted, packages, options):
            raise ToolError(
                f"{wanted.packages[0]} is missing and its package cannot be downloaded",
                f"check the network, or {wanted.by_hand}",
            )
        shutil.rmtree(private)
    root = draft / "root"
    root.mkdir()
    for package in packages.glob("*.deb"):
        subprocess.run(["dpkg", "-x", package, root], stdin=subprocess.DEVNULL, capture_output=True, check=True)
    shutil.rmtree(packages)
    (draft / "bin").mkdir()
    for name, file in wanted.programs.items():
        wrapper = draft / "bin" / name
        # exec keeps the pid; the root is found from the wrapper's own place, so the cache may be moved.
        wrapper.write_text(
            "#!/bin/sh\n"
            'root=$(dirname "$(dirname "$(readlink -f "$0")")")/root\n'
            'for lib in "$root"/usr/lib/*-linux-*; do LD_LIBRARY_PATH=$lib; done\n'
            f'export LD_LIBRARY_PATH\nexec "$root/{file}" "$@"\n'
        )
        wrapper.chmod(0o755)


def _download(wanted: Unpacked, folder: Path, options: list[str]) -> bool:
    argv = [*_apt(options), "download", *wanted.packages]
    done = subprocess.run(argv, cwd=folder, stdin=subprocess.DEVNULL, capture_output=True, check=False)
    return done.returncode == 0


def _apt(options: list[str]) -> list[str]:
    # apt as root downloads as the user _apt, who cannot write here.
    return ["apt-get", "-q", "-o", "APT::Sandbox::User=root", *options]


def _check(wanted: Unpacked, entry: Path) -> None:
    for name in wanted.programs:
        # Whatever it makes of this, it is not the loader that refuses it for want of a library.
        argv = [str(entry / "bin" / name), "-v"]
        done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
        if done.returncode in _NO_START:
            shutil.rmtree(entry)
            reason = (done.stderr.strip().splitlines() or ["no reason given"])[0]
            raise ToolError(f"{shlex.join(argv[:1])} does not run ({reason})", wanted.by_hand)
