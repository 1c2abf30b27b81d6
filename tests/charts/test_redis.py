"""A real redis-server on the configuration and the users that the platform chart renders."""

from __future__ import annotations

import base64
import socket
import subprocess
from contextlib import closing
from dataclasses import dataclass
from typing import TYPE_CHECKING

import pytest
import redis
import yaml
from redis.backoff import NoBackoff
from redis.retry import Retry

from tests.charts.release import eventually
from tests.charts.rendering import Scenario, rendered
from tools.processes import dies_with_parent
from tools.toolchain import ensure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from pathlib import Path

ONCE = Retry(NoBackoff(), 0)
LENGTH = "return redis.call('llen', KEYS[1])"
REMOVE = "return redis.call('del', KEYS[1])"
RUN_ID = "return redis.call('info', 'server'):match('run_id:(%w+)')"


@dataclass(frozen=True)
class Server:
    """The first-party Redis without its pod."""

    port: int
    texts: dict[str, str]

    def connect(self, prefix: str = "") -> redis.Redis:
        """Return a client as the user of the manager, or with the prefix ``keda-`` as the one of KEDA."""
        user, password = self.texts[f"{prefix}username"], self.texts[f"{prefix}password"]
        return redis.Redis(port=self.port, username=user, password=password, retry=ONCE, decode_responses=True)


@pytest.fixture
def server(helm: Path, tmp_path: Path) -> Iterator[Server]:
    """Start redis-server with what the chart renders, other paths and another port aside."""
    items = rendered(helm, Scenario("platform", "default"))
    data = {(item["kind"], item["metadata"]["name"]): item.get("data", {}) for item in items}
    texts = {key: _decode(value) for key, value in data["Secret", "sessionctl-redis"].items()}
    users = tmp_path / "users.acl"
    users.write_text(_decode(data["Secret", "sessionctl-redis-acl"]["users.acl"]))
    users.chmod(0o440)
    configuration = tmp_path / "redis.conf"
    configuration.write_text(
        data["ConfigMap", "sessionctl-redis"]["redis.conf"].replace("dir /data", f"dir {tmp_path}")
    )
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    binary = str(ensure(["redis"]).binary("redis-server"))
    argv = [binary, str(configuration), "--port", str(port), "--bind", "127.0.0.1", "--aclfile", str(users)]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, preexec_fn=dies_with_parent())
    found = Server(port, texts)
    try:
        eventually(lambda: process.poll() is not None or _answers(found), "an answer of redis-server")
        assert process.poll() is None, (tmp_path / "log").read_text()
        yield found
    finally:
        process.terminate()
        process.wait()


def _decode(value: str) -> str:
    return base64.b64decode(value).decode()


def _answers(server: Server) -> bool:
    with closing(server.connect()) as client:
        try:
            return bool(client.ping())
        except (redis.ConnectionError, redis.TimeoutError):
            return False


def test_settings_are_in_force(server: Server) -> None:
    """What the configuration asks for, the server does."""
    wanted = {"appendonly": "yes", "appendfsync": "always", "maxmemory-policy": "noeviction", "save": ""}
    with closing(server.connect()) as manager:
        assert {name: manager.config_get(name)[name] for name in wanted} == wanted
        assert manager.config_get("maxmemory")["maxmemory"] == str(512 * 1024 * 1024)


def test_user_of_keda_boots_off_and_may_only_look_at_lists(server: Server) -> None:
    """Until the manager lets it in; and then no more than its scaler needs."""
    with closing(server.connect()) as manager, closing(server.connect("keda-")) as keda:
        with pytest.raises(redis.AuthenticationError):
            keda.ping()
        manager.acl_setuser("keda", enabled=True)
        manager.rpush("queue:one", "awake")
        assert keda.ping()
        assert keda.type("queue:one") == "list"
        assert keda.eval(LENGTH, 1, "queue:one") == 1
        refused: list[Callable[[], object]] = [
            lambda: keda.eval(REMOVE, 1, "queue:one"),
            lambda: keda.rpush("queue:one", "more"),
            lambda: keda.llen("session:one"),
            lambda: keda.acl_setuser("keda", enabled=True),
            keda.info,
            lambda: keda.publish("channel", "message"),
        ]
        for call in refused:
            with pytest.raises(redis.ResponseError, match=r"no permissions|can't run this command"):
                call()


def test_manager_may_run_the_gate(server: Server) -> None:
    """ACL, CLIENT and INFO, the last one inside a script too."""
    with closing(server.connect()) as manager:
        assert manager.eval(RUN_ID, 0) == manager.info("server")["run_id"]
        assert manager.acl_setuser("keda", enabled=False)
        assert manager.client_kill_filter(user="keda") == 0


def test_nobody_gets_in_without_a_password(server: Server) -> None:
    """The default user has one."""
    with closing(redis.Redis(port=server.port, retry=ONCE)) as anonymous, pytest.raises(redis.AuthenticationError):
        anonymous.ping()


def test_scripts_of_readiness_and_liveness(server: Server, helm: Path) -> None:
    """The probes' own commands against the running server."""
    objects = rendered(helm, Scenario("platform", "default"))
    workload = next(item for item in objects if item["kind"] == "StatefulSet")
    container = workload["spec"]["template"]["spec"]["containers"][0]
    cli = ensure(["redis"]).binary("redis-cli")
    for probe in ("livenessProbe", "readinessProbe"):
        shell, flag, script = container[probe]["exec"]["command"]
        assert yaml.safe_dump(script).count("redis-cli ping") == 1
        for password, expected in ((server.texts["password"], 0), ("wrong", 1)):
            argv = [shell, flag, script.replace("redis-cli", f"{cli} -p {server.port}")]
            outcome = subprocess.run(argv, env={"REDISCLI_AUTH": password}, check=False)
            assert (probe, outcome.returncode) == (probe, expected)
