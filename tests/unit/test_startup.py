"""Why a session is not ready, from pods in the shapes in which Kubernetes 1.36 reports them."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from sessionctl.adapters.cluster import objects, pods
from sessionctl.core.startup import LONGEST, Reason, explain, has_started, tidy
from sessionctl.core.status import derive
from sessionctl.labels import object_name
from sessionctl.models import Owner, SessionStatus, Volume
from tests.support.sessions import CREATED_AT, make_workspace

WORKSPACE = replace(make_workspace(replicas=1), ready_replicas=0)
VOLUME = Volume(
    session_id=WORKSPACE.session_id,
    owner=Owner("alice", "default", "default", CREATED_AT),
    values="{}",
    deleted_at=None,
    purge=False,
    being_removed=False,
    phase="Bound",
)
CLAIM = ("PersistentVolumeClaim", object_name(WORKSPACE.session_id))
IMAGE = "registry.example.com/team/workspace:1.4"
NODE = "node-1"

Item = dict[str, Any]


def make_pod(
    name: str = "pod-a", *statuses: Item, node: str | None = NODE, phase: str = "Pending", **more: Any
) -> Item:
    """Return a pod with one agent container, as the API server shows it."""
    metadata = {"name": name, "creationTimestamp": "2026-01-01T00:00:00Z"} | more.pop("metadata", {})
    spec: Item = {"containers": [{"name": "agent", "image": IMAGE}, {"name": "editor", "image": IMAGE}]}
    if node:
        spec["nodeName"] = node
    return {"metadata": metadata, "spec": spec, "status": {"phase": phase, "containerStatuses": [*statuses], **more}}


def container(name: str = "agent", **more: Any) -> Item:
    """Return the status of a container."""
    digest = "sha256:" + 64 * "0"
    return {"name": name, "image": digest, "ready": False, "started": False, "restartCount": 0, "lastState": {}, **more}


def waiting(reason: str, message: str = "", **more: Any) -> Item:
    """Return the status of a container that waits."""
    state = {"reason": reason, "message": message} if message else {"reason": reason}
    return container(state={"waiting": state}, **more)


def exited(code: int, reason: str) -> Item:
    """Return the state of a container that ended."""
    times = {"startedAt": "2026-01-01T00:00:01Z", "finishedAt": "2026-01-01T00:00:02Z"}
    return {"terminated": {"exitCode": code, "reason": reason, "containerID": "containerd://0", **times}}


RUNNING: Item = {"running": {"startedAt": "2026-01-01T00:00:01Z"}}


def unscheduled(message: str | None, reason: str = "Unschedulable") -> Item:
    """Return a pod without a node; the scheduler says nothing while it waits for a volume to be made."""
    if message is None:
        return make_pod(node=None)
    condition = {"type": "PodScheduled", "status": "False", "reason": reason, "message": message}
    return make_pod(node=None, conditions=[condition])


ENDING = make_pod("pod-old", container(state=RUNNING), metadata={"deletionTimestamp": "2026-01-01T00:01:00Z"})
NOT_READY = [{"type": "Ready", "status": "False", "reason": "ContainersNotReady"}]

BACK_OFF = "back-off 40s restarting failed container=agent pod=pod-a_sessions(0f0f)"
PULL = f'failed to pull and unpack image "{IMAGE}": failed to resolve reference "{IMAGE}": {IMAGE}: not found'
NEVER = f'Container image "{IMAGE}" is not present with pull policy of Never'
NO_MEMORY = (
    "0/1 nodes are available: 1 Insufficient memory. no new claims to deallocate, preemption: 0/1 nodes are available: "
    "1 Preemption is not helpful for scheduling."
)
IN_USE = (
    "0/1 nodes are available: 1 node(s) unavailable due to PersistentVolumeClaim with ReadWriteOncePod access mode "
    "already in-use by another pod. preemption: 0/1 nodes are available: 1 No preemption victims found for incoming "
    "pod."
)
UNBOUND = "0/1 nodes are available: pod has unbound immediate PersistentVolumeClaims"

CASES = {
    "insufficient memory": (
        [unscheduled(NO_MEMORY)],
        "no node takes its pod (Unschedulable): 0/1 nodes are available: 1 Insufficient memory",
    ),
    "no node at all": (
        [unscheduled("no nodes available to schedule pods")],
        "no node takes its pod (Unschedulable): no nodes available to schedule pods",
    ),
    "the old pod has the volume": (
        [unscheduled(IN_USE), ENDING],
        "its volume is still in use by another pod, which has to end first",
    ),
    "the old pod ends and there is no new one": ([ENDING], "it waits for its old pod to end"),
    "no pod yet": ([], "its pod is not made yet"),
    "no node yet": ([unscheduled(None)], "its pod waits for a node"),
    "image not found": (
        [make_pod("pod-a", waiting("ErrImagePull", PULL))],
        f"its image {IMAGE} cannot be had (ErrImagePull): {PULL}",
    ),
    "image not found, waiting": (
        [make_pod("pod-a", waiting("ImagePullBackOff", f'Back-off pulling image "{IMAGE}"'))],
        f'its image {IMAGE} cannot be had (ImagePullBackOff): Back-off pulling image "{IMAGE}"',
    ),
    "image absent and never pulled": (
        [
            make_pod(
                "pod-a",
                waiting("ErrImageNeverPull", NEVER),
            )
        ],
        f"its image {IMAGE} cannot be had (ErrImageNeverPull): {NEVER}",
    ),
    "image name": (
        [make_pod("pod-a", waiting("InvalidImageName", "Failed to apply default image tag"))],
        f"its image {IMAGE} cannot be had (InvalidImageName): Failed to apply default image tag",
    ),
    "a Secret is missing": (
        [make_pod("pod-a", waiting("CreateContainerConfigError", 'secret "llm" not found'))],
        'its container agent cannot be started (CreateContainerConfigError): secret "llm" not found',
    ),
    "the command is missing": (
        [make_pod("pod-a", waiting("RunContainerError", "exec: not found"), phase="Running")],
        "its container agent cannot be started (RunContainerError): exec: not found",
    ),
    "it keeps ending": (
        [
            make_pod(
                "pod-a",
                waiting("CrashLoopBackOff", BACK_OFF, restartCount=5, lastState=exited(1, "Error")),
                phase="Running",
            )
        ],
        "its container agent keeps ending (CrashLoopBackOff): Error, exit code 1, 5 restarts",
    ),
    "it keeps running out of memory": (
        [
            make_pod(
                "pod-a",
                waiting("CrashLoopBackOff", BACK_OFF, restartCount=1, lastState=exited(137, "OOMKilled")),
                phase="Running",
            )
        ],
        "its container agent keeps ending (CrashLoopBackOff): OOMKilled, exit code 137, 1 restart",
    ),
    "it just ran out of memory": (
        [make_pod("pod-a", container(state=exited(137, "OOMKilled")), phase="Running")],
        "its container agent ended: OOMKilled, exit code 137",
    ),
    "only the second container fails": (
        [
            make_pod(
                "pod-a",
                container(state=RUNNING, started=True, ready=True),
                waiting("CrashLoopBackOff", BACK_OFF, name="editor", restartCount=2, lastState=exited(2, "Error")),
                phase="Running",
            )
        ],
        "its container editor keeps ending (CrashLoopBackOff): Error, exit code 2, 2 restarts",
    ),
    "its agent is not there yet": (
        [make_pod("pod-a", container(state=RUNNING), phase="Running", conditions=NOT_READY)],
        "its container runs, but its agent does not answer yet",
    ),
    "its agent is not there yet after an end": (
        [
            make_pod(
                "pod-a", container(state=RUNNING, restartCount=1, lastState=exited(137, "OOMKilled")), phase="Running"
            )
        ],
        "its agent does not answer yet; its container agent ended before: OOMKilled, exit code 137, 1 restart",
    ),
    "its agent is gone": (
        [make_pod("pod-a", container(state=RUNNING, started=True), phase="Running", conditions=NOT_READY)],
        "its container runs, but its agent does not answer any more",
    ),
    "evicted": (
        [make_pod("pod-a", phase="Failed", reason="Evicted", message="The node was low on resource: memory.")],
        "its pod was ended by its node: Evicted: The node was low on resource: memory.",
    ),
    "refused by the node": (
        [make_pod("pod-a", phase="Failed", reason="OutOfmemory", message="Node didn't have enough resource: memory")],
        "its pod was ended by its node: OutOfmemory: Node didn't have enough resource: memory",
    ),
    "evicted, and another one runs": (
        [
            make_pod("pod-z", phase="Failed", reason="Evicted", metadata={"creationTimestamp": "2026-01-02T00:00:00Z"}),
            make_pod("pod-a", container(state=RUNNING), phase="Running"),
        ],
        "its container runs, but its agent does not answer yet",
    ),
}


@pytest.mark.parametrize("case", CASES)
def test_the_pod_says_why(case: str) -> None:
    items, text = CASES[case]
    assert explain(WORKSPACE, VOLUME, [pods.pod(item) for item in items]) == Reason(text)


@pytest.mark.parametrize(
    ("statuses", "init"),
    [([], []), ([waiting("ContainerCreating")], []), ([waiting("PodInitializing")], [container(state=RUNNING)])],
)
def test_a_pod_that_is_being_set_up_is_asked_for_its_events(statuses: list[Item], init: list[Item]) -> None:
    item = make_pod("pod-a", *statuses, initContainerStatuses=init)
    assert explain(WORKSPACE, VOLUME, [pods.pod(item)]).ask == ("Pod", "pod-a")


def test_without_a_pod_the_deployment_says_why() -> None:
    refused = (
        'pods "user-x" is forbidden: exceeded quota: small, requested: memory=2Gi, used: memory=0, limited: memory=1Gi'
    )
    workspace = replace(WORKSPACE, create_failure=refused)
    assert explain(workspace, VOLUME, []) == Reason(f"its pod cannot be made: {refused}")


@pytest.mark.parametrize(
    ("message", "text"),
    [
        (None, "its volume is being made"),
        (UNBOUND, f"its volume is not there yet ({UNBOUND})"),
    ],
)
def test_a_volume_that_is_not_there_yet_is_asked_for_its_events(message: str | None, text: str) -> None:
    pending = replace(VOLUME, phase="Pending")
    assert explain(WORKSPACE, pending, [pods.pod(unscheduled(message))]) == Reason(text, CLAIM)


def test_a_full_node_is_told_apart_from_a_volume_that_waits_for_it() -> None:
    pending = replace(VOLUME, phase="Pending")
    assert "Insufficient memory" in explain(WORKSPACE, pending, [pods.pod(unscheduled(NO_MEMORY))]).text


@pytest.mark.parametrize(
    ("volume", "text"),
    [
        (None, "its volume is missing"),
        (replace(VOLUME, phase="Lost"), "its volume is lost"),
        (replace(VOLUME, being_removed=True), "its volume is being removed"),
    ],
)
def test_a_damaged_volume_comes_before_what_the_scheduler_makes_of_it(volume: Volume | None, text: str) -> None:
    pod = pods.pod(unscheduled('persistentvolumeclaim "user-x" not found'))
    assert explain(WORKSPACE, volume, [pod]).text.startswith(text)
    for workspace in (WORKSPACE, replace(WORKSPACE, replicas=0)):
        status, reason = derive(workspace, volume, None)
        assert (status, str(reason).startswith(text)) == (SessionStatus.FAILED, True)


def test_somebody_may_be_at_work_on_a_volume_that_is_being_removed() -> None:
    workspace = replace(WORKSPACE, ready_replicas=1)
    status, reason = derive(workspace, replace(VOLUME, being_removed=True), None)
    assert (status, reason) == (SessionStatus.ACTIVE, "its volume is being removed")


def test_a_session_whose_start_was_given_up_is_failed_while_it_sleeps() -> None:
    workspace = replace(WORKSPACE, failed="no node takes its pod")
    assert derive(workspace, VOLUME, None)[0] is SessionStatus.WAKING
    assert derive(replace(workspace, replicas=0), VOLUME, None) == (SessionStatus.FAILED, "no node takes its pod")


@pytest.mark.parametrize(
    ("statuses", "started"),
    [
        ([], False),
        ([container(state=RUNNING)], False),
        ([container(state=RUNNING, started=True)], True),
        ([container(state=RUNNING, started=True), container("editor", state=RUNNING)], False),
        ([container(state=exited(1, "Error"))], False),
        ([waiting("CrashLoopBackOff", BACK_OFF, lastState=exited(0, "Completed"))], False),
    ],
)
def test_somebody_may_be_at_work_where_all_containers_have_started(statuses: list[Item], started: bool) -> None:
    done = container("prepare", state=exited(0, "Completed"))
    item = make_pod("pod-a", *statuses, phase="Running", initContainerStatuses=[done])
    assert has_started([pods.pod(item)]) is started
    assert has_started([pods.pod(item | {"status": {"conditions": [{"type": "Ready", "status": "True"}]}})])
    item["metadata"]["deletionTimestamp"] = "2026-01-01T00:01:00Z"
    assert not has_started([pods.pod(item)])


@pytest.mark.parametrize(
    ("changed_at", "ready", "started"),
    [
        ("2026-01-01T00:00:00Z", False, False),  # as it was before the container ran
        ("2026-01-01T00:00:01Z", False, False),  # a restart: ready until the last one ended
        ("2026-01-01T00:00:09Z", False, True),  # it was ready, and is no longer
        ("2026-01-01T00:00:01Z", True, True),
    ],
)
def test_a_container_that_runs_has_started_when_it_was_ready_once(changed_at: str, ready: bool, started: bool) -> None:
    condition = {"type": "Ready", "status": str(ready), "lastTransitionTime": changed_at}
    status = container(state=RUNNING, started=True, ready=ready)
    assert has_started([pods.pod(make_pod("pod-a", status, phase="Running", conditions=[condition]))]) is started


def test_foreign_text_becomes_one_short_line() -> None:
    assert tidy("a\x1b[31m\r\n\tb \u202e c") == "a [31m b c"
    long = tidy("\U0001f600" * 1000)
    assert len(long) == LONGEST
    assert len(long.encode()) <= 1024


def newest_trouble(*events: Item) -> str | None:
    found = [trouble for event in events if (trouble := pods.trouble(event)) is not None]
    return max(found, key=lambda trouble: trouble.order).text if found else None


def test_the_newest_trouble_is_found_in_both_shapes_of_events() -> None:
    old: Item = {
        "type": "Warning",
        "reason": "FailedMount",
        "message": "timed out",
        "lastTimestamp": "2026-01-01T00:00:05Z",
        "eventTime": None,
    }
    new: Item = {
        "type": "Warning",
        "reason": "FailedCreatePodSandBox",
        "message": "no network",
        "lastTimestamp": None,
        "eventTime": "2026-01-01T00:00:01.000001Z",
        "series": {"count": 4, "lastObservedTime": "2026-01-01T00:00:09.000001Z"},
    }
    assert newest_trouble(new, old) == "FailedCreatePodSandBox: no network"
    assert newest_trouble(new | {"series": None}, old) == "FailedMount: timed out"
    assert newest_trouble() is None


def test_what_is_no_trouble_on_a_node_is_left_out() -> None:
    pull: Item = {"type": "Normal", "reason": "Pulling", "message": f'Pulling image "{IMAGE}"'}
    others: list[Item] = [
        {"type": "Warning", "reason": "FailedScheduling", "message": NO_MEMORY, "eventTime": "2026-01-01T00:00:01Z"},
        {"type": "Normal", "reason": "Scheduled", "message": "assigned", "eventTime": "2026-01-01T00:00:02Z"},
    ]
    assert newest_trouble(*others) is None
    assert newest_trouble(pull, *others) == f'Pulling image "{IMAGE}"'


def test_the_deployment_says_since_when_its_pod_is_missing() -> None:
    def deployment(status: str) -> Item:
        available = {"type": "Available", "status": status, "lastTransitionTime": "2026-01-01T00:00:00Z"}
        refused = {"type": "ReplicaFailure", "status": "True", "reason": "FailedCreate", "message": "exceeded quota"}
        return {"metadata": {"labels": {}}, "spec": {"replicas": 1}, "status": {"conditions": [refused, available]}}

    down, up = objects.workspace(deployment("False")), objects.workspace(deployment("True"))
    assert (down.unavailable_since, down.available_since) == (CREATED_AT, None)
    assert (up.unavailable_since, up.available_since) == (None, CREATED_AT)
    assert down.create_failure == "exceeded quota"
