"""Dynamic volumes on this machine: a hostPath PersistentVolume for each claim that a pod waits for.

A process of its own, for simulated and real nodes alike: `python -m tools.localcluster.provisioner KUBECONFIG FOLDER`.
Every node of a local cluster is this machine, so volumes carry no node affinity and a pod may move.
"""

from __future__ import annotations

import shutil
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING

from tools.localcluster.api import Api, ApiError, Object
from tools.localcluster.models import PROVISIONER

if TYPE_CHECKING:
    from collections.abc import Callable

_CLAIMS = "/api/v1/persistentvolumeclaims"
_VOLUMES = "/api/v1/persistentvolumes"
_CLASSES = "/apis/storage.k8s.io/v1/storageclasses"
# Claims of many sessions that wake for the first time at once are served side by side.
_WORKERS = 8
_WATCH_SECONDS = 300
_PAUSE_SECONDS = 0.2


@dataclass(frozen=True)
class Provisioner:
    """Creates and deletes volumes below one folder."""

    api: Api
    folder: Path

    def provision(self, claim: Object) -> None:
        """Create the volume of a pending claim of our class; the control plane binds the two."""
        annotations = claim["metadata"].get("annotations", {})
        is_ours = annotations.get("volume.kubernetes.io/storage-provisioner") == PROVISIONER
        if not is_ours or claim["spec"].get("volumeName") or claim["status"].get("phase") != "Pending":
            return
        storage_class = self.api.get(f"{_CLASSES}/{claim['spec']['storageClassName']}")
        waits = storage_class.get("volumeBindingMode") == "WaitForFirstConsumer"
        if waits and "volume.kubernetes.io/selected-node" not in annotations:
            return
        path = self.folder / _volume_name(claim)
        path.mkdir(exist_ok=True)
        # hostPath volumes ignore fsGroup: a pod of any user has to be able to write.
        path.chmod(0o777)
        try:
            self.api.create(_VOLUMES, _volume(claim, storage_class, path))
        except ApiError as error:
            if error.status != HTTPStatus.CONFLICT:
                raise

    def reclaim(self, volume: Object) -> None:
        """Delete a released volume of ours and its files, where its policy says so."""
        metadata, spec = volume["metadata"], volume["spec"]
        is_ours = metadata.get("annotations", {}).get("pv.kubernetes.io/provisioned-by") == PROVISIONER
        is_over = (
            volume.get("status", {}).get("phase") == "Released" and spec["persistentVolumeReclaimPolicy"] == "Delete"
        )
        if is_ours and is_over and "deletionTimestamp" not in metadata:
            path = Path(spec["hostPath"]["path"])
            # Never follow what somebody wrote into the object out of our folder.
            if path.parent == self.folder:
                shutil.rmtree(path, ignore_errors=True)
            self.api.delete(f"{_VOLUMES}/{metadata['name']}")

    def run(self) -> None:
        """Serve for ever."""
        with ThreadPoolExecutor(_WORKERS) as pool:
            volumes = threading.Thread(target=self._follow, args=(pool, _VOLUMES, self.reclaim), daemon=True)
            volumes.start()
            self._follow(pool, _CLAIMS, self.provision)

    def _follow(self, pool: ThreadPoolExecutor, path: str, handle: Callable[[Object], None]) -> None:
        """Hand every object to the handler, now and at each change; list again whenever a watch ends."""
        while True:
            try:
                listed = self.api.get(path)
                for item in listed["items"]:
                    pool.submit(self._attempt, handle, item)
                version = listed["metadata"]["resourceVersion"]
                for event, item in self.api.watch(path, version, _WATCH_SECONDS):
                    if event != "DELETED":
                        pool.submit(self._attempt, handle, item)
            except (OSError, ApiError, ValueError) as error:
                _log(f"{path}: {error}")
                time.sleep(_PAUSE_SECONDS)

    def _attempt(self, handle: Callable[[Object], None], item: Object) -> None:
        for _ in range(5):
            try:
                handle(item)
            except (OSError, ApiError) as error:
                _log(f"{item['metadata']['name']}: {error}")
                time.sleep(_PAUSE_SECONDS)
            else:
                return


def _volume_name(claim: Object) -> str:
    return f"pvc-{claim['metadata']['uid']}"


def _volume(claim: Object, storage_class: Object, path: Path) -> Object:
    metadata, spec = claim["metadata"], claim["spec"]
    return {
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": _volume_name(claim), "annotations": {"pv.kubernetes.io/provisioned-by": PROVISIONER}},
        "spec": {
            "capacity": {"storage": spec["resources"]["requests"]["storage"]},
            "accessModes": spec["accessModes"],
            "volumeMode": spec.get("volumeMode", "Filesystem"),
            "persistentVolumeReclaimPolicy": storage_class.get("reclaimPolicy", "Delete"),
            "storageClassName": spec["storageClassName"],
            "claimRef": {
                "apiVersion": "v1",
                "kind": "PersistentVolumeClaim",
                "namespace": metadata["namespace"],
                "name": metadata["name"],
                "uid": metadata["uid"],
            },
            "hostPath": {"path": str(path), "type": "DirectoryOrCreate"},
        },
    }


def _log(text: str) -> None:
    sys.stderr.write(f"{text}\n")
    sys.stderr.flush()


def main() -> None:
    """Run with the kubeconfig and the folder of the command line."""
    kubeconfig, folder = (Path(argument) for argument in sys.argv[1:3])
    Provisioner(Api.from_kubeconfig(kubeconfig), folder).run()


if __name__ == "__main__":
    main()
