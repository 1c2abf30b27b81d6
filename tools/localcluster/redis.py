"""The Redis process: the settings that the platform chart gives its own Redis."""

from __future__ import annotations

import hashlib
import os
import socket
from typing import TYPE_CHECKING

from tools.localcluster.models import Component, Layout, RedisEndpoint
from tools.localcluster.pki import write_private

if TYPE_CHECKING:
    from pathlib import Path

_KEDA_RIGHTS = "resetchannels ~queue:* -@all +ping +eval +type +llen +hello +client +select"


def redis_component(layout: Layout, binary: Path, endpoint: RedisEndpoint) -> Component:
    """Write the configuration and return the process."""
    data = layout.data("redis")
    data.mkdir(exist_ok=True)
    users = data.with_name("redis-users.acl")
    write_private(
        users,
        (
            f"user {endpoint.username} on #{_digest(endpoint.password)} ~* &* +@all\n"
            # Off at boot: only the gate switches KEDA on, when the demand is restored.
            f"user {endpoint.keda_username} off #{_digest(endpoint.keda_password)} {_KEDA_RIGHTS}\n"
        ).encode(),
    )
    # Read-only, as the mounted Secret is: ACL SAVE must fail here too.
    users.chmod(0o400)
    settings = {
        "bind": endpoint.host,
        "port": endpoint.port,
        "dir": _quoted(data),
        "aclfile": _quoted(users),
        "appendonly": "yes",
        "appendfsync": "always",
        "maxmemory-policy": "noeviction",
        "save": '""',
        "daemonize": "no",
    }
    configuration = data.with_name("redis.conf")
    write_private(configuration, "".join(f"{key} {value}\n" for key, value in settings.items()).encode())
    return Component("redis", (str(binary), str(configuration)), ready=lambda: is_ready(endpoint), data=data)


def is_ready(endpoint: RedisEndpoint) -> bool:
    """Tell whether Redis takes the password and answers, which it does not while it loads its file."""
    request = f"AUTH {endpoint.username} {endpoint.password}\r\nPING\r\n".encode()
    try:
        with socket.create_connection((endpoint.host, endpoint.port), timeout=1) as connection:
            connection.sendall(request)
            answer = b""
            while answer.count(b"\r\n") < 2:  # noqa: PLR2004 - one line per command
                if not (part := connection.recv(512)):
                    return False
                answer += part
    except OSError:
        return False
    return answer == b"+OK\r\n+PONG\r\n"


def _digest(password: str) -> str:
    return hashlib.sha256(password.encode()).hexdigest()


def _quoted(path: Path) -> str:
    text = os.fspath(path).replace("\\", "\\\\").replace('"', '\\"')
    return f'"{text}"'
