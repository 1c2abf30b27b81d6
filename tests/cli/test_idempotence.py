"""Said twice, done once: a caller that lost the answer may repeat every call."""

from __future__ import annotations

from sessionctl.core.identity import new_session_id
from tests.support.census import Census
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps


def test_create_with_an_id_may_be_repeated(cli: Cli, census: Census, steps: Steps) -> None:
    session_id = new_session_id()
    steps.made.append(session_id)
    first, second = (cli.json("create", "--user", "alice", "--uuid", session_id) for _ in range(2))
    assert first == second
    remains = census.of(session_id)
    assert remains.is_complete
    assert remains.releases == {1: "deployed"}


async def test_wake_and_sleep_may_be_repeated(either: Cli, census: Census, steps: Steps) -> None:
    cli = either
    session_id = await steps.create()
    assert [cli.json("wake", "--wait", session_id)["status"] for _ in range(2)] == ["active", "active"]
    with census.redis() as redis:
        assert redis.lrange(f"queue:{session_id}", 0, -1) == ["awake"]
    assert [cli.json("sleep", session_id)["status"] for _ in range(2)] == ["sleeping", "sleeping"]
    remains = census.of(session_id)
    assert remains.objects["deployments"]["spec"]["replicas"] == 0
    assert "queue" not in remains.keys


async def test_delete_and_restore_may_be_repeated(either: Cli, steps: Steps) -> None:
    cli = either
    session_id = await steps.create()
    volume = steps.census.of(session_id).volume_uid
    assert cli.json("delete", session_id) == cli.json("delete", session_id)
    (remains,) = steps.settle([session_id], lambda remains: remains.is_deleted)
    deleted_at = remains.volume and remains.volume["metadata"]["annotations"]["sessionctl.dev/deleted-at"]
    cli.json("delete", session_id)
    (remains,) = steps.settle([session_id], lambda remains: remains.is_deleted)
    # A later delete does not lengthen the retention.
    assert remains.volume
    assert remains.volume["metadata"]["annotations"]["sessionctl.dev/deleted-at"] == deleted_at

    assert cli.json("restore", session_id) == cli.json("restore", session_id)
    (remains,) = steps.settle([session_id], lambda remains: remains.is_complete)
    assert remains.volume_uid == volume
    assert remains.releases == {1: "deployed"}


async def test_a_deleted_session_can_be_purged_and_then_is_unknown(either: Cli, steps: Steps) -> None:
    cli = either
    session_id = await steps.create()
    await steps.delete(session_id)
    assert cli.json("delete", "--purge", "--wait", session_id)["status"] == "purged"
    steps.settle([session_id], lambda remains: remains.is_gone)
    again = cli.run("delete", "--purge", session_id)
    assert again.code == 3
    assert f"there is no session {session_id}" in again.stderr
    assert cli.run("restore", session_id).code == 3
