"""The namespaces of a real cluster: mounts, processes, network, host name and IPC of its own, with no way out.

Two processes watch each other. The keeper stays outside and is known by its pid; the first process is pid 1 inside, and
the kernel ends everything inside with it. Whichever of the two is left tidies up outside. Nothing else outlives them:
mounts, network and kernel settings live in the namespaces only.
"""

from __future__ import annotations

import ctypes
import os
import select
import signal
import socket
import subprocess
import traceback
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.localcluster.models import STOP_SIGNALS

if TYPE_CHECKING:
    from collections.abc import Callable

    from tools.localcluster.models import Layout

NODE_NAME: Final = "node-1"
NODE_IP: Final = "172.31.250.1"
SERVICE_RANGE: Final = "10.96.0.0/16"
DNS_IP: Final = "10.96.0.10"
KUBELET_ROOT: Final = Path("/var/lib/kubelet")
CONTAINERD_SOCKET: Final = Path("/run/containerd.sock")

_CLONE_FS: Final = 0x00000200
_CLONE_NEWNS: Final = 0x00020000
_CLONE_NEWUTS: Final = 0x04000000
_CLONE_NEWIPC: Final = 0x08000000
_CLONE_NEWPID: Final = 0x20000000
_CLONE_NEWNET: Final = 0x40000000
_MS_BIND: Final = 0x1000
_MS_REC: Final = 0x4000
_MS_PRIVATE: Final = 1 << 18
_MS_SHARED: Final = 1 << 20
_STOP_SECONDS: Final = 30
_LIBC: Final = ctypes.CDLL(None, use_errno=True)

# What kubelet sets for the whole machine where it finds other values (pkg/kubelet/cm, setupKernelTunables). Inside,
# files stand in for them: the machine keeps its own settings, whatever kills the cluster.
_KUBELET_SYSCTLS: Final = {
    "vm/overcommit_memory": "1",
    "vm/panic_on_oom": "0",
    "kernel/panic": "10",
    "kernel/panic_on_oops": "1",
    "kernel/keys/root_maxkeys": "1000000",
    "kernel/keys/root_maxbytes": "25000000",
}


@dataclass(frozen=True)
class Inside:
    """What the first process has of the outside.

    Attributes:
        listeners: Listen on this machine's loopback.
        keeper: Reads end-of-file when the keeper is gone.
    """

    listeners: tuple[socket.socket, ...]
    keeper: int


def enter(
    layout: Layout,
    listeners: tuple[socket.socket, ...],
    work: Callable[[Inside], None],
    tidy: Callable[[], None],
) -> int:
    """Do the work as pid 1 of new namespaces; return when all their processes are gone and it is tidy outside."""
    reading, writing = os.pipe()
    # For the child only: this process stays where it is, and must start no thread from here on.
    _call("unshare", _CLONE_NEWPID)
    first = os.fork()
    if first == 0:
        os.close(writing)
        os._exit(_first_process(layout, Inside(listeners, reading), work, tidy))
    os.close(reading)
    for listener in listeners:
        listener.close()
    status = _keep(first)
    tidy()
    return status


def _keep(first: int) -> int:
    """Pass the request to stop on, and wait for the end."""
    signal.pthread_sigmask(signal.SIG_BLOCK, {*STOP_SIGNALS, signal.SIGCHLD})
    # Ignored by default, and an ignored signal is not reported even when it is blocked.
    signal.signal(signal.SIGCHLD, lambda *_: None)
    stopping = False
    while True:
        pid, status = os.waitpid(first, os.WNOHANG)
        if pid:
            return os.waitstatus_to_exitcode(status)
        found = signal.sigtimedwait({*STOP_SIGNALS, signal.SIGCHLD}, _STOP_SECONDS if stopping else 3600)
        if found is None and stopping:
            os.kill(first, signal.SIGKILL)
        elif found is not None and found.si_signo in STOP_SIGNALS:
            os.kill(first, signal.SIGTERM)
            stopping = True


