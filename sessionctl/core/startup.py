"""Why a session that should be awake has no ready pod, from what the cluster shows of it.

| seen                                             | said                                              |
|--------------------------------------------------|---------------------------------------------------|
| no pod, ReplicaFailure on the Deployment         | its pod cannot be made, and why                   |
| only pods that are ending                        | waiting for the old pod to end                    |
| only pods that are over                          | why its node ended or refused it                  |
| not scheduled: ReadWriteOncePod in use           | its volume is still in use by another pod         |
| not scheduled: claim Pending                     | its volume is being made, and its newest event    |
| not scheduled: anything else                     | the scheduler's own message                       |
| a container waits: image                         | the image, and the kubelet's message              |
| a container waits: CrashLoopBackOff, or ended    | exit code and reason, such as OOMKilled           |
| a container waits: anything else                 | the kubelet's word and message                    |
| containers are being created                     | the pod's newest event: FailedMount, Pulling, ... |
| containers run                                   | the agent does not answer: not yet, or no longer  |
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.labels import object_name

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import Container, Pod, Volume, Workspace
    from sessionctl.ports import ClusterView

LONGEST: Final = 250
"""Characters of a reason: four bytes each, they still fit in the KiB that an annotation of ours may take."""

_UNUSABLE_IMAGE: Final = frozenset(
    {"ErrImagePull", "ImagePullBackOff", "ErrImageNeverPull", "InvalidImageName", "ImageInspectError"}
)
_BEING_CREATED: Final = frozenset({"", "ContainerCreating", "PodInitializing"})
_IN_USE: Final = "ReadWriteOncePod access mode already in-use"
_LAST_RESORTS: Final = re.compile(r" (no new claims to deallocate|preemption:).*", re.DOTALL)
"""Here the scheduler begins to say what else it tried in vain, such as throwing out other pods."""


@dataclass(frozen=True)
class Reason:
    """One sentence; ``ask`` is the object, kind and name, whose events may say more."""

    text: str
    ask: tuple[str, str] | None = None


async def look_up(cluster: ClusterView, workspace: Workspace, volume: Volume | None, pods: Sequence[Pod]) -> str:
    """Return the reason in one clean line; reads events only where the pod itself does not say."""
    reason = explain(workspace, volume, pods)
    trouble = await cluster.find_trouble(*reason.ask) if reason.ask else None
    return tidy(f"{reason.text}: {trouble}" if trouble else reason.text)


def explain(workspace: Workspace, volume: Volume | None, pods: Sequence[Pod]) -> Reason:
    """Say why a session at replicas 1 is not ready."""
    if damage := volume_damage(workspace, volume):
        return Reason(damage)
    live = [pod for pod in pods if not pod.ending]
    if not live:
        if workspace.create_failure:
            return Reason(f"its pod cannot be made: {workspace.create_failure}")
        return Reason("it waits for its old pod to end" if pods else "its pod is not made yet")
    pod = newest(live)
    if pod.is_over:
        return Reason(f"its pod was ended by its node: {pod.ended_by or 'no reason given'}")
    if not pod.scheduled:
        return _unscheduled(workspace, pod, volume)
    for container in pod.containers:
        if trouble := _trouble(container):
            return Reason(trouble)
    return _under_way(pod)


def volume_damage(workspace: Workspace, volume: Volume | None) -> str | None:
    """Say what is wrong with the files of a session; None when nothing is."""
    if not workspace.keeps_volume:
        return None
    if volume is None:
        return "its volume is missing; it is never started on an empty one"
    if volume.phase == "Lost":
        return "its volume is lost: the PersistentVolume with its files is gone; it is never started on an empty one"
    if volume.being_removed:
        return "its volume is being removed"
    return None


def newest(pods: Sequence[Pod]) -> Pod:
    """Return the pod that counts: what was evicted or refused stays behind beside the one that takes its place."""
    return max(pods, key=lambda pod: (not pod.is_over, pod.created_at))


def has_started(pods: Sequence[Pod]) -> bool:
    """Whether the agent has answered since its container runs: somebody may be at work, though it is not ready."""
    live = [pod for pod in pods if not pod.ending and not pod.is_over]
    if not live:
        return False
    containers = newest(live).containers
    # An init container that did its work counts neither way.
    serving = [c for c in containers if c.running or c.waiting or c.exit_code != 0]
    # A ready pod is seen here before the deployment controller has told of it.
    return newest(live).ready or (bool(serving) and all(c.running and c.started for c in serving))


def tidy(text: str) -> str:
    """Return foreign text as one line without control characters, of bounded length."""
    line = " ".join("".join(c if c.isprintable() else " " for c in text).split())
    return line if len(line) <= LONGEST else f"{line[: LONGEST - 1]}…"


def _unscheduled(workspace: Workspace, pod: Pod, volume: Volume | None) -> Reason:
    message = _LAST_RESORTS.sub("", pod.unschedulable).rstrip(".")
    if _IN_USE in message:
        return Reason("its volume is still in use by another pod, which has to end first")
    claim = ("PersistentVolumeClaim", object_name(workspace.session_id))
    if volume is not None and volume.phase == "Pending" and (not message or "PersistentVolumeClaim" in message):
        return Reason(f"its volume is not there yet ({message})" if message else "its volume is being made", claim)
    return Reason(f"no node takes its pod (Unschedulable): {message}" if message else "its pod waits for a node")


def _trouble(container: Container) -> str | None:
    name, word = container.name, container.waiting
    if word in _UNUSABLE_IMAGE:
        return f"its image {container.image} cannot be had ({word}): {container.message or 'no reason given'}"
    if word == "CrashLoopBackOff":
        return f"its container {name} keeps ending ({word}): {_exit(container)}"
    if word not in _BEING_CREATED:
        return f"its container {name} cannot be started ({word}): {container.message or 'no reason given'}"
    if not container.running and not word and container.exit_code:
        return f"its container {name} ended: {_exit(container)}"
    return None


def _exit(container: Container) -> str:
    restarts = f"{container.restarts} restart{'s' if container.restarts != 1 else ''}" if container.restarts else ""
    code = f"exit code {container.exit_code}" if container.exit_code is not None else ""
    return ", ".join(part for part in (container.exit_reason, code, restarts) if part) or "no reason given"


def _under_way(pod: Pod) -> Reason:
    running = [container for container in pod.containers if container.running]
    if pod.ready:
        return Reason("its pod has just become ready")
    if not running or any(container.waiting for container in pod.containers):
        return Reason("its pod is being set up on its node", ("Pod", pod.name))
    again = next((c for c in running if not c.started and c.restarts), None)
    if again is not None:
        return Reason(f"its agent does not answer yet; its container {again.name} ended before: {_exit(again)}")
    if all(container.started for container in running):
        return Reason("its container runs, but its agent does not answer any more")
    return Reason("its container runs, but its agent does not answer yet")
