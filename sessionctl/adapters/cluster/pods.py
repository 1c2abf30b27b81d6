"""Pods and events to models: the only place that knows the shapes in which scheduler and kubelet report."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.cluster.objects import child, condition, moment, session_id, whole
from sessionctl.models import Container, Pod, Trouble

if TYPE_CHECKING:
    from sessionctl.models import JsonObject

_OVER: Final = frozenset({"Failed", "Succeeded"})
_PULLING: Final = "Pulling"
_QUIET: Final = (
    "Created",
    "FailedScheduling",
    "KEDAScaleTargetActivated",
    "KEDAScaleTargetDeactivated",
    "Killing",
    "Pulled",
    "ScalingReplicaSet",
    "Scheduled",
    "Started",
    "SuccessfulCreate",
    "SuccessfulDelete",
)
"""What is said of every start and end, and of a pod that had no node at first."""
TELLING_EVENTS: Final = ",".join(f"reason!={reason}" for reason in _QUIET)
"""A field selector: the API server itself leaves those out."""
_LONG_AGO: Final = datetime.fromtimestamp(0, UTC)


def pod(item: JsonObject) -> Pod:
    """Read a pod."""
    metadata, status = child(item, "metadata"), child(item, "status")
    scheduled = condition(item, "PodScheduled")
    return Pod(
        name=str(metadata.get("name", "")),
        created_at=moment(metadata.get("creationTimestamp")) or _LONG_AGO,
        session_id=session_id(item),
        is_over=status.get("phase") in _OVER,
        ending="deletionTimestamp" in metadata,
        scheduled=bool(child(item, "spec").get("nodeName")),
        ready=condition(item, "Ready").get("status") == "True",
        unschedulable=str(scheduled.get("message", "")) if scheduled.get("status") == "False" else "",
        ended_by=_said(status),
        containers=(
            *_containers(item, "initContainers", "initContainerStatuses"),
            *_containers(item, "containers", "containerStatuses"),
        ),
    )


def trouble(event: JsonObject) -> Trouble | None:
    """Read an event; None for one that does not say what is in the way of a claim, or of a pod that has its node."""
    reason = event.get("reason")
    if reason in _QUIET or (event.get("type") != "Warning" and reason != _PULLING):
        return None
    about = child(event, "involvedObject")
    return Trouble(
        name=str(child(event, "metadata").get("name", "")),
        about_kind=str(about.get("kind", "")),
        about_name=str(about.get("name", "")),
        text=str(event.get("message", "")) if reason == _PULLING else _said(event),
        seen_at=_seen_at(event),
    )


def _containers(item: JsonObject, specified: str, reported: str) -> list[Container]:
    # The image is taken from the specification: the status may name it by its digest, as nobody wrote it.
    listed, statuses = child(item, "spec").get(specified), child(item, "status").get(reported)
    images = {child(c).get("name"): str(child(c).get("image", "")) for c in listed} if isinstance(listed, list) else {}
    found = [child(status) for status in statuses] if isinstance(statuses, list) else []
    changed_at = moment(condition(item, "Ready").get("lastTransitionTime"))
    return [
        _container(status, images.get(status.get("name"), str(status.get("image", ""))), changed_at) for status in found
    ]


def _container(status: JsonObject, image: str, ready_changed_at: datetime | None) -> Container:
    started_at = moment(child(status, "state", "running").get("startedAt"))
    # Without a startup probe kubelet says `started` of whatever runs. One that was never ready since it runs has the
    # condition it had before.
    never_ready = ready_changed_at is not None and started_at is not None and ready_changed_at <= started_at
    waiting = child(status, "state", "waiting")
    exited = child(status, "state", "terminated") or child(status, "lastState", "terminated")
    return Container(
        name=str(status.get("name", "")),
        image=image,
        running="running" in child(status, "state"),
        started=status.get("started") is True and not (never_ready and status.get("ready") is not True),
        waiting=str(waiting.get("reason", "")),
        message=str(waiting.get("message") or exited.get("message") or ""),
        restarts=whole(status.get("restartCount")),
        exit_code=whole(exited["exitCode"]) if "exitCode" in exited else None,
        exit_reason=str(exited.get("reason", "")),
    )


def _said(status: JsonObject) -> str:
    return ": ".join(str(status[part]) for part in ("reason", "message") if status.get(part))


def _seen_at(event: JsonObject) -> datetime:
    # Written by two generations of clients: the older fills lastTimestamp, the newer eventTime and series.
    stamps = (
        child(event, "series").get("lastObservedTime"),
        event.get("lastTimestamp"),
        event.get("eventTime"),
        event.get("firstTimestamp"),
    )
    return next((found for found in map(moment, stamps) if found), _LONG_AGO)
