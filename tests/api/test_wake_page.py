"""What wakes a session through the router, and what is shown until its editor answers (DESIGN 8)."""

from __future__ import annotations

import asyncio
import json
import re
from collections.abc import AsyncIterator
from typing import Any

import httpx
import pytest
import pytest_asyncio

from sessionctl.core.opening import OpeningService
from sessionctl.models import SessionId
from sessionctl.testing.editors import ScriptedEditors
from tests.api.browser import NAVIGATION, Browser, logged_in
from tests.api.world import Api
from tests.support.census import Census
from tests.support.redis_proxy import RedisProxy
from tests.support.waiting import until


@pytest.fixture
def editors(api: Api) -> ScriptedEditors:
    """Editors of the simulated pods, which serve nothing themselves."""
    scripted = ScriptedEditors()
    api.services.editors.opening._probe = scripted
    return scripted


@pytest_asyncio.fixture
async def browser(api: Api, mine: SessionId) -> AsyncIterator[Browser]:
    """A browser that may open a session, which sleeps."""
    browser = await logged_in(api, mine)
    await asleep(api, mine)
    yield browser
    await asleep(api, mine)


async def asleep(api: Api, session_id: SessionId) -> None:
    async def sleeps() -> bool:
        if (await api.post(f"/session/{session_id}/sleep?force=true")).status_code != 200:
            return False
        seen = await api.factory.mirror.find_workspace(session_id)
        return seen is not None and seen.replicas == 0 and not await api.services.store.list_demanded([session_id])

    await until(sleeps, "the session sleeps, and the manager sees it")


async def awake(api: Api, session_id: SessionId) -> None:
    async def is_active() -> bool:
        report = (await api.get(f"/session/{session_id}/status")).json()
        return bool(report["session"]["status"] == "active")

    await until(is_active, "the session is awake")


def picture(census: Census, session_id: SessionId) -> dict[str, Any]:
    """Everything that a wake or a touch would change."""
    deployment = census.of(session_id).objects["deployments"]
    with census.redis() as redis:
        return {
            "version": deployment["metadata"]["resourceVersion"],
            "replicas": deployment["spec"]["replicas"],
            "queue": redis.lrange(f"queue:{session_id}", 0, -1),
            "record": redis.hgetall(f"session:{session_id}"),
        }


async def test_somebody_who_opens_the_page_wakes_and_sees_it_start(
    api: Api, mine: SessionId, browser: Browser, editors: ScriptedEditors
) -> None:
    page = await browser.navigate("asleep", "/?folder=/workspace")
    assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
    assert int(page.headers["retry-after"]) > 0
    assert page.headers["cache-control"] == "no-store"
    assert 'data-to="/?folder=/workspace"' in page.text
    await awake(api, mine)
    # The pod is ready, and the editor in it not yet.
    waiting = await browser.navigate("wait", "/_session/wait?to=%2F%3Ffolder%3D%2Fworkspace")
    assert waiting.status_code == 503
    (refresh,) = re.findall(r'content="3;url=([^"]+)"', waiting.text)
    assert refresh == "/_session/wait?to=%2F%3Ffolder%3D%2Fworkspace"
    editors.open.add(mine)

    async def opened() -> httpx.Response | None:
        answer = await browser.navigate("wait", refresh)
        return answer if answer.status_code == 303 else None

    answer = await until(opened, "the page goes on without JavaScript")
    assert answer is not None
    assert answer.headers["location"] == "/?folder=/workspace"


