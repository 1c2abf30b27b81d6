"""A session's release: built from its owner and profile, installed, and taken away again."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING, Final

from sessionctl.core.identity import agent_token
from sessionctl.core.values import merge
from sessionctl.errors import ConfigurationError, ConflictError

if TYPE_CHECKING:
    from sessionctl.core.values import ValuesBuilder
    from sessionctl.models import JsonObject, Owner, Release, SessionId, Volume
    from sessionctl.ports import Clock, Cluster, Helm, ProfileRenderer

UPGRADE_ATTEMPTS: Final = 5
UPGRADE_PAUSE_SECONDS: Final = 0.3


class ReleaseService:
    """Helm releases of sessions; never on the wake path. ``chart`` is the chart's name and version."""

    def __init__(
        self,
        *,
        helm: Helm,
        cluster: Cluster,
        clock: Clock,
        profiles: ProfileRenderer,
        builder: ValuesBuilder,
        platform_key: str,
        chart: str,
    ) -> None:
        self._helm = helm
        self._cluster = cluster
        self._clock = clock
        self._profiles = profiles
        self._builder = builder
        self._platform_key = platform_key
        self.chart = chart

    def values_for(self, session_id: SessionId, owner: Owner) -> JsonObject:
        """Return the values of a new session; raises NotFoundError (profile) and ConfigurationError."""
        context = {
            "uuid": session_id,
            "user_id": owner.user_id,
            "tenant": owner.tenant,
            "profile": owner.profile,
        }
        rendered = self._profiles.render(owner.profile, context)
        return self._builder.build(owner, rendered, agent_token(self._platform_key, session_id))

    def values_from(self, volume: Volume) -> JsonObject:
        """Return the values of a session whose volume remembers them; raises ConfigurationError."""
        try:
            remembered = json.loads(volume.values)
        except ValueError:
            remembered = None
        if not isinstance(remembered, dict):
            msg = f"the volume of session {volume.session_id} does not carry its values any more"
            raise ConfigurationError(
                msg, hint="Its annotation sessionctl.dev/values must be a JSON object, such as {}."
            )
        values = self._builder.build(volume.owner, remembered, agent_token(self._platform_key, volume.session_id))
        # What the volume is cannot be changed any more, whatever the platform's values say today.
        return merge(values, {"persistence": _persistence(volume)})

    async def check_helm(self) -> str:
        """Return Helm's version; raises HelmError before anything is begun."""
        return await self._helm.check()

    async def find(self, session_id: SessionId) -> Release | None:
        """Return the session's release in whatever state it is."""
        return await self._helm.find_release(session_id)

    async def install(self, session_id: SessionId, values: JsonObject) -> None:
        """Install the release; raises ConflictError when the name is in use."""
        await self._helm.install(session_id, values)

    async def upgrade(self, session_id: SessionId, values: JsonObject) -> None:
        """Upgrade the release; a session that wakes or sleeps meanwhile is rendered again (DESIGN 3)."""
        for attempt in range(UPGRADE_ATTEMPTS):
            try:
                await self._helm.upgrade(session_id, values)
            except ConflictError:
                if attempt == UPGRADE_ATTEMPTS - 1:
                    raise
                await self._clock.sleep(UPGRADE_PAUSE_SECONDS)
            else:
                return

    async def uninstall(self, session_id: SessionId) -> None:
        """Remove the release; the volume stays."""
        await self._helm.uninstall(session_id)

    async def discard(self, session_id: SessionId) -> None:
        """Undo an install that never ended: release and volume go; killed midway, reconcile goes on."""
        await self._cluster.mark_volume_deleted(session_id, self._clock.now(), purge=True)
        await self._helm.uninstall(session_id)
        await self._cluster.remove_volume(session_id)


def _persistence(volume: Volume) -> JsonObject:
    shape: JsonObject = {"type": "pvc"}
    if volume.size:
        shape["size"] = volume.size
    if volume.access_mode:
        shape["accessMode"] = volume.access_mode
    if volume.storage_class:
        shape["storageClassName"] = volume.storage_class
    return shape
