"""API objects to models: the only place that knows the shape of a Deployment, a claim and a ScaledObject."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING

from sessionctl import labels
from sessionctl.models import JsonObject, Owner, Scaler, SessionId, Volume, Workspace

if TYPE_CHECKING:
    from sessionctl.models import JsonValue


def child(value: JsonValue, *names: str) -> JsonObject:
    """Return the object at a path; empty where any part of it is missing."""
    for name in names:
        value = value.get(name) if isinstance(value, dict) else None
    return value if isinstance(value, dict) else {}


def items(listing: JsonObject) -> list[JsonObject]:
    """Return the objects of a list."""
    found = listing.get("items")
    return [item for item in found if isinstance(item, dict)] if isinstance(found, list) else []


def condition(item: JsonObject, kind: str) -> JsonObject:
    """Return one condition of an object's status; empty when it is not there."""
    found = child(item, "status").get("conditions")
    return next((child(c) for c in found if child(c).get("type") == kind), {}) if isinstance(found, list) else {}


def resource_version(item: JsonObject) -> str:
    """Return the resource version of an object or a list."""
    return str(child(item, "metadata").get("resourceVersion", ""))


def workspace(item: JsonObject) -> Workspace:
    """Read a session's Deployment."""
    annotations = child(item, "metadata", "annotations")
    pod_volumes = child(item, "spec", "template", "spec").get("volumes")
    available = condition(item, "Available")
    return Workspace(
        session_id=session_id(item),
        owner=_owner(item),
        resource_version=resource_version(item),
        replicas=whole(child(item, "spec").get("replicas")),
        ready_replicas=whole(child(item, "status").get("readyReplicas")),
        keeps_volume=isinstance(pod_volumes, list) and any(child(v, "persistentVolumeClaim") for v in pod_volumes),
        woken_at=_stamp(annotations.get(labels.WOKEN_AT)),
        slept_at=_stamp(annotations.get(labels.SLEPT_AT)),
        deleted_at=moment(annotations.get(labels.DELETED_AT)),
        purge=annotations.get(labels.PURGE) == "true",
        available_since=moment(available.get("lastTransitionTime")) if available.get("status") == "True" else None,
        unavailable_since=moment(available.get("lastTransitionTime")) if available.get("status") == "False" else None,
        create_failure=str(condition(item, "ReplicaFailure").get("message", "")),
        failed=str(annotations[labels.FAILED]) if annotations.get(labels.FAILED) else None,
    )


def volume(item: JsonObject) -> Volume:
    """Read a session's PersistentVolumeClaim."""
    modes = child(item, "spec").get("accessModes")
    annotations = child(item, "metadata", "annotations")
    return Volume(
        session_id=session_id(item),
        owner=_owner(item),
        values=str(annotations.get(labels.VALUES, "{}")),
        deleted_at=moment(annotations.get(labels.DELETED_AT)),
        purge=annotations.get(labels.PURGE) == "true",
        being_removed="deletionTimestamp" in child(item, "metadata"),
        size=str(child(item, "spec", "resources", "requests").get("storage", "")),
        storage_class=str(child(item, "spec").get("storageClassName", "")),
        access_mode=str(modes[0]) if isinstance(modes, list) and modes else "",
        phase=str(child(item, "status").get("phase", "")),
        resource_version=resource_version(item),
    )


def scaler(item: JsonObject) -> Scaler:
    """Read a session's ScaledObject."""
    return Scaler(
        session_id=session_id(item),
        resource_version=resource_version(item),
        ready=condition(item, "Ready").get("status") == "True",
        nudged=labels.FORCE_ACTIVATION in child(item, "metadata", "annotations"),
        last_active=moment(child(item, "status").get("lastActiveTime")),
    )


def session_id(item: JsonObject) -> SessionId:
    """Return whose object it is; empty for one that is nobody's."""
    return SessionId(str(child(item, "metadata", "labels").get(labels.UUID_LABEL, "")))


def _owner(item: JsonObject) -> Owner:
    metadata = child(item, "metadata")
    annotations, own_labels = child(metadata, "annotations"), child(metadata, "labels")
    created_at = moment(annotations.get(labels.CREATED_AT)) or moment(metadata.get("creationTimestamp"))
    return Owner(
        user_id=str(annotations.get(labels.USER_ID, "")),
        tenant=str(own_labels.get(labels.TENANT_LABEL, "")),
        profile=str(annotations.get(labels.PROFILE, "")),
        created_at=created_at or datetime.fromtimestamp(0, UTC),
    )


def whole(value: JsonValue) -> int:
    """Return a whole number; 0 for anything else."""
    return value if isinstance(value, int) else 0


def _stamp(value: JsonValue) -> int | None:
    return int(value) if isinstance(value, str) and value.isascii() and value.isdigit() else None


def moment(value: JsonValue) -> datetime | None:
    """Return a time, in UTC where it does not say; None for anything else."""
    if not isinstance(value, str):
        return None
    try:
        found = datetime.fromisoformat(value)
    except ValueError:
        return None
    return found if found.tzinfo else found.replace(tzinfo=UTC)