def _first_process(layout: Layout, inside: Inside, work: Callable[[Inside], None], tidy: Callable[[], None]) -> int:
    try:
        outside = os.open("/proc/self/ns/mnt", os.O_RDONLY | os.O_CLOEXEC)
        _call("unshare", _CLONE_NEWNS | _CLONE_NEWUTS | _CLONE_NEWIPC | _CLONE_NEWNET)
        _make_mounts(layout)
        _make_network()
        socket.sethostname(NODE_NAME)
        work(inside)
        if select.select([inside.keeper], [], [], 0)[0]:
            # Nobody is left outside: end what is inside, and tidy from the mounts of the machine.
            _kill_all()
            # A thread that has just ended may still share the working directory, which forbids another mount namespace.
            _call("unshare", _CLONE_FS)
            _call("setns", outside, _CLONE_NEWNS)
            tidy()
    except BaseException:  # noqa: BLE001 - this is the top of the process
        traceback.print_exc()
        return 1
    return 0


def _make_mounts(layout: Layout) -> None:
    node = layout.node
    _mount("none", "/", flags=_MS_REC | _MS_PRIVATE)
    # Among themselves kubelet, containerd and containers share mounts, as they do on any node.
    _mount("none", "/", flags=_MS_REC | _MS_SHARED)
    _mount("proc", "/proc", "proc")
    _mount("tmpfs", "/run", "tmpfs")
    # Folders that kubelet and CNI insist on appear in /var/lib without being made on the machine.
    for name in ("var-lib", "var-lib-work", "var-log", "sysctl", "kubelet"):
        (node / name).mkdir(exist_ok=True)
    _mount(
        "overlay",
        "/var/lib",
        "overlay",
        data=f"lowerdir=/var/lib,upperdir={node / 'var-lib'},workdir={node / 'var-lib-work'}",
    )
    _bind(node / "var-log", Path("/var/log"))
    # Sockets below it have short paths only here.
    KUBELET_ROOT.mkdir(exist_ok=True)
    _bind(node / "kubelet", KUBELET_ROOT)
    resolver = node / "resolv.conf"
    resolver.write_text(f"nameserver {DNS_IP}\nsearch svc.cluster.local cluster.local\noptions ndots:5 timeout:1\n")
    _bind(resolver, Path("/etc/resolv.conf").resolve())
    for name, value in _KUBELET_SYSCTLS.items():
        file = node / "sysctl" / name.replace("/", ".")
        file.write_text(f"{value}\n")
        if Path("/proc/sys", name).exists():
            _bind(file, Path("/proc/sys", name))


def _make_network() -> None:
    """Give the node its address on a pair of links whose both ends are inside, and no default route."""
    for command in (
        "link set lo up",
        "link add node0 type veth peer name node1",
        f"address add {NODE_IP}/24 dev node0",
        "link set node0 up",
        "link set node1 up",
        # Without it a connection to a Service ends as unreachable before kube-proxy's rules see it.
        f"route add {SERVICE_RANGE} dev node0",
    ):
        subprocess.run(["ip", *command.split()], check=True, stdin=subprocess.DEVNULL)
    for name in ("ipv4/ip_forward", "bridge/bridge-nf-call-iptables", "ipv4/conf/all/route_localnet"):
        Path("/proc/sys/net", name).write_text("1")


def _kill_all() -> None:
    try:
        os.kill(-1, signal.SIGKILL)
    except ProcessLookupError:
        return
    while True:
        try:
            os.wait()
        except ChildProcessError:
            return


def _bind(source: Path, target: Path) -> None:
    _mount(str(source), str(target), flags=_MS_BIND)


def _mount(source: str, target: str, kind: str = "", *, flags: int = 0, data: str = "") -> None:
    _call("mount", source.encode(), target.encode(), kind.encode(), ctypes.c_ulong(flags), data.encode())


def _call(name: str, *arguments: object) -> None:
    if getattr(_LIBC, name)(*arguments) != 0:
        number = ctypes.get_errno()
        raise OSError(number, f"{name}{arguments}: {os.strerror(number)}")
