"""Chats through the Session API with real pods: nothing else has to be called, and what was said is not forgotten."""

from __future__ import annotations

import json
import os
from collections.abc import Iterator
from typing import Any, Final

import httpx
import pytest

from tests.node.platforms import WRITING
from tests.node.workspaces import Workspaces
from tests.support.sessionctl_cli import Cli
from tests.support.waiting import CALM_POLL_SECONDS, wait_for
from tools.localcluster import LocalCluster

SECONDS: Final = int(os.environ.get("SESSIONCTL_TEST_REPLY_SECONDS", "15"))
"""How long a long reply takes: longer than the idle timeout and KEDA's cooldown together."""


@pytest.fixture
def talking(managed: LocalCluster) -> Iterator[Workspaces]:
    """Sessions on the node with managers; those that a test made are gone after it."""
    found = Workspaces(managed, Cli.on(managed))
    yield found
    found.purge_all()


@pytest.fixture
def http(managed: LocalCluster, api_key: str) -> Iterator[httpx.Client]:
    """The API of two managers."""
    headers = {"X-API-Key": api_key}
    with httpx.Client(base_url=managed.api_url, headers=headers, timeout=90, trust_env=False) as client:
        wait_for(lambda: all(client.get("/sessions").is_success for _ in range(20)), "both know the key")
        yield client


def test_a_message_to_a_sleeping_session_is_answered_with_no_further_call(
    talking: Workspaces, http: httpx.Client
) -> None:
    uuid = talking.create()
    # Never woken before.
    first = http.post(f"/session/{uuid}/chat?wait=60", json={"message": "before"})
    assert first.status_code == 200, first.text
    assert (first.json()["status"], first.json()["reply"]) == ("done", "before")
    wait_for(lambda: http.post(f"/session/{uuid}/sleep").is_success, "it sleeps")
    wait_for(lambda: not talking.pods(uuid), "its pod is gone")
    asleep = http.get(f"/session/{uuid}/messages").json()
    assert asleep["partial"]
    assert [each["message"] for each in asleep["messages"]] == ["before"]

    second = http.post(f"/session/{uuid}/chat", json={"message": "after"})

    assert second.status_code == 202
    # Nobody calls the API from here on: what the agent wrote is on the volume, and the outcome in Redis.
    _wait_for_outcome(talking, uuid, second.json()["message_id"], "done")
    awake = http.get(f"/session/{uuid}/messages").json()
    assert not awake["partial"]
    assert [(each["message"], each["reply"], each["status"]) for each in awake["messages"]] == [
        ("before", "before", "done"),
        ("after", "after", "done"),
    ]


def test_messages_that_come_while_it_wakes_are_answered_in_order(talking: Workspaces, http: httpx.Client) -> None:
    uuid = talking.create(WRITING)
    sent = [http.post(f"/session/{uuid}/chat", json={"message": f"{word} 0.01"}).json() for word in "abc"]

    for message in sent:
        _wait_for_outcome(talking, uuid, message["message_id"], "done")

    assert (talking.volume_folder(uuid) / "ran").read_text().split() == ["a", "b", "c"]


def test_a_reply_that_takes_longer_than_the_idle_timeout_keeps_its_session_awake(
    talking: Workspaces, http: httpx.Client
) -> None:
    uuid = talking.create(WRITING)
    sent = http.post(f"/session/{uuid}/chat", json={"message": f"long {SECONDS}"}).json()
    ran = talking.volume_folder
    wait_for(lambda: _read(ran(uuid) / "ran") == "long\n", "it runs")
    pod = talking.pods(uuid)[0]["metadata"]["uid"]

    # It is asked for as seldom as can be: whoever looks must not be what keeps it awake.
    _wait_for_outcome(talking, uuid, sent["message_id"], "done", patience=SECONDS + 60)

    assert _read(ran(uuid) / "ran") == "long\n"
    assert talking.pods(uuid)[0]["metadata"]["uid"] == pod
    wait_for(lambda: not talking.pods(uuid), "then it sleeps")


def _read(file: Any) -> str:
    return str(file.read_text()) if file.exists() else ""


def _wait_for_outcome(workspaces: Workspaces, uuid: str, message_id: str, outcome: str, patience: float = 60) -> None:
    found = wait_for(lambda: _outcome(workspaces, uuid, message_id), "its outcome", patience, CALM_POLL_SECONDS)
    assert found == outcome


def _outcome(workspaces: Workspaces, uuid: str, message_id: str) -> str | None:
    """Look into Redis, which is no call of anything that could wake."""
    answer = json.loads(workspaces.cluster.redis_cli("--json", "XREVRANGE", f"events:{uuid}", "+", "-", "COUNT", "50"))
    for _, fields in answer:
        event = fields if isinstance(fields, dict) else dict(zip(fields[::2], fields[1::2], strict=True))
        if event.get("message_id") == message_id and event.get("outcome"):
            return str(event["outcome"])
    return None
