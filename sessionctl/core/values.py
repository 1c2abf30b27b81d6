"""Values of a session's release: platform defaults, then the profile, then what only sessionctl knows."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import TYPE_CHECKING

from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from collections.abc import Mapping

    from sessionctl.models import JsonObject, JsonValue, Owner
    from sessionctl.settings import Platform, Settings

RESERVED = frozenset({"session", "agent.token", "redis", "platform", "scaling"})
"""What a profile may not set: it belongs to the session or the platform."""


@dataclass(frozen=True)
class ValuesBuilder:
    """Builds values for one platform; pure."""

    settings: Settings
    platform: Platform
    platform_namespace: str

    def build(self, owner: Owner, profile_values: JsonObject, agent_token: str) -> JsonObject:
        """Return the whole document that Helm gets; raises ConfigurationError for a reserved block."""
        for source, values in (("sessions.values", self.settings.sessions.values), ("profile", profile_values)):
            if taken := [path for path in sorted(RESERVED) if _is_set(values, path)]:
                msg = f"{source} sets {taken[0]}, which belongs to sessionctl"
                raise ConfigurationError(msg, hint=f"Leave out: {', '.join(sorted(RESERVED))}.")
        redis, scaling = self.platform.redis, self.settings.scaling
        own: JsonObject = {
            "session": {
                "userId": owner.user_id,
                "tenant": owner.tenant,
                "profile": owner.profile,
                "createdAt": owner.created_at.isoformat(),
                "values": json.dumps(profile_values, sort_keys=True),
            },
            "agent": {"token": agent_token},
            "redis": {
                "address": f"{redis.host}:{redis.port}",
                "database": redis.database,
                "tls": redis.tls,
                "kedaSecret": self.platform.keda.secret_name,
            },
            "platform": {"namespace": self.platform_namespace},
            "scaling": {
                "pollingInterval": scaling.polling_interval,
                "cooldownPeriod": scaling.cooldown_period,
            },
        }
        return merge(merge(self.settings.sessions.values, profile_values), own)


def _is_set(values: Mapping[str, JsonValue], path: str) -> bool:
    name, _, below = path.partition(".")
    if not below or name not in values:
        return name in values
    block = values[name]
    # What is no block would be replaced by ours without a word.
    return _is_set(block, below) if isinstance(block, dict) else True


def merge(base: Mapping[str, JsonValue], over: Mapping[str, JsonValue]) -> JsonObject:
    """Return ``base`` with ``over`` laid on it, mapping by mapping, as Helm merges values."""
    merged = dict(base)
    for key, value in over.items():
        present = merged.get(key)
        merged[key] = merge(present, value) if isinstance(present, dict) and isinstance(value, dict) else value
    return merged
