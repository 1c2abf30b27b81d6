"""The whole way from a kubeconfig to Redis and to an agent, on a loopback API server (`support/api_server.py`)."""

from __future__ import annotations

import asyncio
import base64
import json
import os
import subprocess
import sys
from datetime import UTC, datetime
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sessionctl.adapters.agent import AgentProbe
from sessionctl.adapters.cluster import credentials
from sessionctl.adapters.probe import SilentWorkspaceProbe
from sessionctl.core.identity import agent_token
from sessionctl.errors import ConfigurationError, StoreError
from sessionctl.factory import DirectOptions, Reach, open_factory
from sessionctl.models import Activity, Owner, SessionId, Workspace
from tests.contract.test_agent_probe import Agent
from tests.support.api_server import ApiServer
from tests.support.certificates import Authority
from tests.support.sessionctl_cli import PROGRAM
from tests.support.tcp_server import HOST

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.redis import RedisServer

SESSION = SessionId("5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11")
WORKSPACE = Workspace(SESSION, Owner("u", "default", "default", datetime(2026, 1, 1, tzinfo=UTC)), replicas=1)
PLATFORM = "/api/v1/namespaces/sessionctl"
REDIS_LABELS = {"app.kubernetes.io/name": "platform", "app.kubernetes.io/component": "redis"}
SELECTOR = ",".join(f"{name}={value}" for name, value in REDIS_LABELS.items())
KEY = "platform key"


class Platform:
    """A platform release as the API server shows it."""

    def __init__(self, api: ApiServer, redis: RedisServer, folder: Path) -> None:
        self.api = api
        self._redis = redis
        self.options = DirectOptions(kubeconfig=api.write_kubeconfig(folder, {"token": "t"}))
        self._secret("sessionctl-redis", username="default", password=redis.password)
        self._secret("sessionctl-platform-key", key=KEY)

    def install(self, *, host: str, port: int, selector: str, config: dict[str, object] | None = None) -> None:
        platform = {
            "version": "0.1.0",
            "sessionsNamespace": "sessions",
            "redis": {"host": host, "port": port, "secretName": "sessionctl-redis", "podSelector": selector},
            "keda": {"secretName": "sessionctl-keda"},
            "platformKeySecret": "sessionctl-platform-key",
            "profilesConfigMap": "sessionctl-profiles",
        }
        data = {"config.yaml": json.dumps(config or {}), "platform.yaml": json.dumps(platform)}
        self.api.objects[f"{PLATFORM}/configmaps/sessionctl-platform"] = {"data": data}

    def install_first_party(self, config: dict[str, object] | None = None) -> None:
        """Install it with a Redis of its own, whose name nobody outside the cluster can resolve."""
        self.install(host="sessionctl-redis.sessionctl.svc", port=6379, selector=SELECTOR, config=config)
        self.api.add_pod("sessionctl", "sessionctl-redis-0", REDIS_LABELS, p6379=self._redis.port)

    def install_external(self, port: int) -> None:
        """Install it with a Redis that has an address of its own."""
        self.install(host="127.0.0.1", port=port, selector="")

    @property
    def forwards(self) -> list[str]:
        """The pods that were forwarded to."""
        return [each.path.split("/")[-2] for each in self.api.seen if each.path.endswith("/portforward")]

    def _secret(self, name: str, **values: str) -> None:
        encoded = {key: base64.b64encode(value.encode()).decode() for key, value in values.items()}
        self.api.objects[f"{PLATFORM}/secrets/{name}"] = {"data": encoded}


@pytest_asyncio.fixture
async def platform(redis: RedisServer, tmp_path: Path) -> AsyncIterator[Platform]:
    async with ApiServer() as api:
        yield Platform(api, redis, tmp_path)


async def test_a_first_party_redis_is_reached_by_port_forward(platform: Platform) -> None:
    platform.install_first_party()
    async with open_factory(platform.options) as factory:
        assert (await factory.store.get_epoch()).is_open
    assert platform.forwards == ["sessionctl-redis-0"]


async def test_an_external_redis_is_connected_to(platform: Platform, redis: RedisServer) -> None:
    platform.install_external(redis.port)
    for reach in Reach:
        options = DirectOptions(kubeconfig=platform.options.kubeconfig, reach=reach)
        async with open_factory(options) as factory:
            assert (await factory.store.get_epoch()).is_open
    assert platform.forwards == []
    assert not [each for each in platform.api.seen if each.path.endswith("/pods")]


