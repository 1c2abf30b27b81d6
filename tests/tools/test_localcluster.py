"""The local cluster: parts die and come back, clusters stand side by side, and nothing is left of one that ended."""

from __future__ import annotations

import json
import os
import signal
from collections.abc import Callable, Iterator
from dataclasses import replace
from http import HTTPStatus
from pathlib import Path

import pytest

from tests.tools.scripts import Script, wait_until
from tools import processes
from tools.curl import Curl
from tools.firstuser import FirstUser
from tools.localcluster import ClusterError, ClusterSpec, LocalCluster
from tools.localcluster.api import Api
from tools.localcluster.managers import make_key

_CLAIM_AND_POD = """
apiVersion: v1
kind: PersistentVolumeClaim
metadata: {name: work}
spec: {accessModes: [ReadWriteOncePod], resources: {requests: {storage: 1Gi}}}
---
apiVersion: v1
kind: Pod
metadata: {name: first}
spec:
  containers: [{name: main, image: none, volumeMounts: [{name: work, mountPath: /work}]}]
  volumes: [{name: work, persistentVolumeClaim: {claimName: work}}]
"""
# A manager that ends waits for nobody here.
_QUICK = {"config": {"api": {"drain": "100ms"}}}
_POD = _CLAIM_AND_POD.split("---\n")[1]


@pytest.fixture(scope="module")
def own(tmp_path_factory: pytest.TempPathFactory) -> Iterator[LocalCluster]:
    """A cluster that tests may break."""
    started = LocalCluster.start(
        ClusterSpec(nodes=2, managers=2), tmp_path_factory.mktemp("own") / "cluster", os.getpid()
    )
    yield started
    started.stop()


def test_rbac_is_on(own: LocalCluster, tmp_path: Path) -> None:
    own.kubectl("create", "serviceaccount", "somebody")
    token = own.kubectl("create", "token", "somebody").strip()
    kubeconfig = own.kubeconfig_for_token(token, tmp_path / "somebody")
    with pytest.raises(ClusterError, match="Forbidden"):
        own.kubectl("--kubeconfig", str(kubeconfig), "get", "secrets")


def test_the_parts_know_their_versions(own: LocalCluster) -> None:
    versions = json.loads(own.kubectl("version", "-o", "json"))
    assert versions["serverVersion"]["gitVersion"] == versions["clientVersion"]["gitVersion"]
    assert versions["serverVersion"]["minor"] == versions["serverVersion"]["gitVersion"].split(".")[1] != "0"
    assert own.tool("helm", "version", "--template", "{{.Version}}").startswith("v4.3.")


def test_a_volume_is_made_bound_to_one_pod_and_deleted_with_its_claim(own: LocalCluster) -> None:
    volumes = own.directory / "volumes"
    own.kubectl("apply", "-f", "-", stdin=_CLAIM_AND_POD + "---\n" + _POD.replace("first", "second"))
    own.kubectl("wait", "--for=jsonpath={.status.phase}=Bound", "pvc/work", "--timeout=60s")
    assert len(list(volumes.iterdir())) == 1
    # One of the two got it; the other is refused by the access mode, and follows when the first is gone.
    wait_until(lambda: sorted(_phases(own).values()) == ["Pending", "Running"])
    winner, waiter = sorted(_phases(own), key=_phases(own).get, reverse=True)  # type: ignore[arg-type]
    own.kubectl("delete", "pod", winner)
    own.kubectl("wait", "--for=condition=Ready", f"pod/{waiter}", "--timeout=60s")
    own.kubectl("delete", "pod", waiter)
    own.kubectl("delete", "pvc", "work")
    wait_until(lambda: not list(volumes.iterdir()))


def test_redis_is_killed_and_comes_back_with_and_without_its_data(own: LocalCluster) -> None:
    own.redis_cli("SET", "key", "value")
    own.redis_cli("ACL", "SETUSER", "keda", "on")
    own.kill("redis")
    assert own.pid("redis") is None
    with pytest.raises(ClusterError, match="refused"):
        own.redis_cli("PING")
    own.start_component("redis")
    assert own.redis_cli("GET", "key") == "value"
    # KEDA's user is off at each boot.
    assert _keda_flags(own)[0] == "off"
    own.kill("redis")
    own.start_component("redis", empty=True)
    assert own.redis_cli("GET", "key") == ""


