"""What cluster and Redis hold of sessions: looked at from outside, without the code under test."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Final

from redis import Redis

from tools.localcluster.api import Api

if TYPE_CHECKING:
    from collections.abc import Iterable

    from tools.localcluster import LocalCluster

Object = dict[str, Any]

NAMESPACE: Final = "sessions"
VOLUME: Final = "persistentvolumeclaims"
_PATHS: Final = {
    "deployments": "/apis/apps/v1",
    "services": "/api/v1",
    "configmaps": "/api/v1",
    "secrets": "/api/v1",
    "networkpolicies": "/apis/networking.k8s.io/v1",
    "scaledobjects": "/apis/keda.sh/v1alpha1",
    "triggerauthentications": "/apis/keda.sh/v1alpha1",
}
PARTS: Final = frozenset(_PATHS)
"""The kinds of one session's objects besides its volume and its pods (DESIGN 3)."""

HISTORY: Final = frozenset({"events", "marks"})
"""Keys that outlive their session and end by themselves."""
DELETED_AT: Final = "sessionctl.dev/deleted-at"
PURGE: Final = "sessionctl.dev/purge"


@dataclass
class Remains:
    """What is there of one session.

    Attributes:
        releases: Status of each revision Helm remembers, oldest first.
        objects: Kind to object.
        keys: Kinds of its Redis keys, such as "session" and "queue"; "user" for its entry in the index; no history.
    """

    uuid: str
    releases: dict[int, str] = field(default_factory=dict)
    objects: dict[str, Object] = field(default_factory=dict)
    volume: Object | None = None
    keys: set[str] = field(default_factory=set)

    @property
    def volume_uid(self) -> str | None:
        """Which volume it is: another one of the same name would have other files."""
        return str(self.volume["metadata"]["uid"]) if self.volume else None

    @property
    def is_complete(self) -> bool:
        """Whether it is a whole session that nobody deleted."""
        return (
            self.releases.get(max(self.releases, default=0)) == "deployed"
            and self.objects.keys() == PARTS
            and self.volume is not None
            and not self._marks(self.volume)
            and not self._marks(self.objects["deployments"])
            and self.keys - {"queue"} == {"session", "user"}
        )

    @property
    def is_gone(self) -> bool:
        """Whether nothing is left of it; a tombstone, which ends by itself, may stand."""
        return not self.releases and not self.objects and self.volume is None and self.keys <= {"deleted"}

    @property
    def is_deleted(self) -> bool:
        """Whether only its volume is left, marked so that it can be restored."""
        return (
            not self.releases
            and not self.objects
            and self.volume is not None
            and "deletionTimestamp" not in self.volume["metadata"]
            and self._marks(self.volume) == {DELETED_AT}
            and self.keys == {"deleted"}
        )

    def _marks(self, item: Object) -> set[str]:
        return {DELETED_AT, PURGE}.intersection(item["metadata"].get("annotations", {}))

    def __str__(self) -> str:
        marks = sorted(self._marks(self.volume)) if self.volume else None
        return f"{self.uuid}: {self.releases} {sorted(self.objects)} volume {marks} keys {sorted(self.keys)}"


@dataclass(frozen=True)
class Census:
    """Looks at every session of a cluster at once."""

    cluster: LocalCluster

    def take(self, uuids: Iterable[str]) -> dict[str, Remains]:
        """Return what there is of these sessions."""
        found = {uuid: Remains(uuid) for uuid in uuids}
        api = self.api
        for kind in (*_PATHS, VOLUME):
            for item in api.get(self.path(kind))["items"]:
                labels = item["metadata"].get("labels", {})
                if item.get("type") == "helm.sh/release.v1":
                    if labels["name"] in found:
                        found[labels["name"]].releases[int(labels["version"])] = labels["status"]
                elif (remains := found.get(labels.get("uuid"))) is not None:
                    if kind == VOLUME:
                        remains.volume = item
                    else:
                        remains.objects[kind] = item
        for kind, uuid in self._keys():
            if uuid in found and kind not in HISTORY:
                found[uuid].keys.add(kind)
        return found

    def of(self, uuid: str) -> Remains:
        """Return what there is of one session."""
        return self.take([uuid])[uuid]

    @property
    def api(self) -> Api:
        """The API server, as administrator."""
        return Api.from_kubeconfig(self.cluster.kubeconfig)

    @staticmethod
    def path(kind: str, name: str = "") -> str:
        """Return the path of a kind's objects, or of one."""
        collection = f"{_PATHS.get(kind, '/api/v1')}/namespaces/{NAMESPACE}/{kind}"
        return f"{collection}/{name}" if name else collection

    def redis(self) -> Redis:
        """Return a client of Redis; a context manager."""
        redis = self.cluster.redis
        return Redis(host=redis.host, port=redis.port, password=redis.password, decode_responses=True)

    def wipe(self, uuids: Iterable[str]) -> None:
        """Remove what is left of these sessions, without asking the code under test."""
        api = self.api
        for uuid, remains in self.take(uuids).items():
            for kind, item in remains.objects.items():
                api.delete(self.path(kind, item["metadata"]["name"]))
            if remains.volume:
                api.delete(self.path(VOLUME, f"user-{uuid}"))
            for version in remains.releases:
                api.delete(self.path("secrets", f"sh.helm.release.v1.{uuid}.v{version}"))
            with self.redis() as redis:
                for kind in remains.keys - {"user"}:
                    redis.delete(f"{kind}:{uuid}")

    def _keys(self) -> list[tuple[str, str]]:
        found = []
        with self.redis() as redis:
            for key in redis.scan_iter(count=1000):
                kind, _, rest = str(key).partition(":")
                if kind == "user":
                    found += [("user", str(member)) for member in redis.sscan_iter(key)]
                else:
                    found.append((kind, rest))
        return found
