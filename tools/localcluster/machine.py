"""All that a real node touches outside its namespaces: one cgroup per hierarchy; and what the machine must offer.

The lock is on that cgroup's directory: there is one real cluster per machine, and the kernel drops the lock with it.
"""

from __future__ import annotations

import fcntl
import os
import shutil
import sys
import time
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.debian import ensure_packages
from tools.localcluster.models import ClusterError
from tools.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable

CGROUP: Final = "sessionctl-node"
_MOUNTS: Final = Path("/proc/self/mounts")
_PROGRAMS: Final = {"ip": "iproute2", "mount": "mount", "nft": "nftables"}
_HIERARCHIES: Final = ("cpu", "cpuset", "memory", "pids")
_CAP_SYS_ADMIN: Final = 21
# All pods together count as one process beside those of the machine, unless they are given more: 1024 is one's share.
_SHARES: Final = str(16 * 1024)
# A group is busy until the last process in it is reaped, which a loaded machine takes its time for.
_PATIENCE_SECONDS: Final = 60.0
_POLL_SECONDS: Final = 0.02
_INSTEAD: Final = "use the simulated kind: make up KIND=simulated"


def why_not() -> str | None:
    """Return why this machine cannot run real pods, in a few words; None when it can."""
    if sys.platform != "linux":
        return "real pods need Linux"
    if os.geteuid() != 0 or not _may_make_namespaces():
        return "real pods need root with CAP_SYS_ADMIN"
    mounted = {path.name for path in hierarchies()}
    if missing := [name for name in _HIERARCHIES if name not in mounted]:
        return f"real pods need cgroup v1 hierarchies, and there is none for {', '.join(missing)}"
    if "overlay" not in Path("/proc/filesystems").read_text():
        return "real pods need the file system overlay, which this kernel does not have"
    return None


def check() -> None:
    """Raise ClusterError where real pods cannot run."""
    if reason := why_not():
        raise ClusterError(reason, _INSTEAD)


def prepare(say: Callable[[str], None] | None = None) -> None:
    """Install the programs that a real node needs and the machine lacks.

    Raises:
        ToolError: Real pods cannot run here, or a package cannot be had.
    """
    check()
    ensure_packages((package for program, package in _PROGRAMS.items() if shutil.which(program) is None), Progress(say))


def hierarchies(*kinds: str) -> list[Path]:
    """List the mount points of cgroup v1 on this machine, or those of other kinds."""
    fields = (line.split() for line in _MOUNTS.read_text().splitlines())
    return [Path(mount) for _, mount, kind, *_ in fields if kind in (kinds or {"cgroup"})]


def claim() -> int:
    """Make the node's cgroups and return the descriptor that holds the lock.

    Raises:
        ClusterError: Another real cluster is up on this machine.
    """
    lock = _lock(_locked_directory())
    # What a cluster left that was killed whole, its keeper included.
    _remove()
    for hierarchy in hierarchies():
        group = hierarchy / CGROUP
        group.mkdir(exist_ok=True)
        if hierarchy.name == "cpuset":
            for name in ("cpuset.cpus", "cpuset.mems"):
                (group / name).write_text((hierarchy / name).read_text())
        if hierarchy.name == "cpu":
            (group / "cpu.shares").write_text(_SHARES)
    return lock


def release() -> None:
    """Remove the node's cgroups; every process in them must have been killed."""
    deadline = time.monotonic() + _PATIENCE_SECONDS
    while left := _remove():
        if time.monotonic() > deadline:
            raise ClusterError(f"cannot remove {left[0]}", "look for processes in its cgroup.procs")
        time.sleep(_POLL_SECONDS)
    _locked_directory().rmdir()


def _lock(directory: Path) -> int:
    while True:
        directory.mkdir(exist_ok=True)
        lock = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            os.close(lock)
            raise ClusterError("a real cluster is up on this machine already", "end it with: make down") from None
        # The cluster that ended just now may have removed the directory that was opened.
        if directory.is_dir() and directory.stat().st_ino == os.fstat(lock).st_ino:
            return lock
        os.close(lock)


def _locked_directory() -> Path:
    return next(path for path in hierarchies() if path.name == "memory") / CGROUP


def _remove() -> list[Path]:
    """Remove every group below ours, and ours but for the locked one; return those that are still in use."""
    left = []
    locked = _locked_directory()
    # Kubelet makes its group in a cgroup v2 beside the others too.
    for hierarchy in hierarchies("cgroup", "cgroup2"):
        group = hierarchy / CGROUP
        for folder, _, _ in os.walk(group, topdown=False):
            if Path(folder) == locked:
                continue
            try:
                Path(folder).rmdir()
            except OSError:
                left.append(Path(folder))
    return left


def _may_make_namespaces() -> bool:
    status = Path("/proc/self/status").read_text()
    effective = next(line.split()[1] for line in status.splitlines() if line.startswith("CapEff:"))
    return bool(int(effective, 16) >> _CAP_SYS_ADMIN & 1)