def test_keda_is_killed_and_started(own: LocalCluster) -> None:
    before = own.pid("keda")
    own.kill("keda")
    own.kill("keda")
    own.start_component("keda")
    assert own.pid("keda") not in (None, before)
    with pytest.raises(ClusterError, match="runs already"):
        own.start_component("keda")


def test_a_process_of_its_user_is_killed_and_started_like_the_others(own: LocalCluster) -> None:
    own.run("extra", ["sh", "-c", "echo $KUBECONFIG $EXTRA; exec sleep 1000"], {"EXTRA": "yes"})
    wait_until(lambda: own.log("extra").read_text() == f"{own.kubeconfig} yes\n")
    own.kill("extra")
    own.start_component("extra")
    assert own.pid("extra") is not None
    with pytest.raises(ClusterError, match="no component"):
        own.kill("unknown")


def test_the_api_server_is_killed_and_the_cluster_goes_on(own: LocalCluster) -> None:
    own.kubectl("create", "configmap", "kept")
    own.kill("kube-apiserver")
    own.start_component("kube-apiserver")
    own.kubectl("get", "configmap", "kept")


def test_managers_are_processes_with_the_rights_of_the_chart(own: LocalCluster, tmp_path: Path) -> None:
    own.install_platform(_QUICK)
    kubeconfig = str(own.directory / "pki" / "manager.kubeconfig")
    who = own.kubectl("--kubeconfig", kubeconfig, "auth", "whoami", "-o", "jsonpath={.status.userInfo.username}")
    assert who == "system:serviceaccount:sessionctl:sessionctl"
    curl = _curl(own, tmp_path)
    # Everything that the API can do: what the chart's roles do not allow would fail here.
    user = FirstUser(curl, Api.from_kubeconfig(own.kubeconfig), print)
    user.create()
    user.wake()
    user.status("active")
    curl.post(f"/session/{user.uuid}/sleep")
    user.status_reaches("sleeping")
    user.wake()
    user.others(answered=False)


def test_one_manager_is_killed_and_the_other_goes_on(own: LocalCluster, tmp_path: Path) -> None:
    first, second = own.state.api_urls
    curl = _curl(own, tmp_path)
    own.kill("manager-1")
    assert curl.get("/sessions").status == 0
    assert replace(curl, api=second).get("/sessions").status == HTTPStatus.OK
    own.start_component("manager-1")
    assert replace(curl, api=first).get("/sessions").status == HTTPStatus.OK


def test_managers_are_replaced_when_their_settings_change_and_only_then(own: LocalCluster) -> None:
    before = own.pids()
    own.install_platform({**_QUICK, "redis": {"maxclients": 500}})
    assert own.pids() == before
    own.install_platform({"config": {"api": {"drain": "200ms"}}})
    after = own.pids()
    assert not {before[name] for name in ("manager-1", "manager-2")} & set(after.values())
    assert {name: pid for name, pid in after.items() if "manager-" not in name} == {
        name: pid for name, pid in before.items() if "manager-" not in name
    }


def test_api_keys_reach_managers_as_a_mounted_secret_does(own: LocalCluster, tmp_path: Path) -> None:
    folder = own.directory / "api-keys"

    def shown() -> dict[str, str]:
        return {file.name: file.read_text() for file in folder.iterdir() if not file.name.startswith(".")}

    before = shown()
    secret = ("-n", "sessionctl", "patch", "secret", "sessionctl-api-keys", "--patch")
    own.kubectl(*secret, json.dumps({"stringData": {"extra": "one"}}))
    wait_until(lambda: shown() == {**before, "extra": "one"})
    own.kubectl(*secret, json.dumps({"stringData": {"extra": "two"}}))
    wait_until(lambda: shown() == {**before, "extra": "two"})
    # As kubelet does: the link and not the file is what changes.
    assert (folder / "extra").is_symlink()
    own.kubectl(*secret, json.dumps({"data": {"extra": None}}))
    wait_until(lambda: shown() == before)
    assert len([entry for entry in folder.iterdir() if entry.name.startswith("..")]) == len(("..data", "its target"))


