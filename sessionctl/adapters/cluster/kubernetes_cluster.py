"""``Cluster`` on a real API server."""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from sessionctl import labels
from sessionctl.adapters.cluster import objects, pods
from sessionctl.adapters.cluster.follow import Item, follow, read_all
from sessionctl.errors import NotFoundError

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
    from datetime import datetime, timedelta

    from sessionctl.adapters.cluster.client import KubernetesClient
    from sessionctl.models import JsonObject, Pod, Scaler, SessionId, Trouble, Volume, WatchEvent, Workspace

_LABELLED_KINDS: Final = {
    "deployment": "/apis/apps/v1/namespaces/{}/deployments",
    "pod": "/api/v1/namespaces/{}/pods",
    "service": "/api/v1/namespaces/{}/services",
    "configmap": "/api/v1/namespaces/{}/configmaps",
    "secret": "/api/v1/namespaces/{}/secrets",
    "persistentvolumeclaim": "/api/v1/namespaces/{}/persistentvolumeclaims",
    "serviceaccount": "/api/v1/namespaces/{}/serviceaccounts",
    "networkpolicy": "/apis/networking.k8s.io/v1/namespaces/{}/networkpolicies",
    "scaledobject": "/apis/keda.sh/v1alpha1/namespaces/{}/scaledobjects",
    "triggerauthentication": "/apis/keda.sh/v1alpha1/namespaces/{}/triggerauthentications",
}


