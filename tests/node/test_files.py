"""Files and conversation outlive the container, kubelet, containerd, the cluster, and a mistaken delete."""

from __future__ import annotations

import os
import signal

from tests.node.workspaces import Workspaces
from tests.support.waiting import wait_for
from tools import processes
from tools.localcluster import ClusterSpec, LocalCluster


def test_a_file_and_the_conversation_are_there_after_a_sleep(workspaces: Workspaces) -> None:
    uuid = workspaces.awake()
    workspaces.write(uuid, "mine")
    first = workspaces.say(uuid, "one", "hello")
    workspaces.sleep(uuid)

    workspaces.wake(uuid)

    assert workspaces.read(uuid) == "mine"
    # The same id again is answered from the conversation on the volume, not done again.
    assert workspaces.say(uuid, "one", "hello") == first


def test_a_file_survives_the_kill_of_its_container(workspaces: Workspaces) -> None:
    uuid = workspaces.awake()
    workspaces.write(uuid, "mine")

    workspaces.kill_agent(uuid)

    wait_for(lambda: _restarts(workspaces, uuid) == 1, "kubelet starts the container again")
    workspaces.wake(uuid)
    assert workspaces.read(uuid) == "mine"


def test_a_running_pod_survives_the_kill_of_kubelet_and_containerd(workspaces: Workspaces) -> None:
    uuid = workspaces.awake()
    workspaces.write(uuid, "mine")
    pod = workspaces.pods(uuid)[0]["metadata"]["uid"]

    for name in ("kubelet", "containerd"):
        workspaces.cluster.kill(name)
        workspaces.cluster.start_component(name)
    # Kubelet forwards to a pod, that of Redis too, once it has heard of it again.
    wait_for(lambda: workspaces.cli.run("sweep").code == 0, "the node works again")
    workspaces.awake()

    assert workspaces.pods(uuid)[0]["metadata"]["uid"] == pod
    assert _restarts(workspaces, uuid) == 0
    assert workspaces.read(uuid) == "mine"


def test_everything_is_there_after_the_kill_of_the_whole_cluster(workspaces: Workspaces) -> None:
    used, sleeping = workspaces.awake(), workspaces.awake()
    for uuid in (used, sleeping):
        workspaces.write(uuid, f"of {uuid}")
    workspaces.sleep(sleeping)
    cluster = workspaces.cluster

    _kill_whole(cluster)
    again = LocalCluster.start(ClusterSpec(kind="real", keep=True), cluster.directory, os.getpid())

    assert again.directory == cluster.directory
    again.kubectl("-n", "sessionctl", "rollout", "status", "statefulset/sessionctl-redis", "--timeout=120s")
    # Other addresses, the same cluster: the command line finds them in the same kubeconfig.
    wait_for(lambda: workspaces.cli.run("sweep").code == 0, "the demand is restored")
    assert workspaces.status(sleeping)["replicas"] == 0
    for uuid in (used, sleeping):
        workspaces.wake(uuid)
        assert workspaces.read(uuid) == f"of {uuid}"


def test_a_deleted_session_is_restored_with_its_files_and_purged_from_the_disk(workspaces: Workspaces) -> None:
    uuid = workspaces.awake()
    workspaces.write(uuid, "mine")
    folder = workspaces.volume_folder(uuid)

    assert workspaces.delete(uuid).code == 0
    assert (folder / "file").read_text() == "mine"
    workspaces.cli.json("restore", uuid)
    workspaces.wake(uuid)
    assert workspaces.read(uuid) == "mine"

    assert workspaces.delete(uuid, "--purge").code == 0
    wait_for(lambda: not folder.exists(), "the files are gone from the disk")


def _restarts(workspaces: Workspaces, uuid: str) -> int:
    return sum(status["restartCount"] for pod in workspaces.pods(uuid) for status in pod["status"]["containerStatuses"])


def _kill_whole(cluster: LocalCluster) -> None:
    """Kill the keeper and the first process, and with that one the kernel ends all others."""
    keeper = cluster.state.supervisor
    inside = processes.descendants(keeper)
    # The keeper's only child comes first.
    for pid in (keeper, inside[0]):
        os.kill(pid, signal.SIGKILL)
    processes.reap_child(keeper, wait=True)
    wait_for(lambda: not any(processes.is_alive(pid) for pid in inside), "the kernel ends the rest")
