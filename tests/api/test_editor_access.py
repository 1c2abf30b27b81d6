"""Who gets into an editor: links, codes, cookies, their end (DESIGN 8)."""

from __future__ import annotations

import asyncio
import re
from dataclasses import replace
from datetime import timedelta

import pytest

from sessionctl.adapters.store import keys
from sessionctl.core.identity import new_session_id
from sessionctl.core.visitors import VisitorCookies
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.models import EventKind, Login, SessionId
from tests.api.browser import FORM, NAVIGATION, Browser, link_to, logged_in
from tests.api.world import MINE, Api, open_api
from tests.support.census import Census
from tests.support.redis_proxy import RedisProxy
from tests.support.waiting import until

STATE = "state-of-this-browser"


async def test_a_link_for_a_browser_opens_there_without_a_question(api: Api, mine: SessionId) -> None:
    browser = Browser(api, mine, {"__Host-session-state": STATE})
    assert await browser.auth() == 401
    answer = await browser.login(await link_to(api, mine, STATE))
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert answer.headers["cache-control"] == "no-store"
    assert browser.cookies.keys() == {"__Host-session"}
    assert await browser.auth() == 204

    async def is_told() -> bool:
        events = await api.services.store.list_events(mine, None, 1000)
        return EventKind.EDITOR_LOGIN in {event.kind for event in events}

    await until(is_told, "the login is in the session's history")


async def test_a_link_for_no_browser_asks_whose_workspace_it_is(api: Api, mine: SessionId) -> None:
    browser = Browser(api, mine)
    link = await link_to(api, mine)
    for _ in range(2):
        # Also when it is opened twice: nobody is led into somebody else's workspace without a word.
        page = await browser.login(link)
        assert (page.status_code, page.headers["content-type"]) == (200, "text/html; charset=utf-8")
        assert "alice" in page.text
        assert browser.cookies.keys() == {"__Host-session-state"}
    assert await browser.auth() == 401
    (action,) = re.findall(r'action="([^"]+)"', page.text)
    assert action == link[link.index("/_session/") :]
    answer = await browser.login(action, "POST")
    assert (answer.status_code, answer.headers["location"]) == (303, "/")
    assert await browser.auth() == 204


async def test_a_link_works_once_and_in_one_browser(api: Api, mine: SessionId, other: SessionId) -> None:
    async def refused(browser: Browser, link: str, method: str = "GET") -> str:
        page = await browser.login(link, method)
        assert (page.status_code, page.headers["content-type"]) == (403, "text/html; charset=utf-8")
        assert "__Host-session" not in browser.cookies
        return page.text

    bound, unbound = await link_to(api, mine, STATE), await link_to(api, mine)
    victim = Browser(api, mine, {"__Host-session-state": "state-of-the-victim"})
    assert "another browser" in await refused(victim, bound)
    assert "another browser" in await refused(Browser(api, mine), bound)
    # A button that was never shown there.
    assert "another browser" in await refused(victim, unbound, "POST")
    first = Browser(api, mine)
    assert (await first.login(unbound)).status_code == 200
    assert "another browser" in await refused(victim, unbound)
    assert "another browser" in await refused(victim, unbound, "POST")
    # On another session's host, where somebody else's workspace would open.
    for link in (bound, unbound):
        await refused(Browser(api, other, {"__Host-session-state": STATE}), link)
    # None of it has used them up.
    assert (await first.login(unbound, "POST")).status_code == 303
    owner = Browser(api, mine, {"__Host-session-state": STATE})
    assert (await owner.login(bound)).status_code == 303
    for link in (bound, unbound):
        again = Browser(api, mine, {"__Host-session-state": STATE})
        for method in ("GET", "POST"):
            assert "used already" in await refused(again, link, method)


