"""Names, labels and annotations of a session's objects: the one place where they are spelled.

The chart spells them once more, in ``templates/_helpers.tpl``; a test renders it and compares.
"""

from __future__ import annotations

import hashlib
import re
from typing import Final

FIELD_MANAGER: Final = "sessionctl"

PART_OF_LABEL: Final = "app.kubernetes.io/part-of"
COMPONENT_LABEL: Final = "app.kubernetes.io/component"
PART_OF: Final = "sessionctl"
WORKSPACE_COMPONENT: Final = "workspace"
WORKSPACE_SELECTOR: Final = f"{PART_OF_LABEL}={PART_OF},{COMPONENT_LABEL}={WORKSPACE_COMPONENT}"

UUID_LABEL: Final = "uuid"
TENANT_LABEL: Final = "sessionctl.dev/tenant"
USER_LABEL: Final = "sessionctl.dev/user"

USER_ID: Final = "sessionctl.dev/user-id"
TENANT: Final = "sessionctl.dev/tenant"
PROFILE: Final = "sessionctl.dev/profile"
CREATED_AT: Final = "sessionctl.dev/created-at"
VALUES: Final = "sessionctl.dev/values"
WOKEN_AT: Final = "sessionctl.dev/woken-at"
SLEPT_AT: Final = "sessionctl.dev/slept-at"
FAILED: Final = "sessionctl.dev/failed"
DELETED_AT: Final = "sessionctl.dev/deleted-at"
PURGE: Final = "sessionctl.dev/purge"
FORCE_ACTIVATION: Final = "autoscaling.keda.sh/force-activation"

EDITOR_PORT: Final = 8080
AGENT_PORT: Final = 8081
"""Both of the session's Service, and of its pod."""

PLATFORM_CONFIGMAP: Final = "sessionctl-platform"
API_KEYS_SECRET: Final = "sessionctl-api-keys"  # noqa: S105 - the name of one

USER_HASH_LENGTH: Final = 40
SESSION_ID: Final = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
"""A canonical lower-case version 4 UUID (RFC 4122)."""
MESSAGE_ID: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_-]{0,127}")


def object_name(session_id: str) -> str:
    """Name of the session's Deployment, Service, volume and other objects; a Service may not start with a digit."""
    return f"user-{session_id}"


def scaler_name(session_id: str) -> str:
    """Name of the session's ScaledObject."""
    return f"user-{session_id}-scaler"


def session_url(session_id: str, domain: str) -> str:
    """Address of the session's editor."""
    return f"https://vs-code-{session_id}.{domain}/"


def user_hash(user_id: str) -> str:
    """Label-safe stand-in for a user id: the first 40 hex digits of its SHA-256."""
    return hashlib.sha256(user_id.encode()).hexdigest()[:USER_HASH_LENGTH]