class KubernetesCluster:
    """The sessions namespace."""

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self._client = client
        self._paths = {kind: path.format(namespace) for kind, path in _LABELLED_KINDS.items()}
        self._events = f"/api/v1/namespaces/{namespace}/events"

    def _path(self, kind: str, name: str = "") -> str:
        return f"{self._paths[kind]}/{name}" if name else self._paths[kind]

    def stale_for(self) -> timedelta | None:
        """See ``ports.ClusterView``."""
        return None

    async def find_workspace(self, session_id: SessionId) -> Workspace | None:
        """See ``ports.Cluster``."""
        found = await self._client.find(self._path("deployment", labels.object_name(session_id)))
        return objects.workspace(found) if found else None

    async def list_workspaces(self) -> Sequence[Workspace]:
        """See ``ports.Cluster``."""
        return await self._list("deployment", objects.workspace)

    def watch_workspaces(self, session_id: SessionId | None = None) -> AsyncGenerator[WatchEvent[Workspace], None]:
        """See ``ports.Cluster``."""
        selector = {"labelSelector": labels.WORKSPACE_SELECTOR}
        if session_id:
            selector = {"fieldSelector": f"metadata.name={labels.object_name(session_id)}"}
        return follow(self._client, self._path("deployment"), objects.workspace, **selector)

    def watch_volumes(self) -> AsyncGenerator[WatchEvent[Volume], None]:
        """See ``ports.Cluster``."""
        path, selector = self._path("persistentvolumeclaim"), labels.WORKSPACE_SELECTOR
        return follow(self._client, path, objects.volume, labelSelector=selector)

    def watch_pods(self) -> AsyncGenerator[WatchEvent[Pod], None]:
        """See ``ports.Cluster``."""
        # Pods carry no more labels than this one that tells them from others (DESIGN 3).
        return follow(self._client, self._path("pod"), pods.pod, labelSelector=labels.UUID_LABEL)

    def watch_troubles(self) -> AsyncGenerator[WatchEvent[Trouble], None]:
        """See ``ports.Cluster``."""
        return follow(self._client, self._events, pods.trouble, fieldSelector=pods.TELLING_EVENTS)

    async def wake_workspace(self, session_id: SessionId, woken_at: int) -> None:
        """See ``ports.Cluster``."""
        await self._client.merge_patch(
            self._path("deployment", labels.object_name(session_id)),
            {
                "metadata": {"annotations": {labels.WOKEN_AT: str(woken_at), labels.FAILED: None}},
                "spec": {"replicas": 1},
            },
        )

    async def sleep_workspace(
        self, session_id: SessionId, resource_version: str, slept_at: int, *, failed: str | None = None
    ) -> None:
        """See ``ports.Cluster``."""
        await self._client.merge_patch(
            self._path("deployment", labels.object_name(session_id)),
            {
                "metadata": {
                    "resourceVersion": resource_version,
                    "annotations": {labels.SLEPT_AT: str(slept_at), labels.FAILED: failed},
                },
                "spec": {"replicas": 0},
            },
        )

    async def mark_workspace_slept(self, session_id: SessionId, slept_at: int) -> None:
        """See ``ports.Cluster``."""
        await self._annotate("deployment", session_id, {labels.SLEPT_AT: str(slept_at), labels.FAILED: None})

    async def clear_failure(self, session_id: SessionId) -> None:
        """See ``ports.Cluster``."""
        await self._annotate("deployment", session_id, {labels.FAILED: None})

    async def list_pods(self, session_id: SessionId) -> Sequence[Pod]:
        """See ``ports.Cluster``."""
        listing = await self._client.get(self._path("pod"), labelSelector=f"{labels.UUID_LABEL}={session_id}")
        return [pods.pod(item) for item in objects.items(listing)]

    async def find_trouble(self, kind: str, name: str) -> str | None:
        """See ``ports.Cluster``."""
        selector = f"involvedObject.kind={kind},involvedObject.name={name},{pods.TELLING_EVENTS}"
        found, _ = await read_all(self._client, self._events, pods.trouble, fieldSelector=selector)
        return max(found, key=lambda trouble: trouble.order).text if found else None

    async def mark_workspace_deleted(
        self, session_id: SessionId, at: datetime, *, purge: bool, resource_version: str | None = None
    ) -> None:
        """See ``ports.Cluster``."""
        await self._mark_deleted("deployment", session_id, at, purge=purge, resource_version=resource_version)

    async def find_volume(self, session_id: SessionId) -> Volume | None:
        """See ``ports.Cluster``."""
        found = await self._client.find(self._path("persistentvolumeclaim", labels.object_name(session_id)))
        return objects.volume(found) if found else None

    async def list_volumes(self) -> Sequence[Volume]:
        """See ``ports.Cluster``."""
        return await self._list("persistentvolumeclaim", objects.volume)

    async def mark_volume_deleted(self, session_id: SessionId, at: datetime, *, purge: bool) -> None:
        """See ``ports.Cluster``."""
        await self._mark_deleted("persistentvolumeclaim", session_id, at, purge=purge)

    async def clear_volume_deleted(self, session_id: SessionId) -> None:
        """See ``ports.Cluster``."""
        await self._annotate("persistentvolumeclaim", session_id, {labels.DELETED_AT: None, labels.PURGE: None})

    async def remove_volume(self, session_id: SessionId, resource_version: str | None = None) -> None:
        """See ``ports.Cluster``."""
        path = self._path("persistentvolumeclaim", labels.object_name(session_id))
        await self._client.delete(path, resource_version)

    async def find_scaler(self, session_id: SessionId) -> Scaler | None:
        """See ``ports.Cluster``."""
        found = await self._client.find(self._path("scaledobject", labels.scaler_name(session_id)))
        return objects.scaler(found) if found else None

    async def list_scalers(self) -> Sequence[Scaler]:
        """See ``ports.Cluster``."""
        return await self._list("scaledobject", objects.scaler)

    async def nudge_scaler(self, scaler: Scaler) -> None:
        """See ``ports.Cluster``."""
        await self._client.merge_patch(
            self._path("scaledobject", labels.scaler_name(scaler.session_id)),
            {"metadata": {"annotations": {labels.FORCE_ACTIVATION: None if scaler.nudged else "false"}}},
        )

    async def drop_release_revision(self, session_id: SessionId, revision: int) -> None:
        """See ``ports.Cluster``."""
        await self._client.delete(self._path("secret", f"sh.helm.release.v1.{session_id}.v{revision}"))

    async def list_leftovers(self, session_id: SessionId) -> Sequence[str]:
        """See ``ports.Cluster``."""
        found: list[str] = []
        for kind in self._paths:
            listing = await self._client.get(self._path(kind), labelSelector=f"{labels.UUID_LABEL}={session_id}")
            found += [f"{kind}/{objects.child(item, 'metadata').get('name')}" for item in objects.items(listing)]
        return found

    async def remove_leftovers(self, session_id: SessionId) -> None:
        """See ``ports.Cluster``."""
        for leftover in await self.list_leftovers(session_id):
            kind, _, name = leftover.partition("/")
            if kind not in {"persistentvolumeclaim", "pod"}:
                await self._client.delete(self._path(kind, name))

    async def _list(self, kind: str, read: Callable[[JsonObject], Item]) -> Sequence[Item]:
        found, _ = await read_all(self._client, self._path(kind), read, labelSelector=labels.WORKSPACE_SELECTOR)
        return found

    async def _mark_deleted(
        self, kind: str, session_id: SessionId, at: datetime, *, purge: bool, resource_version: str | None = None
    ) -> None:
        marks: dict[str, str | None] = {labels.DELETED_AT: at.isoformat()}
        if purge:
            marks[labels.PURGE] = "true"
        await self._annotate(kind, session_id, marks, resource_version)

    async def _annotate(
        self,
        kind: str,
        session_id: SessionId,
        annotations: Mapping[str, str | None],
        resource_version: str | None = None,
    ) -> None:
        condition = {} if resource_version is None else {"resourceVersion": resource_version}
        try:
            await self._client.merge_patch(
                self._path(kind, labels.object_name(session_id)),
                {"metadata": {"annotations": dict(annotations), **condition}},
            )
        except NotFoundError:
            return
