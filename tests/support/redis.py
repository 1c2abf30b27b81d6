"""A Redis of a test's own, with the users that the platform gives it."""

from __future__ import annotations

import contextlib
import secrets
import shutil
import subprocess
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Self

import pytest
from redis import Redis
from redis import exceptions as redis_errors
from redis.backoff import NoBackoff
from redis.retry import Retry

from sessionctl.models import RedisEndpoint
from tests.support.waiting import wait_for
from tools.localcluster.ports import HOST, Ports
from tools.toolchain import ensure

if TYPE_CHECKING:
    from pathlib import Path

KEDA_RIGHTS = "resetchannels ~queue:* -@all +ping +eval +type +llen +hello +client +select"


@dataclass
class RedisServer:
    """A redis-server process on a loopback port; a context manager that ends it."""

    folder: Path
    options: tuple[str, ...] = ()
    password: str = field(default_factory=lambda: secrets.token_hex(12))
    keda_password: str = field(default_factory=lambda: secrets.token_hex(12))

    def __post_init__(self) -> None:
        self._ports = Ports()
        self.port = self._ports["redis"]
        self._process: subprocess.Popen[bytes] | None = None
        self._admin: Redis | None = None
        self._users = self.folder / "users.acl"
        self._users.write_text(
            f"user default on >{self.password} ~* &* +@all\n"
            f"user keda off >{self.keda_password} {KEDA_RIGHTS}\n"
            # An external Redis whose owner kept the rights over users.
            f"user limited on >{self.password} ~* &* +@all -acl\n"
        )

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.kill()
        self._ports.release()

    @property
    def data(self) -> Path:
        """Where it keeps its append-only file."""
        return self.folder / "data"

    @property
    def admin(self) -> Redis:
        """A client that sees bytes as they are, for a test to look and to interfere with."""
        if self._admin is None:
            self._admin = Redis(host=HOST, port=self.port, password=self.password)
        return self._admin

    def endpoint(self, port: int | None = None, username: str = "default") -> RedisEndpoint:
        """Address and users, perhaps through a proxy's port."""
        return RedisEndpoint(
            host=HOST,
            port=port or self.port,
            database=0,
            tls=False,
            username=username,
            password=self.password,
            keda_username="keda",
        )

    def as_keda(self) -> Redis:
        """A client with KEDA's user; a context manager."""
        once = Retry(NoBackoff(), 0)
        return Redis(host=HOST, port=self.port, username="keda", password=self.keda_password, retry=once)

    def start(self) -> None:
        """Start it and return when it answers."""
        self.data.mkdir(exist_ok=True)
        settings = {
            "--bind": HOST,
            "--port": str(self.port),
            "--dir": str(self.data),
            "--aclfile": str(self._users),
            "--appendonly": "yes",
            "--appendfsync": "always",
            "--save": "",
        }
        argv = [str(ensure(["redis"]).binary("redis-server")), *(part for pair in settings.items() for part in pair)]
        with (self.folder / "redis.log").open("ab") as log:
            self._process = subprocess.Popen([*argv, *self.options], stdout=log, stderr=log)
        wait_for(self._answers, "redis-server answers")

    def kill(self) -> None:
        """End it at once."""
        if self._admin is not None:
            self._admin.close()
            self._admin = None
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None

    def restart(self, *, empty: bool = False) -> None:
        """Kill it and start it again, if asked without what it knew."""
        self.kill()
        if empty:
            shutil.rmtree(self.data, ignore_errors=True)
        self.start()

    def cli(self, *argv: bytes | str) -> bytes:
        """Run redis-cli as somebody outside would."""
        binary = ensure(["redis"]).binary("redis-cli")
        command = [str(binary), "-h", HOST, "-p", str(self.port), "--no-auth-warning", "-a", self.password, *argv]
        return subprocess.run(command, check=True, capture_output=True).stdout.strip()

    def keda_is_on(self) -> bool:
        """Whether KEDA may log in."""
        with self.as_keda() as client, contextlib.suppress(redis_errors.AuthenticationError):
            return bool(client.ping())
        return False

    def run_id(self) -> str:
        """Of the process that answers now."""
        return str(self.admin.info("server")["run_id"])

    def _answers(self) -> bool:
        if self._process is None or self._process.poll() is not None:
            pytest.fail(f"redis-server ended: {(self.folder / 'redis.log').read_text()[-800:]}")
        with contextlib.suppress(redis_errors.RedisError):
            return bool(self.admin.ping())
        return False
