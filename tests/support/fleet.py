"""Many sessions in little time: sessionctl makes one with Helm, and the others are its release, written again."""

from __future__ import annotations

import base64
import gzip
import json
from concurrent.futures import ThreadPoolExecutor
from typing import TYPE_CHECKING, Any, Final

import yaml

from sessionctl.core.identity import new_session_id
from sessionctl.core.sessions import NewSession
from sessionctl.labels import user_hash
from tests.support.census import NAMESPACE, VOLUME, Census

if TYPE_CHECKING:
    from sessionctl.factory import Factory
    from sessionctl.models import SessionId
    from tools.localcluster import LocalCluster

TENANT: Final = "default"
MODEL: Final = "the-model-of-the-fleet"
AT_ONCE: Final = 4
_PLURALS: Final = {"NetworkPolicy": "networkpolicies", "PersistentVolumeClaim": VOLUME}


async def make_fleet(factory: Factory, cluster: LocalCluster, count: int) -> list[SessionId]:
    """Return sessions that sleep, each of a user of its own; all but their agents' tokens is as Helm makes it."""
    service = await factory.create_session_service()
    made = await service.create(NewSession(user_id=MODEL, tenant=TENANT, profile="default"))
    model = made.session_id
    copies = {new_session_id(): f"user-{number}" for number in range(1, count)}
    secret = Census(cluster).api.get(_path("Secret", f"sh.helm.release.v1.{model}.v1"))
    with ThreadPoolExecutor(AT_ONCE) as pool:
        list(pool.map(lambda item: _copy(cluster, secret, model, *item), copies.items()))
    for workspace in await factory.cluster.list_workspaces():
        assert await factory.store.ensure_record(workspace)
    return [model, *copies]


def _copy(cluster: LocalCluster, secret: dict[str, Any], model: SessionId, session_id: SessionId, user: str) -> None:
    """Write the objects of the model's release, and then the release, for another session and its user."""
    api = Census(cluster).api

    def renamed(text: str) -> str:
        for old, new in ((model, session_id), (user_hash(MODEL), user_hash(user)), (MODEL, user)):
            text = text.replace(old, new)
        return text

    release = renamed(gzip.decompress(base64.b64decode(base64.b64decode(secret["data"]["release"]))).decode())
    for item in yaml.load_all(json.loads(release)["manifest"], Loader=yaml.CSafeLoader):
        annotations = {"meta.helm.sh/release-name": session_id, "meta.helm.sh/release-namespace": NAMESPACE}
        item["metadata"]["annotations"] = {**item["metadata"].get("annotations", {}), **annotations}
        api.apply(_path(item["kind"], item["metadata"]["name"]), item, manager="helm")
    packed = base64.b64encode(base64.b64encode(gzip.compress(release.encode())))
    metadata = {"name": renamed(secret["metadata"]["name"]), "labels": json.loads(renamed(json.dumps(_labels(secret))))}
    api.create(
        _path("Secret"),
        {
            "apiVersion": "v1",
            "kind": "Secret",
            "type": secret["type"],
            "metadata": metadata,
            "data": {"release": packed.decode()},
        },
    )


def _labels(secret: dict[str, Any]) -> dict[str, str]:
    labels: dict[str, str] = secret["metadata"]["labels"]
    return labels


def _path(kind: str, name: str = "") -> str:
    return Census.path(_PLURALS.get(kind, f"{kind.lower()}s"), name)
