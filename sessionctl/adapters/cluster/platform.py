"""What the platform release left in its namespace: configuration, secrets, profiles."""

from __future__ import annotations

import base64
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessionctl.adapters.cluster import objects
from sessionctl.errors import ConfigurationError, NotFoundError
from sessionctl.labels import PLATFORM_CONFIGMAP
from sessionctl.models import PlatformDocuments

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessionctl.adapters.cluster.client import KubernetesClient


class PlatformReader:
    """Reads the platform release's ConfigMaps and Secrets; never writes."""

    def __init__(self, client: KubernetesClient, namespace: str) -> None:
        self._client = client
        self._namespace = namespace

    async def read_documents(self) -> PlatformDocuments:
        """Read the platform's ConfigMap; raises ConfigurationError when no platform is installed there."""
        try:
            data = await self.read_config_map(PLATFORM_CONFIGMAP)
        except NotFoundError as error:
            msg = f"no platform release in the namespace {self._namespace}"
            hint = "Install charts/platform there, or name its namespace with --platform-namespace."
            raise ConfigurationError(msg, hint=hint) from error
        return PlatformDocuments(
            namespace=self._namespace, config=data.get("config.yaml", ""), platform=data.get("platform.yaml", "")
        )

    async def read_config_map(self, name: str) -> Mapping[str, str]:
        """Return a ConfigMap's data; raises NotFoundError."""
        found = await self._client.get(f"/api/v1/namespaces/{self._namespace}/configmaps/{name}")
        return {key: str(value) for key, value in objects.child(found, "data").items()}

    async def read_secret(self, name: str) -> SecretData:
        """Return a Secret's values; raises ConfigurationError when it is not there."""
        where = f"{self._namespace}/{name}"
        try:
            found = await self._client.get(f"/api/v1/namespaces/{self._namespace}/secrets/{name}")
        except NotFoundError as error:
            raise _missing(f"the Secret {where} is missing") from error
        return SecretData(where, {key: str(value) for key, value in objects.child(found, "data").items()})


@dataclass(frozen=True)
class SecretData:
    """The values of one Secret, decoded one by one and never printed."""

    where: str
    encoded: Mapping[str, str] = field(repr=False)

    def value(self, key: str) -> str:
        """Return one value; raises ConfigurationError when it is not there."""
        found = self.find(key)
        if not found:
            raise _missing(f"the Secret {self.where} has no key {key}")
        return found

    def find(self, key: str) -> str | None:
        """Return one value; None when it is not there."""
        return base64.b64decode(self.encoded[key]).decode() if key in self.encoded else None


def _missing(message: str) -> ConfigurationError:
    return ConfigurationError(message, hint="Upgrade the platform release; it makes or names that Secret.")
