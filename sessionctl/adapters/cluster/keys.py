"""``KeyVault``: the Secret of the API keys in the platform namespace, one entry per key."""

from __future__ import annotations

import base64
from typing import TYPE_CHECKING

from sessionctl.adapters.cluster import objects
from sessionctl.errors import ConfigurationError, NotFoundError
from sessionctl.labels import API_KEYS_SECRET

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessionctl.adapters.cluster.client import KubernetesClient


class KeySecret:
    """Reads and patches the Secret."""

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self._client = client
        self._where = f"{namespace}/{API_KEYS_SECRET}"
        self._path = f"/api/v1/namespaces/{namespace}/secrets/{API_KEYS_SECRET}"

    async def read(self) -> tuple[Mapping[str, str], str]:
        """See ``ports.KeyVault``."""
        found = await self._client.find(self._path)
        if found is None:
            raise self._missing()
        entries = {
            name: base64.b64decode(str(value)).decode(errors="replace")
            for name, value in objects.child(found, "data").items()
        }
        return entries, objects.resource_version(found)

    async def write(self, key_id: str, entry: str | None, version: str) -> None:
        """See ``ports.KeyVault``."""
        value = base64.b64encode(entry.encode()).decode() if entry is not None else None
        try:
            await self._client.merge_patch(
                self._path, {"metadata": {"resourceVersion": version}, "data": {key_id: value}}
            )
        except NotFoundError:
            raise self._missing() from None

    def _missing(self) -> ConfigurationError:
        msg = f"the Secret {self._where} is missing"
        return ConfigurationError(msg, hint="Upgrade the platform release; it makes that Secret.")
