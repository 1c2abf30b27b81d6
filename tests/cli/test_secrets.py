"""Passwords and tokens: never an argument, never in a ConfigMap, never on a terminal."""

from __future__ import annotations

import base64
from pathlib import Path

import pytest

from sessionctl.core.identity import agent_token, new_session_id
from tests.support.api_proxy import ApiProxy, write
from tests.support.census import Census
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tests.support.waiting import wait_for
from tools.localcluster import LocalCluster


@pytest.fixture(scope="module")
def platform_secrets(platform: LocalCluster) -> dict[str, str]:
    """What nobody may see."""

    def read(name: str, key: str) -> str:
        text = platform.kubectl("get", "secret", name, "-n", "sessionctl", "-o", f"jsonpath={{.data.{key}}}")
        return base64.b64decode(text).decode()

    found = {
        "password of Redis": platform.redis.password,
        "KEDA's password": platform.redis.keda_password,
        "platform key": read("sessionctl-platform-key", "key"),
        "token of the administrator": platform.token_for("admin"),
    }
    assert all(len(secret) > 20 for secret in found.values())
    return found


def processes_of(group: int) -> dict[str, bytes]:
    """Return arguments and environment of every process of a group."""
    found = {}
    for folder in Path("/proc").iterdir():
        try:
            if folder.name.isdigit() and int((folder / "stat").read_text().rpartition(")")[2].split()[2]) == group:
                found[folder.name] = (folder / "cmdline").read_bytes() + (folder / "environ").read_bytes()
        except (OSError, ValueError):
            continue
    return found


def test_no_process_carries_a_secret_in_its_arguments_or_environment(
    proxied: Cli, api_proxy: ApiProxy, steps: Steps, platform_secrets: dict[str, str]
) -> None:
    session_id = new_session_id()
    steps.made.append(session_id)
    secrets = platform_secrets | {"agent token": agent_token(platform_secrets["platform key"], session_id)}
    hold = api_proxy.hold(write("", "/deployments", naming=session_id))
    with proxied.executed().start("create", "--user", "alice", "--uuid", session_id, "--output", "json") as running:
        wait_for(hold.reached.is_set, "Helm at the Deployment")
        seen = processes_of(running.pid)
        hold.let_go()
        done = running.wait()

    assert done.code == 0, done.stderr
    assert len(seen) == 2
    assert any(b"install" in text for text in seen.values())
    for what, secret in secrets.items():
        assert not [text for text in seen.values() if secret.encode() in text], what
        assert secret.encode() not in done.out + done.err, what


async def test_no_config_map_carries_a_secret(
    census: Census, steps: Steps, platform: LocalCluster, platform_secrets: dict[str, str]
) -> None:
    session_id = await steps.create()
    secrets = platform_secrets | {"agent token": agent_token(platform_secrets["platform key"], session_id)}
    others = "configmaps,deployments,pvc,scaledobjects,triggerauthentications,services,events"
    text = platform.kubectl("get", others, "--all-namespaces", "-o", "yaml")
    assert f"user-{session_id}" in text
    for what, secret in secrets.items():
        assert secret not in text, what
        assert base64.b64encode(secret.encode()).decode() not in text, what
    token = census.of(session_id).objects["secrets"]["data"]["token"]
    assert base64.b64decode(token).decode() == secrets["agent token"]


def test_no_answer_and_no_error_carries_a_secret(
    proxied: Cli, api_proxy: ApiProxy, steps: Steps, platform_secrets: dict[str, str]
) -> None:
    session_id = new_session_id()
    steps.made.append(session_id)
    secrets = platform_secrets | {"agent token": agent_token(platform_secrets["platform key"], session_id)}
    talkative = Cli(proxied.environment, before=())
    # An API server that says back what it was sent.
    api_proxy.trap(
        write("", "/secrets", naming=f"user-{session_id}"),
        refusal=(422, f"invalid: token: {secrets['agent token']} is not to its taste"),
    )
    calls = [
        talkative.run("create", "--user", "alice", "--uuid", session_id),
        talkative.run("template", "--user", "alice"),
        talkative.run("sweep"),
        talkative.run("list", "-o", "json"),
        talkative.run("reconcile", "--dry-run"),
    ]
    assert [done.code for done in calls] == [6, 0, 0, 0, 0]
    for what, secret in secrets.items():
        assert not [done for done in calls if secret.encode() in done.out + done.err], what
