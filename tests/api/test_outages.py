"""Redis or the API server away: the rows of DESIGN 5 as callers and the load balancer see them."""

from __future__ import annotations

from pathlib import Path

import httpx

from sessionctl.core.identity import new_session_id
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.models import SessionId
from tests.api.world import EVERYTHING, MINE, Api, open_api
from tests.support.api_proxy import ApiProxy
from tests.support.census import Census
from tests.support.redis_proxy import Loss, RedisProxy, script
from tests.support.waiting import until
from tools.localcluster import LocalCluster


def lose(proxy: ApiProxy | RedisProxy) -> None:
    proxy.away = True
    proxy.cut()


def refused(answer: httpx.Response, *codes: str) -> None:
    """See that it may be sent again as it is."""
    assert (answer.status_code, answer.json()["code"] in codes) == (503, True), answer.text
    assert int(answer.headers["Retry-After"]) >= 1
    # Addresses are for the log.
    assert "127.0.0.1" not in answer.text


async def test_without_redis_reads_go_on_and_writes_may_be_sent_again(
    exposed: Api, redis_proxy: RedisProxy, mine: SessionId, census: Census
) -> None:
    path = f"/session/{mine}"
    token = {"Authorization": f"Bearer {(await exposed.services.tokens.issue(mine, MINE, EVERYTHING)).text}"}
    before = (await exposed.get(f"{path}/status")).json()
    objects = census.take([mine])
    lose(redis_proxy)

    status = await exposed.get(f"{path}/status")
    assert status.status_code == 200
    assert status.json()["queue_length"] is None
    assert status.json()["session"]["status"] == before["session"]["status"]
    assert "Redis does not answer" in status.json()["notices"][0]
    listed = await exposed.get("/sessions", params={"limit": 500})
    assert mine in {row["uuid"] for row in listed.json()["sessions"]}

    refused(await exposed.post(f"{path}/wake"), "store_failed", "outcome_unknown")
    refused(await exposed.post(f"{path}/chat", json={"message": "x"}), "store_failed", "outcome_unknown")
    refused(await exposed.post(f"{path}/sleep"), "store_failed", "outcome_unknown")
    refused(await exposed.post(f"{path}/access"), "store_failed", "outcome_unknown")
    refused(await exposed.delete(f"{path}/access"), "store_failed", "outcome_unknown")
    refused(await exposed.post("/session/create", json={"user_id": "nobody"}), "store_failed", "outcome_unknown")
    refused(await exposed.delete(path), "store_failed", "outcome_unknown")
    refused(await exposed.get(f"{path}/messages"), "store_failed")
    refused(await exposed.get(f"{path}/events"), "store_failed")
    # Nobody knows whether it was revoked.
    refused(await exposed.get(f"{path}/status", key=None, headers=token), "store_failed")

    ready = await exposed.get("/readyz?verbose", key=None)
    assert (ready.status_code, ready.json()["dependencies"]) == (
        200,
        {"redis": False, "cluster": True, "watch": True},
    )
    after = census.take([mine])
    assert {uuid: each.objects.keys() for uuid, each in after.items()} == {
        uuid: each.objects.keys() for uuid, each in objects.items()
    }

    redis_proxy.away = False
    assert (await exposed.post(f"{path}/wake")).status_code == 202


async def test_a_write_whose_reply_is_lost_may_be_repeated_with_its_key(
    exposed: Api, redis_proxy: RedisProxy, mine: SessionId
) -> None:
    path = f"/session/{mine}"
    again = {"Idempotency-Key": new_session_id()}

    def lose_all() -> None:
        redis_proxy.away = True

    # The message is stored, its reply is lost, and Redis does not come back for a while.
    redis_proxy.trap(script("enqueue"), Loss.REPLY, before=lose_all)
    refused(await exposed.post(f"{path}/chat", json={"message": "once"}, headers=again), "outcome_unknown")
    redis_proxy.away = False
    repeated = await exposed.post(f"{path}/chat", json={"message": "once"}, headers=again)
    assert repeated.status_code == 202
    shown = (await exposed.get(f"{path}/messages")).json()["messages"]
    assert [each["message_id"] for each in shown if each["message"] == "once"] == [repeated.json()["message_id"]]
    assert (await exposed.post(f"{path}/sleep", params={"force": "true"})).status_code == 200


async def test_without_the_api_server_demand_is_stored_and_the_rest_may_be_sent_again(
    exposed: Api, api_proxy: ApiProxy, mine: SessionId, other: SessionId
) -> None:
    path = f"/session/{mine}"
    await exposed.post(f"{path}/sleep", params={"force": "true"})
    lose(api_proxy)
    await until(lambda: exposed.services.view.stale_for() is not None, "the loss is noticed")

    woken = await exposed.post(f"{path}/wake")
    assert (woken.status_code, woken.json()["status"]) == (202, "queued")
    assert woken.json()["notice"] == "stored; it takes effect when the cluster is back"
    assert (await exposed.post(f"{path}/chat", json={"message": "x"})).status_code == 202
    assert (await exposed.get(f"{path}/status")).status_code == 200
    assert (await exposed.get("/sessions")).status_code == 200
    assert (await exposed.get(f"{path}/messages")).status_code == 200
    assert (await exposed.get(f"/session/{other}/status")).status_code == 404

    refused(await exposed.post("/session/create", json={"user_id": "nobody"}), "cluster_failed")
    refused(await exposed.delete(path), "cluster_failed")
    refused(await exposed.post(f"{path}/sleep", params={"force": "true"}), "cluster_failed")
    # It may have been made a moment ago.
    refused(await exposed.get(f"/session/{new_session_id()}/status"), "cluster_failed")

    ready = await exposed.get("/readyz?verbose", key=None)
    assert (ready.status_code, ready.json()["dependencies"]) == (
        200,
        {"redis": True, "cluster": False, "watch": False},
    )

    api_proxy.away = False
    await until(lambda: exposed.services.view.stale_for() is None, "the view is back")
    assert (await exposed.post(f"{path}/sleep", params={"force": "true"})).status_code == 200


async def test_a_manager_that_has_seen_nothing_yet_knows_no_session_but_those_of_redis(
    platform: LocalCluster,
    sessions: dict[str, SessionId],
    api_proxy: ApiProxy,
    tmp_path: Path,
    mine: SessionId,
    other: SessionId,
) -> None:
    options = DirectOptions(
        kubeconfig=str(api_proxy.write_kubeconfig(tmp_path / "kubeconfig")), helm=str(platform.binary("helm"))
    )
    async with open_factory(options) as factory, open_api(factory, synced=False) as api:
        assert (await api.get("/readyz", key=None)).json() == {"status": "starting"}
        assert (await api.get("/readyz", key=None)).status_code == 503
        refused(await api.get(f"/session/{new_session_id()}/status"), "unavailable")
        assert (await api.post(f"/session/{mine}/wake")).status_code == 202
        assert (await api.post(f"/session/{other}/wake")).status_code == 404
        refused(await api.get("/sessions"), "unavailable")
