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

from tests.charts.release import eventually
from tests.charts.rendering import Scenario, rendered
from tools.processes import dies_with_parent
from tools.toolchain import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

LENGTH = "return redis.call('llen', KEYS[1])"
RUN_ID = "return redis.call('info', 'server'):match('run_id:(%w+)')"


@dataclass(frozen=True)
class Server:
    """The first-party Redis without its pod."""

    port: int
    texts: dict[str, str]

    def connect(self, prefix: str = "") -> redis.Redis:
        """Return a client as the user of the manager, or with the prefix ``keda-`` as the one of KEDA."""
        user, password = self.texts[f"{prefix}username"], self.texts[f"{prefix}password"]
        return redis.Redis(port=self.port, username=user, password=password, protocol=3, decode_responses=True)


@pytest.fixture
def server(helm: Path, tmp_path: Path) -> Iterator[Server]:
    """Start redis-server with what the chart renders, other paths and another port aside."""
    objects = {
        (item["kind"], item["metadata"]["name"]): item for item in rendered(helm, Scenario("platform", "default"))
    }
    decoded = {
        key: base64.b64decode(value).decode()
        for name in ("sessionctl-redis", "sessionctl-redis-acl")
        for key, value in objects["Secret", name]["data"].items()
    }
    (tmp_path / "redis.conf").write_text(objects["ConfigMap", "sessionctl-redis"]["data"]["redis.conf"])
    users = tmp_path / "users.acl"
    users.write_text(decoded.pop("users.acl"))
    users.chmod(0o440)
    with closing(socket.socket()) as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    argv = [ensure(["redis"]).binary("redis-server"), tmp_path / "redis.conf", "--port", str(port)]
    argv += ["--bind", "127.0.0.1", "--dir", tmp_path, "--aclfile", users]
    with (tmp_path / "log").open("wb") as log:
        process = subprocess.Popen(argv, stdout=log, stderr=log, preexec_fn=dies_with_parent())
    found = Server(port, decoded)
    try:
        eventually(lambda: _answers(found), (tmp_path / "log").read_text)
        yield found
    finally:
        process.terminate()
        process.wait()


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
        refused = [
            lambda: keda.eval("return redis.call('del', KEYS[1])", 1, "queue:one"),
            lambda: keda.rpush("queue:one", "more"),
            lambda: keda.llen("session:one"),
            lambda: keda.acl_setuser("keda", enabled=True),
            lambda: keda.info(),
            lambda: keda.publish("channel", "message"),
        ]
        for call in refused:
            with pytest.raises(redis.ResponseError, match=r"(?i)no permissions|NOPERM|not allowed"):
                call()


def test_manager_may_run_the_gate(server: Server) -> None:
    """ACL, CLIENT and INFO, the last one inside a script too."""
    with closing(server.connect()) as manager:
        assert manager.eval(RUN_ID, 0) == manager.info("server")["run_id"]
        assert manager.execute_command("ACL", "SETUSER", "keda", "off") == "OK"
        assert manager.execute_command("CLIENT", "KILL", "USER", "keda") == 0


def test_nobody_gets_in_without_a_password(server: Server) -> None:
    """The default user has one."""
    with closing(redis.Redis(port=server.port)) as anonymous, pytest.raises(redis.AuthenticationError):
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