NOT_OPENING: dict[str, tuple[str, dict[str, str]]] = {
    "XHR": ("GET", {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"}),
    "image": ("GET", {"Sec-Fetch-Mode": "no-cors", "Sec-Fetch-Dest": "image"}),
    "frame": ("GET", {"Sec-Fetch-Dest": "iframe"}),
    "WebSocket": ("GET", {"Sec-Fetch-Mode": "websocket", "Sec-Fetch-Dest": "websocket"}),
    "POST": ("POST", {}),
    "HEAD": ("HEAD", {}),
    "DELETE": ("DELETE", {}),
    "prefetch": ("GET", {"Sec-Purpose": "prefetch"}),
    "prerender": ("GET", {"Sec-Purpose": "prefetch;prerender"}),
    "old prefetch": ("GET", {"Purpose": "prefetch"}),
    "curl": ("GET", {"Sec-Fetch-Mode": "", "Sec-Fetch-Dest": "", "Accept": "*/*"}),
}


async def test_nothing_else_wakes_or_changes_anything(
    api: Api, mine: SessionId, browser: Browser, editors: ScriptedEditors, census: Census
) -> None:
    before = picture(census, mine)
    for _ in range(3):
        for method, headers in NOT_OPENING.values():
            assert await browser.auth() == 204
            answer = await browser.send("asleep", "/", method, **NAVIGATION | headers)
            assert (answer.status_code, answer.json()["code"]) == (503, "asleep")
            assert answer.headers["content-type"] == "application/problem+json"
            assert int(answer.headers["retry-after"]) > 0
        nobody = Browser(api, mine, {"__Host-session": "x.y"})
        assert (await nobody.navigate("asleep", "/")).status_code == 401
        # The page's own refresh, and whoever follows it, only look.
        assert (await browser.navigate("wait", "/_session/wait?to=/")).status_code == 503
    assert picture(census, mine) == before
    assert editors.asked == []


async def test_a_request_that_passes_is_activity_of_a_session_that_is_awake(
    api: Api, mine: SessionId, browser: Browser, census: Census
) -> None:
    await browser.navigate("asleep", "/")
    await awake(api, mine)
    first = picture(census, mine)["record"]["last_active"]

    async def moved() -> bool:
        assert await browser.auth() == 204
        return bool(picture(census, mine)["record"]["last_active"] > first)

    await until(moved, "the request is written down")
    assert picture(census, mine)["queue"] == ["awake"]


async def test_steps_come_as_events_until_the_editor_answers(
    api: Api, mine: SessionId, browser: Browser, editors: ScriptedEditors
) -> None:
    following = asyncio.create_task(browser.send("progress"))
    await asyncio.sleep(0)
    await browser.navigate("asleep", "/")
    await awake(api, mine)
    await until(lambda: mine in editors.asked, "the editor is asked")
    editors.open.add(mine)
    answer = await asyncio.wait_for(following, 60)
    assert answer.headers["content-type"].startswith("text/event-stream")
    events = re.findall(r"event: (\w+)\ndata: (.*)\n", answer.text)
    assert [kind for kind, _ in events[:-1]] == ["step"] * (len(events) - 1)
    steps = [json.loads(data) for _, data in events]
    assert events[-1][0] == "ready"
    assert [step["phase"] for step in steps][-2:] == ["editor", "ready"]
    assert all(step["text"] and step["heading"] for step in steps)


async def test_a_revoked_cookie_is_not_told_any_more(api: Api, mine: SessionId, browser: Browser) -> None:
    api.services.editors.watchers.heartbeat_seconds = 0.05
    following = asyncio.create_task(browser.send("progress"))
    await asyncio.sleep(0)
    await api.delete(f"/session/{mine}/access")
    await asyncio.wait_for(following, 30)
    assert (await browser.send("progress")).status_code == 401


async def test_those_who_wait_are_bounded(api: Api, mine: SessionId, browser: Browser) -> None:
    watchers = api.services.editors.watchers
    watchers.most_per_caller = 1
    with watchers.place(mine):
        refused = await browser.send("progress")
    assert (refused.status_code, int(refused.headers["retry-after"]) > 0) == (429, True)


async def test_why_it_does_not_start_is_shown(api: Api, mine: SessionId, browser: Browser) -> None:
    class Failing:
        async def look(self, _: SessionId) -> object:
            from sessionctl.core.opening import Phase, Step

            return Step(Phase.FAILED, "its image x:y cannot be had (ErrImagePull): not found")

    shown = api.services.editors
    real: OpeningService = shown.opening
    object.__setattr__(shown, "opening", Failing())
    page = await browser.navigate("wait", "/_session/wait?to=/a")
    object.__setattr__(shown, "opening", real)
    assert "does not start" in page.text
    assert "Its image x:y cannot be had (ErrImagePull): not found." in page.text
    assert 'href="/a"' in page.text
    assert "http-equiv" not in page.text


async def test_whoever_may_not_wake_is_told_why(
    api: Api, mine: SessionId, browser: Browser, census: Census, monkeypatch: pytest.MonkeyPatch
) -> None:
    from sessionctl.errors import QuotaExceededError, RateLimitedError

    before = picture(census, mine)
    for error in (QuotaExceededError("as many workspaces as allowed are awake"), RateLimitedError("too many requests")):

        async def refuse(*_: object, raised: Exception = error) -> None:
            raise raised

        monkeypatch.setattr(api.services.throttle, "take", refuse)
        page = await browser.navigate("asleep", "/")
        assert page.status_code == 503
        assert error.message[1:] in page.text
    assert picture(census, mine) == before


@pytest.mark.parametrize("to", ["//evil.example", "https://evil.example", "/\\evil.example", "/%5Cevil.example%09", ""])
async def test_the_way_on_stays_on_the_host(api: Api, mine: SessionId, to: str) -> None:
    answer = await Browser(api, mine).navigate("wait", f"/_session/wait?to={to}")
    # Whoever is not logged in is sent on, to where the router says what to do.
    assert (answer.status_code, answer.headers["location"]) == (303, "/")


async def test_without_redis_the_page_says_so_and_nothing_is_lost(
    exposed: Api, mine: SessionId, redis_proxy: RedisProxy
) -> None:
    browser = await logged_in(exposed, mine)
    redis_proxy.away = True
    redis_proxy.cut()
    for path in ("asleep", "wait", "login"):
        page = await browser.navigate(path, f"/_session/{path}?to=/&code={'x' * 43}")
        assert (page.status_code, page.headers["content-type"]) == (503, "text/html; charset=utf-8")
        assert int(page.headers["retry-after"]) > 0
        told = await browser.send(path, f"/_session/{path}?to=/&code={'x' * 43}")
        assert told.status_code in {403, 503}, "what is no page gets none"
        assert "html" not in told.headers["content-type"] or path == "wait"