def test_a_directory_has_one_cluster_and_nothing_else(own: LocalCluster, tmp_path: Path) -> None:
    with pytest.raises(ClusterError, match="runs in"):
        LocalCluster.start(ClusterSpec(), own.directory, os.getpid())
    assert LocalCluster.attach(own.directory).redis == own.redis
    with pytest.raises(ClusterError, match="make up"):
        LocalCluster.attach(tmp_path)
    (tmp_path / "precious").touch()
    with pytest.raises(ClusterError, match="other files"):
        LocalCluster.start(ClusterSpec(), tmp_path, os.getpid())
    assert (tmp_path / "precious").exists()


def test_two_stand_side_by_side_and_a_stopped_one_leaves_nothing(cluster: LocalCluster, own: LocalCluster) -> None:
    own.kubectl("create", "namespace", "only-here")
    own.redis_cli("SET", "only", "here")
    assert "only-here" not in cluster.kubectl("get", "namespaces")
    assert cluster.redis_cli("GET", "only") == ""
    pids = [pid for pid in own.pids().values() if pid]
    assert len(pids) >= 8
    own.stop()
    assert not [pid for pid in (*pids, own.state.supervisor) if processes.is_alive(pid)]
    assert not processes.processes_mentioning(str(own.directory))
    assert not own.directory.exists()
    own.stop()
    assert "Ready" in cluster.kubectl("get", "nodes")


def test_a_start_whose_owner_is_killed_leaves_nothing(script: Callable[..., Script], tmp_path: Path) -> None:
    directory = tmp_path / "cluster"
    owner = script(f"""
import os, pathlib
from tools.localcluster import ClusterSpec, LocalCluster
LocalCluster.start(ClusterSpec(), pathlib.Path({str(directory)!r}), os.getpid())
""")
    wait_until(lambda: len(owner.left()) > 1)
    owner.process.kill()
    wait_until(lambda: not owner.left() and not directory.exists())


def test_without_root_and_its_owner_killed(script: Callable[..., Script], nobody: tuple[list[str], Path]) -> None:
    prefix, home = nobody
    directory = home / "cluster"
    owner = script(
        f"""
import os, pathlib, time
from tools.localcluster import ClusterSpec, LocalCluster
cluster = LocalCluster.start(ClusterSpec(nodes=1), pathlib.Path({str(directory)!r}), os.getpid())
print(os.getuid(), cluster.kubectl("get", "nodes", "-o", "name").strip(), cluster.redis_cli("PING"), flush=True)
time.sleep(1000)
""",
        *prefix,
    )
    uid, node, answer = owner.line().split()
    assert int(uid) != 0
    assert (node, answer) == ("node/node-1", "PONG")
    owner.process.send_signal(signal.SIGKILL)
    wait_until(lambda: not owner.left() and not directory.exists())
    assert not processes.processes_mentioning(str(directory))


def _curl(cluster: LocalCluster, folder: Path) -> Curl:
    """Return curl with a key that both managers know."""
    key = make_key(cluster, f"key-{folder.name[-8:].strip('_')}".replace("_", "-"))
    assert key
    curls = [Curl.with_key(url, key, folder, print) for url in cluster.state.api_urls]
    wait_until(lambda: all(each.quiet().get("/sessions").status == HTTPStatus.OK for each in curls))
    return curls[0]


def _phases(cluster: LocalCluster) -> dict[str, str]:
    pods = json.loads(cluster.kubectl("get", "pods", "-o", "json"))["items"]
    return {pod["metadata"]["name"]: pod["status"]["phase"] for pod in pods}


def _keda_flags(cluster: LocalCluster) -> list[str]:
    line = next(line for line in cluster.redis_cli("ACL", "LIST").splitlines() if line.startswith("user keda "))
    return line.split()[2:]