async def test_in_a_pod_of_the_cluster_services_are_used(
    redis: RedisServer, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    authority = Authority(tmp_path)
    authority.file.rename(tmp_path / "ca.crt")
    (tmp_path / "token").write_text("of the pod")
    monkeypatch.setattr(credentials, "SERVICE_ACCOUNT", tmp_path)
    monkeypatch.setenv("HOME", str(tmp_path / "no kubeconfig here"))
    monkeypatch.delenv("KUBECONFIG", raising=False)
    async with ApiServer(authority.server(HOST, wants_certificate=False)) as api:
        monkeypatch.setenv("KUBERNETES_SERVICE_HOST", HOST)
        monkeypatch.setenv("KUBERNETES_SERVICE_PORT", str(api.port))
        platform = Platform(api, redis, tmp_path)
        platform.install(host=HOST, port=redis.port, selector=SELECTOR)
        async with open_factory(DirectOptions()) as factory:
            assert (await factory.store.get_epoch()).is_open
            assert not factory.by_forward
        assert api.seen[-1].headers["authorization"] == "Bearer of the pod"
        assert platform.forwards == []


async def test_the_services_name_is_used_if_that_is_said(platform: Platform) -> None:
    platform.install_first_party()
    options = DirectOptions(kubeconfig=platform.options.kubeconfig, reach=Reach.DIRECT)
    async with open_factory(options) as factory:
        assert not factory.by_forward
        with pytest.raises(StoreError, match=r"Redis at sessionctl-redis.sessionctl.svc:6379 does not answer$"):
            await factory.store.get_epoch()
    assert platform.forwards == []


async def test_agents_are_asked_by_port_forward_unless_told_otherwise(platform: Platform) -> None:
    platform.install_first_party()
    async with Agent() as tenant, open_factory(platform.options) as factory:
        tenant.says({"message_running": True})
        platform.api.add_pod("sessions", f"user-{SESSION}-x", {"uuid": SESSION}, p8081=tenant.port)
        probe = await factory.create_probe()
        assert await probe.ask(WORKSPACE) == Activity(message_running=True)
        (head,) = tenant.requests
        assert f"Bearer {agent_token(KEY, SESSION)}" in head
    assert platform.forwards == [f"user-{SESSION}-x"]


async def test_in_the_cluster_agents_are_asked_by_their_service(
    platform: Platform, monkeypatch: pytest.MonkeyPatch
) -> None:
    platform.install_first_party()
    asked: list[tuple[str, int]] = []

    async def connect(host: str, port: int, **_: object) -> None:
        asked.append((host, port))
        raise OSError

    options = DirectOptions(kubeconfig=platform.options.kubeconfig, reach=Reach.DIRECT)
    async with open_factory(options) as factory:
        probe = await factory.create_probe()
        monkeypatch.setattr("asyncio.open_connection", connect)
        assert await probe.ask(WORKSPACE) is None
    assert asked == [(f"user-{SESSION}.sessions.svc", 8081)]


async def test_nobody_is_asked_where_pods_serve_nothing(platform: Platform) -> None:
    platform.install_first_party({"idle": {"probe": "none"}})
    async with open_factory(platform.options) as factory:
        assert isinstance(await factory.create_probe(), SilentWorkspaceProbe)


async def test_a_sweep_without_the_platform_key_does_not_begin(platform: Platform) -> None:
    platform.install_first_party()
    del platform.api.objects[f"{PLATFORM}/secrets/sessionctl-platform-key"]
    async with open_factory(platform.options) as factory:
        with pytest.raises(ConfigurationError, match="sessionctl-platform-key is missing"):
            await factory.create_sweep_loop()


async def test_agents_are_the_default(platform: Platform) -> None:
    platform.install_first_party()
    async with open_factory(platform.options) as factory:
        assert isinstance(await factory.create_probe(), AgentProbe)


def test_the_switch_of_the_command_line_is_checked() -> None:
    environment = {**os.environ, "SESSIONCTL_REACH": "teleport", "KUBECONFIG": "/nonexistent"}
    done = subprocess.run([PROGRAM, "list"], capture_output=True, text=True, check=False, env=environment)
    assert done.returncode == 2
    assert "SESSIONCTL_REACH is 'teleport'" in done.stderr
    assert "auto, direct, port-forward" in done.stderr


async def test_an_external_redis_loads_nothing_of_forwards(platform: Platform, redis: RedisServer) -> None:
    platform.install_external(redis.port)
    code = (
        "import asyncio, sys\n"
        "from sessionctl.factory import DirectOptions, open_factory\n"
        "async def main():\n"
        "    async with open_factory(DirectOptions(kubeconfig=sys.argv[1])) as factory:\n"
        "        await factory.store.get_epoch()\n"
        "asyncio.run(main())\n"
        "print([name for name in sys.modules if 'wsproto' in name or 'portforward' in name or 'listener' in name])"
    )
    argv = [sys.executable, "-c", code, str(platform.options.kubeconfig)]
    process = await asyncio.create_subprocess_exec(*argv, stdout=subprocess.PIPE)
    stdout, _ = await process.communicate()
    assert stdout.decode().strip() == "[]"
