"""A Secret as files, as kubelet mounts it.

`python -m tools.localcluster.secret_mount KUBECONFIG NAMESPACE NAME FOLDER`. Each entry is a link through `..data`,
itself a link that is replaced in one step: readers see all of the old entries or all of the new.
"""

from __future__ import annotations

import base64
import shutil
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.localcluster.api import Api, ApiError, Object

if TYPE_CHECKING:
    from collections.abc import Mapping

_WATCH_SECONDS: Final = 300
_PAUSE_SECONDS: Final = 0.2
_CURRENT: Final = "..data"


@dataclass(frozen=True)
class SecretMount:
    """One Secret and the folder that follows it."""

    api: Api
    namespace: str
    name: str
    folder: Path

    def follow(self) -> None:
        """Write what there is, then each change, for ever."""
        while True:
            try:
                self._follow_once()
            except (ApiError, OSError):
                # The API server may be away for as long as a test likes.
                time.sleep(_PAUSE_SECONDS)

    def _follow_once(self) -> None:
        path = f"/api/v1/namespaces/{self.namespace}/secrets"
        listed = self.api.get(path)
        present = [found for found in listed["items"] if found["metadata"]["name"] == self.name]
        write_entries(self.folder, _entries(present[0]) if present else {})
        for kind, found in self.api.watch(path, listed["metadata"]["resourceVersion"], _WATCH_SECONDS):
            if found["metadata"]["name"] == self.name:
                write_entries(self.folder, {} if kind == "DELETED" else _entries(found))


def write_entries(folder: Path, entries: Mapping[str, bytes]) -> None:
    """Replace what the folder shows."""
    current = folder / _CURRENT
    before = folder / current.readlink() if current.is_symlink() else None
    fresh = folder / f"..{time.time_ns()}"
    fresh.mkdir(mode=0o700)
    for name, content in entries.items():
        (fresh / name).write_bytes(content)
    draft = folder / "..data_tmp"
    draft.unlink(missing_ok=True)
    draft.symlink_to(fresh.name)
    draft.rename(current)
    for name in entries:
        if not (folder / name).is_symlink():
            (folder / name).symlink_to(f"{_CURRENT}/{name}")
    for entry in folder.iterdir():
        if not entry.name.startswith("..") and entry.name not in entries:
            entry.unlink()
    if before is not None:
        shutil.rmtree(before, ignore_errors=True)


def _entries(secret: Object) -> dict[str, bytes]:
    return {name: base64.b64decode(value) for name, value in (secret.get("data") or {}).items()}


def main() -> int:
    """Follow until killed."""
    kubeconfig, namespace, name, folder = sys.argv[1:]
    SecretMount(Api.from_kubeconfig(Path(kubeconfig)), namespace, name, Path(folder)).follow()
    return 0


if __name__ == "__main__":
    sys.exit(main())
