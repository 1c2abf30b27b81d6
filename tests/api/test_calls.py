"""Each call of DESIGN 6 and the exact shape of its answer."""

from __future__ import annotations

import re
from datetime import datetime

from tests.api.world import MINE, Api
from tests.support.waiting import until

UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")


async def test_the_life_of_a_session(api: Api) -> None:
    made = await api.post("/session/create", json={"user_id": "bob"})
    assert made.status_code == 201
    body = made.json()
    uuid = body["uuid"]
    assert UUID.fullmatch(uuid)
    assert datetime.fromisoformat(body["created_at"]).tzinfo is not None
    assert body == {
        "uuid": uuid,
        "user_id": "bob",
        "status": "created",
        "created_at": body["created_at"],
        "url": f"https://vs-code-{uuid}.example.com/",
    }

    # No wait: another manager may have made it, and whoever made it asks at once.
    seen = (await api.get(f"/session/{uuid}/status")).json()
    assert seen == {
        "uuid": uuid,
        "session": {
            "user_id": "bob",
            "tenant": MINE,
            "profile": "default",
            "status": "created",
            "reason": None,
            "url": body["url"],
            "created_at": body["created_at"],
            "last_active": seen["session"]["last_active"],
            "deleted_at": None,
            "restorable_until": None,
        },
        "queue_length": 0,
        "replicas": 0,
        "ready_replicas": 0,
        "timestamp": seen["timestamp"],
        "notices": [],
    }

    woken = await api.post(f"/session/{uuid}/wake")
    assert (woken.status_code, woken.json()) == (202, {"uuid": uuid, "action": "wake", "status": "queued"})

    async def is_active() -> bool:
        now = (await api.get(f"/session/{uuid}/status")).json()
        return bool(now["session"]["status"] == "active" and now["replicas"] == 1 and now["queue_length"] == 0)

    await until(is_active, "the session is active")

    why = (await api.get(f"/session/{uuid}/why")).json()
    assert (why["status"], why["awake"], why["limits"]) == ("active", True, [])
    (holder,) = why["held_by"]
    assert (holder["kind"], holder["until"]) == ("recent", why["sleeps_at"])

    slept = await api.post(f"/session/{uuid}/sleep")
    assert (slept.status_code, slept.json()) == (200, {"uuid": uuid, "action": "sleep", "status": "sleeping"})

    gone = await api.delete(f"/session/{uuid}")
    assert (gone.status_code, gone.json()) == (202, {"uuid": uuid, "action": "delete", "status": "deleted"})
    why = (await api.get(f"/session/{uuid}/why")).json()
    assert (why["awake"], why["held_by"], why["sleeps_at"]) == (False, [], None)
    assert why["deleted_for_good_at"] is not None
    deleted = (await api.get("/sessions", params={"status": "deleted", "user_id": "bob"})).json()["sessions"]
    assert uuid in {row["uuid"] for row in deleted}
    assert (await api.post(f"/session/{uuid}/wake")).status_code == 409

    back = await api.post(f"/session/{uuid}/restore")
    assert (back.status_code, back.json()) == (200, {"uuid": uuid, "action": "restore", "status": "restored"})

    purged = await api.delete(f"/session/{uuid}", params={"purge": "true"})
    assert (purged.status_code, purged.json()) == (202, {"uuid": uuid, "action": "delete", "status": "purged"})