@pytest.mark.parametrize("code", ["", "x", "x" * 43, "x" * 5000, "%00", "../../x"])
async def test_what_is_no_code_opens_nothing(api: Api, mine: SessionId, code: str) -> None:
    for method in ("GET", "POST"):
        answer = await Browser(api, mine, {"__Host-session-state": STATE}).login(f"/_session/login?code={code}", method)
        assert answer.status_code == 403
    assert (await Browser(api, mine).login("/_session/login")).status_code == 403


async def test_a_link_that_is_too_late_opens_nothing(
    options: DirectOptions, sessions: dict[str, SessionId], census: Census
) -> None:
    async with open_factory(options) as factory, open_api(factory, code_lifetime=timedelta(milliseconds=1)) as api:
        link = await link_to(api, sessions[MINE], STATE)
        with census.redis() as redis:
            await until(lambda: not redis.exists(keys.code(link.partition("=")[2])), "the code expires")
        answer = await Browser(api, sessions[MINE], {"__Host-session-state": STATE}).login(link)
        assert answer.status_code == 403
        assert "too old" in answer.text


@pytest.mark.parametrize(
    "headers",
    [
        {"Sec-Purpose": "prefetch"},
        {"Sec-Fetch-Mode": "cors", "Sec-Fetch-Dest": "empty"},
        {"Sec-Fetch-Mode": "", "Sec-Fetch-Dest": "", "Accept": "*/*"},
        {"Sec-Fetch-Dest": "iframe"},
    ],
)
async def test_what_only_looks_at_links_does_not_use_them_up(
    api: Api, mine: SessionId, headers: dict[str, str]
) -> None:
    link = await link_to(api, mine)
    assert (await Browser(api, mine).login(link, **headers)).status_code == 403
    assert (await Browser(api, mine).login(link)).status_code == 200


@pytest.mark.parametrize("site", ["same-site", "cross-site"])
async def test_no_other_page_presses_the_button(api: Api, mine: SessionId, site: str) -> None:
    """A workspace beside it is the same site: its scripts can send a form here with the cookies."""
    browser, link = Browser(api, mine), await link_to(api, mine)
    assert (await browser.login(link, **{"Sec-Fetch-Site": site})).status_code == 200
    assert (await browser.login(link, "POST", **{"Sec-Fetch-Site": site})).status_code == 403
    assert "__Host-session" not in browser.cookies
    assert (await browser.login(link, "POST")).status_code == 303


@pytest.mark.parametrize("state", ["short", "x" * 129, "with space and more", "semi;colon-semi;colon", ""])
async def test_what_is_no_state_is_named(api: Api, mine: SessionId, state: str) -> None:
    answer = await api.post(f"/session/{mine}/access", json={"state": state})
    assert (answer.status_code, answer.json()["errors"][0]["field"]) == (422, "state")


async def test_a_cookie_is_of_one_session(api: Api, mine: SessionId, other: SessionId) -> None:
    cookie = (await logged_in(api, mine)).cookies["__Host-session"]
    for session_id in (other, new_session_id(), SessionId("x"), SessionId("")):
        stranger = Browser(api, session_id, {"__Host-session": cookie})
        answers = [await stranger.send(path) for path in ("auth", "progress")]
        assert [answer.status_code for answer in answers] == [401, 401]
        # What the browser is told must not make it ask for a password.
        assert all("www-authenticate" not in answer.headers for answer in answers)
    for wrong in (cookie[:-2], f"{cookie}x", "x.y", cookie.partition(".")[0]):
        assert await Browser(api, mine, {"__Host-session": wrong}).auth() == 401


async def test_neither_a_token_nor_a_key_opens_an_editor(api: Api, mine: SessionId) -> None:
    token = (await api.post(f"/session/{mine}/access")).json()["token"]
    for text in (token, token.removeprefix("st_"), api.keys["all"]):
        browser = Browser(api, mine, {"__Host-session": text})
        assert await browser.auth() == 401
        assert (await browser.send("auth", Authorization=f"Bearer {token}")).status_code == 401
        assert (await browser.send("auth", **{"X-API-Key": api.keys["all"]})).status_code == 401


