"""Port-forwards through a real API server, to KWOK, which serves them with the code of kubelet and containerd.

The node stands in for the one of the platform's own Redis; what the pods themselves do is for `node/`.
"""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sessionctl.adapters.agent import AgentProbe
from sessionctl.adapters.agent_http import ByteStream
from sessionctl.adapters.cluster.client import KubernetesClient
from sessionctl.adapters.cluster.listener import ForwardListener
from sessionctl.adapters.cluster.portforward import PodPort, PortForwarder
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.errors import ClusterError, ForbiddenError
from sessionctl.models import Owner, RedisEndpoint, SessionId, Workspace
from tests.charts.rendering import Scenario, rendered
from tests.support.waiting import wait_for

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Iterator
    from pathlib import Path

    from tools.localcluster import LocalCluster

NAMESPACE = "sessionctl"
NAME = "sessionctl-redis-0"
"""Of the platform's own Redis, which is no pod here: the rights are for this name alone."""
TARGET = PodPort(NAMESPACE, f"app={NAME}", 6379)


@pytest.fixture(scope="module")
def pod(platform: LocalCluster) -> Iterator[str]:
    """A pod in the platform's namespace that is ready."""
    container = {"name": "main", "image": "redis"}
    manifest = {
        "apiVersion": "v1",
        "kind": "Pod",
        "metadata": {"name": NAME, "namespace": NAMESPACE, "labels": {"app": NAME}},
        "spec": {"containers": [container], "automountServiceAccountToken": False},
    }
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(manifest))
    condition = '-o=jsonpath={.status.conditions[?(@.type=="Ready")].status}'
    wait_for(lambda: platform.kubectl("-n", NAMESPACE, "get", "pod", NAME, condition) == "True", "the pod is ready")
    yield NAME
    platform.kubectl("-n", NAMESPACE, "delete", "pod", NAME, "--now")


@pytest.fixture(scope="module")
def rights(platform: LocalCluster) -> None:
    """What the chart grants where it has a Redis of its own."""
    (role,) = [
        item
        for item in rendered(platform.binary("helm"), Scenario("platform", "default"))
        if item["kind"] == "Role" and item["metadata"]["namespace"] == NAMESPACE
    ]
    role["metadata"] = {"name": "with-redis", "namespace": NAMESPACE}
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(role))
    binding = ("create", "rolebinding", "with-redis", "--role=with-redis", f"--serviceaccount={NAMESPACE}:sessionctl")
    platform.kubectl("-n", NAMESPACE, *binding)


@pytest_asyncio.fixture
async def client(platform: LocalCluster, rights: None, tmp_path: Path) -> AsyncIterator[KubernetesClient]:
    """With the rights of the platform chart's ServiceAccount."""
    token = platform.kubectl("create", "token", "sessionctl", "-n", NAMESPACE).strip()
    kubeconfig = platform.kubeconfig_for_token(token, tmp_path / "kubeconfig")
    async with await KubernetesClient.connect(str(kubeconfig), None) as opened:
        yield opened


async def test_the_store_works_through_it_with_the_rights_of_the_chart(
    platform: LocalCluster, pod: str, client: KubernetesClient
) -> None:
    redis = platform.redis
    endpoint = RedisEndpoint(
        host="sessionctl-redis.sessionctl.svc",
        port=6379,
        database=0,
        tls=False,
        username=redis.username,
        password=redis.password,
        keda_username=redis.keda_username,
    )
    async with RedisStore(endpoint, ForwardListener(PortForwarder(client), TARGET)) as store:
        for _ in range(3):
            assert (await store.get_epoch()).run_id


async def test_what_the_node_says_is_passed_on(pod: str, client: KubernetesClient) -> None:
    stream = await PortForwarder(client).open(PodPort(NAMESPACE, f"app={NAME}", 6380))
    with pytest.raises(ClusterError, match=f"port 6380 of pod {NAMESPACE}/{pod} cannot be reached: .*6380"):
        await stream.read()
    stream.abort()


async def test_an_agent_that_is_no_agent_has_nothing_to_say(pod: str, client: KubernetesClient) -> None:
    """Redis takes the question for an attack through a browser."""

    async def dial(_: SessionId) -> ByteStream:
        return await PortForwarder(client).open(TARGET)

    session_id = SessionId("5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11")
    workspace = Workspace(session_id, Owner("u", "default", "default", datetime(2026, 1, 1, tzinfo=UTC)), replicas=1)
    assert await AgentProbe(dial, lambda _: ["token"]).ask(workspace) is None


@pytest.mark.parametrize(
    ("verb", "answer"),
    [("create", 'cannot get resource "pods/portforward"'), ("get", f'pods "{NAME}" is forbidden')],
)
async def test_either_verb_alone_is_too_little(
    platform: LocalCluster, pod: str, tmp_path: Path, verb: str, answer: str
) -> None:
    """What the Role of the chart is there for: the API server of 1.35 and later asks for both."""
    name = f"only-{verb}"
    platform.kubectl("-n", NAMESPACE, "create", "serviceaccount", name)
    rules = [
        {"apiGroups": [""], "resources": ["pods"], "verbs": ["list"]},
        {"apiGroups": [""], "resources": ["pods/portforward"], "verbs": [verb]},
    ]
    role = {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "Role",
        "metadata": {"name": name, "namespace": NAMESPACE},
        "rules": rules,
    }
    platform.kubectl("apply", "-f", "-", stdin=json.dumps(role))
    binding = ("create", "rolebinding", name, f"--role={name}", f"--serviceaccount={NAMESPACE}:{name}")
    platform.kubectl("-n", NAMESPACE, *binding)
    token = platform.kubectl("create", "token", name, "-n", NAMESPACE).strip()
    kubeconfig = platform.kubeconfig_for_token(token, tmp_path / "kubeconfig")
    async with await KubernetesClient.connect(str(kubeconfig), None) as client:
        with pytest.raises(ForbiddenError, match=answer):
            (await PortForwarder(client).open(TARGET)).abort()
