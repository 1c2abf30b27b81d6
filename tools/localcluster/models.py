"""What a cluster is made of, and where its files are."""

from __future__ import annotations

import secrets
import signal
from dataclasses import asdict, dataclass, field
from typing import TYPE_CHECKING, Any, Literal, Self

from tools.errors import ToolError

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from pathlib import Path

Kind = Literal["simulated", "real"]
# The name of the volume provisioner, in storage classes and claims.
PROVISIONER = "sessionctl.dev/local"
# What makes a supervisor take its cluster down.
STOP_SIGNALS = (signal.SIGTERM, signal.SIGINT, signal.SIGHUP)
KINDS: tuple[Kind, ...] = ("simulated", "real")


class ClusterError(ToolError):
    """A local cluster could not be started, reached or changed."""


@dataclass(frozen=True)
class ClusterSpec:
    """What to start.

    Attributes:
        kind: "simulated": real control plane, KEDA and Redis; nodes and pods are KWOK's. "real": one node, whose pods
            run, all of it in namespaces with no way out; Redis is a pod. Needs root.
        nodes: Number of simulated nodes.
        managers: How many session managers the platform gets: pods where pods run, otherwise processes of the cluster
            with the rights of the chart's ServiceAccount, called manager-1 and so on.
        bare: A real one without the images of sessions and Redis: for whom the cluster itself is enough.
        keep: The directory outlives the processes, however they end, and a start in it goes on with what is there.
    """

    kind: Kind = "simulated"
    nodes: int = 3
    managers: int = 0
    bare: bool = False
    keep: bool = False


@dataclass(frozen=True)
class RedisEndpoint:
    """Address and both users of the cluster's Redis."""

    host: str
    port: int
    username: str
    password: str
    keda_username: str
    keda_password: str


@dataclass(frozen=True)
class Component:
    """One process of a cluster.

    Attributes:
        after: Names of the components and steps that must be ready before it starts.
        ready: Tells whether it can be used; None: as soon as it runs. Called from worker threads.
        data: Directory that a start with empty=True clears.
    """

    name: str
    argv: tuple[str, ...]
    env: Mapping[str, str] = field(default_factory=dict)
    after: tuple[str, ...] = ()
    ready: Callable[[], bool] | None = None
    data: Path | None = None


@dataclass(frozen=True)
class Step:
    """Something that is done once while a cluster starts; run is called in a worker thread."""

    name: str
    run: Callable[[], None]
    after: tuple[str, ...] = ()


@dataclass(frozen=True)
class Layout:
    """The files of one cluster."""

    directory: Path

    @property
    def marker(self) -> Path:
        """Return the file that tells this tool's directories from anybody else's."""
        return self.directory / ".sessionctl-cluster"

    @property
    def state(self) -> Path:
        """Return the file that `attach` reads."""
        return self.directory / "cluster.json"

    @property
    def pki(self) -> Path:
        """Return the folder of keys, certificates, tokens and the components' kubeconfigs."""
        return self.directory / "pki"

    @property
    def kubeconfig(self) -> Path:
        """Return the kubeconfig of the cluster's administrator."""
        return self.directory / "kubeconfig"

    @property
    def secrets(self) -> Path:
        """Return the file of what a cluster that is kept must find again."""
        return self.pki / "secrets.json"

    @property
    def api_keys(self) -> Path:
        """Return the folder in which managers that are no pods find the API keys."""
        return self.directory / "api-keys"

    @property
    def node(self) -> Path:
        """Return the folder of containerd's and kubelet's files."""
        return self.directory / "node"

    @property
    def volumes(self) -> Path:
        """Return the folder with a folder per PersistentVolume."""
        return self.directory / "volumes"

    def data(self, component: str) -> Path:
        """Return where a component keeps its data."""
        return self.directory / "data" / component

    def log(self, component: str) -> Path:
        """Return the log file of a component."""
        return self.directory / "logs" / f"{component}.log"

    def create(self) -> None:
        """Create the folders, closed to other users: they hold keys and passwords."""
        self.directory.mkdir(mode=0o700, parents=True, exist_ok=True)
        self.directory.chmod(0o700)
        self.marker.touch()
        for folder in (
            self.pki,
            self.node,
            self.volumes,
            self.api_keys,
            self.directory / "data",
            self.directory / "logs",
        ):
            folder.mkdir(exist_ok=True)


@dataclass(frozen=True)
class Secrets:
    """Everything random in a cluster.

    Attributes:
        tokens: Name of a kubeconfig user -> bearer token.
    """

    tokens: dict[str, str]
    redis_password: str
    keda_password: str

    @classmethod
    def generate(cls, users: tuple[str, ...]) -> Self:
        """Draw new ones."""
        return cls({user: secrets.token_hex(24) for user in users}, secrets.token_hex(24), secrets.token_hex(24))


@dataclass(frozen=True)
class State:
    """What `attach` has to know of a running cluster.

    Attributes:
        redis: None where Redis is a pod of the platform chart.
        managers: How many the platform gets.
        api_urls: Where the Session API is: one address for all pods, or one for each process.
        seconds: Component or step -> seconds from the call of `start` until it was ready.
        edge_port: Where browsers reach a cluster with real pods over TLS, once the platform has a router.
    """

    kind: Kind
    supervisor: int
    supervisor_ticks: int
    server: str
    redis: RedisEndpoint | None
    managers: int
    api_urls: tuple[str, ...]
    tokens: dict[str, str]
    binaries: dict[str, str]
    seconds: dict[str, float]
    edge_port: int | None = None

    def to_json(self) -> dict[str, Any]:
        """Return it as JSON types."""
        return asdict(self)

    @classmethod
    def from_json(cls, raw: dict[str, Any]) -> Self:
        """Read what `to_json` wrote."""
        redis = RedisEndpoint(**raw["redis"]) if raw["redis"] else None
        return cls(**{**raw, "redis": redis, "api_urls": tuple(raw["api_urls"])})