async def test_a_revocation_ends_cookies_and_links_and_what_comes_after_is_good(api: Api, mine: SessionId) -> None:
    browser, unused, shown = await logged_in(api, mine), await link_to(api, mine, STATE), Browser(api, mine)
    asked = await link_to(api, mine)
    assert (await shown.login(asked)).status_code == 200
    assert (await api.delete(f"/session/{mine}/access")).status_code == 204
    assert await browser.auth() == 401
    assert (await Browser(api, mine, {"__Host-session-state": STATE}).login(unused)).status_code == 403
    assert (await shown.login(asked, "POST")).status_code == 403
    assert "__Host-session" not in shown.cookies
    assert await (await logged_in(api, mine)).auth() == 204


async def test_a_logout_ends_every_browser_and_no_other_page_can_ask_for_it(api: Api, mine: SessionId) -> None:
    one, two = await logged_in(api, mine), await logged_in(api, mine)
    for method, site in (("GET", "same-origin"), ("POST", "same-site"), ("POST", "cross-site")):
        answer = await one.send("logout", "/_session/logout", method, **NAVIGATION | {"Sec-Fetch-Site": site})
        assert answer.status_code == 405
    assert await one.auth() == 204
    # A copy of its cookie is of no more use than the browser's own.
    copied = one.cookies["__Host-session"]
    page = await one.send("logout", "/_session/logout", "POST", **FORM)
    assert (page.status_code, "__Host-session" in one.cookies) == (200, False)
    assert await Browser(api, mine, {"__Host-session": copied}).auth() == 401
    assert await two.auth() == 401
    # Somebody without a cookie ends nobody's login.
    three = await logged_in(api, mine)
    assert (await Browser(api, mine).send("logout", "/_session/logout", "POST", **FORM)).status_code == 200
    assert await three.auth() == 204


async def test_a_platform_key_that_is_being_changed_still_opens_and_one_that_was_removed_does_not(
    api: Api, mine: SessionId
) -> None:
    store, clock = api.factory.store, api.factory.clock
    login = Login(mine, MINE, "alice", await store.get_token_epoch(mine))
    lifetime = timedelta(hours=1)
    old = Browser(api, mine, {"__Host-session": VisitorCookies(["old"], store, clock, lifetime).issue(login)})
    for known, status in ((["new", "old"], 204), (["new"], 401)):
        editors = replace(api.services.editors, cookies=VisitorCookies(known, store, clock, lifetime))
        api.app.state.services = replace(api.services, editors=editors)
        assert await old.auth() == status


async def test_a_deleted_session_lets_nobody_in(api: Api, census: Census) -> None:
    uuid = SessionId((await api.post("/session/create", json={"user_id": "leaving"})).json()["uuid"])
    browser, link = await logged_in(api, uuid), await link_to(api, uuid, STATE)
    assert (await api.delete(f"/session/{uuid}")).status_code == 202
    await until(lambda: _is(browser, 401), "the cookie is refused")
    assert (await Browser(api, uuid, {"__Host-session-state": STATE}).login(link)).status_code == 403
    assert (await api.post(f"/session/{uuid}/restore")).status_code == 200
    assert await browser.auth() == 401
    await api.delete(f"/session/{uuid}?purge=true")
    census.wipe([uuid])


async def test_without_redis_the_router_is_told_to_go_on_as_before(
    exposed: Api, mine: SessionId, redis_proxy: RedisProxy
) -> None:
    browser = await logged_in(exposed, mine)
    assert await browser.auth() == 204
    redis_proxy.away = True
    redis_proxy.cut()
    answers = await asyncio.gather(*(browser.send("auth") for _ in range(20)))
    assert {answer.status_code for answer in answers} == {503}
    assert (await browser.login("/_session/login?code=" + "x" * 43)).status_code == 503
    redis_proxy.away = False
    await until(lambda: _is(browser, 204), "it is let in again")


async def _is(browser: Browser, status: int) -> bool:
    return await browser.auth() == status
