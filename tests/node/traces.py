"""What a real cluster could leave on a machine, taken before and after; other programs may run beside it meanwhile."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from tests.support.waiting import wait_for
from tools import processes
from tools.localcluster.machine import CGROUP, hierarchies

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.localcluster import LocalCluster

_SYSCTLS: Final = (
    "vm/overcommit_memory",
    "vm/panic_on_oom",
    "kernel/panic",
    "kernel/panic_on_oops",
    "kernel/keys/root_maxkeys",
    "kernel/keys/root_maxbytes",
    "kernel/hostname",
    "net/ipv4/ip_forward",
    "net/ipv4/conf/all/route_localnet",
)
_KINDS: Final = ("mnt", "pid", "net", "uts", "ipc")
# Longer than the cluster itself is patient.
PATIENCE_SECONDS: Final = 120.0
_FOLDERS: Final = ("/run", "/var/lib", "/var/log", "/var/run", "/etc", "/opt")


@dataclass(frozen=True)
class Machine:
    """The settings and places that such a cluster would change if it could."""

    sysctls: dict[str, str]
    links: frozenset[str]
    folders: dict[str, frozenset[str]]

    @classmethod
    def look(cls) -> Self:
        """Return how they are now."""
        return cls(
            {name: Path("/proc/sys", name).read_text() for name in _SYSCTLS if Path("/proc/sys", name).exists()},
            _names("/sys/class/net"),
            {folder: _names(folder) for folder in _FOLDERS if Path(folder).is_dir()},
        )


@dataclass(frozen=True)
class Traces:
    """What belongs to one running cluster.

    Attributes:
        namespaces: Names, which the kernel gives to others when they are free.
        noted: When this was, in clock ticks since boot.
    """

    directory: Path
    pids: tuple[int, ...]
    namespaces: frozenset[str]
    noted: int

    @classmethod
    def of(cls, cluster: LocalCluster) -> Self:
        """Note them while it runs."""
        keeper = cluster.state.supervisor
        inside = processes.descendants(keeper)
        own = _namespaces(os.getpid())
        found = frozenset().union(*(_namespaces(pid) for pid in inside)) - own
        noted = max(processes.start_ticks(pid) or 0 for pid in inside)
        return cls(cluster.directory, (keeper, *inside), found, noted)

    def wait_until_gone(self, *, with_directory: bool = True) -> None:
        """Return when there is nothing of it any more; fail the test when something stays."""
        checks: dict[str, Callable[[], object]] = {
            "processes": lambda: [pid for pid in self.pids if processes.is_alive(pid)],
            "processes in its directory": lambda: processes.processes_mentioning(str(self.directory)),
            "namespaces": lambda: self.namespaces & _namespaces_of_older(self.noted),
            "mounts": lambda: [line for line in _mounts() if str(self.directory) in line],
            "cgroups": groups,
            "directory": lambda: with_directory and self.directory.exists(),
        }
        for what, left in checks.items():
            wait_for(lambda left=left: not left(), f"no {what} left of the cluster", PATIENCE_SECONDS)  # type: ignore[misc]


def _names(folder: str) -> frozenset[str]:
    return frozenset(entry.name for entry in Path(folder).iterdir())


def groups() -> list[Path]:
    """List the cgroups that a real cluster made."""
    return [group for hierarchy in hierarchies("cgroup", "cgroup2") for group in hierarchy.glob(f"{CGROUP}*")]


def _mounts() -> list[str]:
    return Path("/proc/self/mountinfo").read_text().splitlines()


def _namespaces(pid: int) -> frozenset[str]:
    found = set()
    for kind in _KINDS:
        try:
            found.add(str(Path(f"/proc/{pid}/ns/{kind}").readlink()))
        except OSError:
            continue
    return frozenset(found)


def _namespaces_of_older(ticks: int) -> frozenset[str]:
    pids = [int(entry.name) for entry in Path("/proc").iterdir() if entry.name.isdigit()]
    # A dead process that its parent has not collected still names its namespace, and keeps nothing alive.
    older = [pid for pid in pids if processes.is_alive(pid) and (processes.start_ticks(pid) or 0) <= ticks]
    return frozenset().union(*(_namespaces(pid) for pid in older))
