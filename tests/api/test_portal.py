"""The demo portal: off unless wanted, one session a name, and closed to the pages of others."""

from __future__ import annotations

import asyncio
import re
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final
from urllib.parse import parse_qs, urlsplit

import httpx
import pytest

from sessionctl.core.portal import LONGEST_NAME, TENANT
from sessionctl.factory import DirectOptions, open_factory
from sessionctl.labels import session_url
from sessionctl.models import SessionId
from sessionctl.settings import PortalSettings
from tests.api.world import Api, open_api
from tests.support.waiting import until

FILES: Final = ("", "portal.css", "portal.js")
OURS: Final = {"Sec-Fetch-Site": "same-origin", "Origin": "http://api"}
STATE: Final = "0123456789abcdef0123456789abcdef"
FOREIGN: Final[dict[str, dict[str, str]]] = {
    "a workspace, which is a sibling": {"Sec-Fetch-Site": "same-site", "Origin": "https://vs-code-x.api"},
    "another site": {"Sec-Fetch-Site": "cross-site", "Origin": "https://evil.example"},
    "another site in an old browser": {"Origin": "https://evil.example"},
    "a page without an origin": {"Origin": "null"},
    "one that lies about its origin": {"Sec-Fetch-Site": "cross-site", "Origin": "http://api"},
}


@pytest.fixture
async def portal(options: DirectOptions, sessions: dict[str, SessionId]) -> AsyncIterator[Api]:
    """The application with the portal."""
    async with (
        open_factory(options) as factory,
        open_api(factory, portal=PortalSettings(enabled=True, max_sessions=500)) as opened,
    ):
        yield opened


async def enter(portal: Api, name: str, **rest: Any) -> httpx.Response:
    return await portal.http.post("/portal/login", json={"name": name}, **rest)


async def visit(portal: Api, name: str) -> dict[str, Any]:
    answer = await enter(portal, name, headers=OURS)
    assert answer.status_code == 200, answer.text
    found: dict[str, Any] = answer.json()
    return found


async def test_there_is_none_unless_it_is_wanted(api: Api) -> None:
    answers = [await api.http.get("/portal/"), await api.http.get("/portal/portal.js"), await enter(api, "ann")]
    assert {answer.status_code for answer in answers} == {404}
    assert (await api.get("/openapi.json")).text.count("portal") == 0


async def test_the_page_is_whole_and_says_what_it_is(portal: Api) -> None:
    for name in FILES:
        answer = await portal.http.get(f"/portal/{name}")
        assert answer.status_code == 200
        policy = answer.headers["content-security-policy"]
        assert policy.startswith("default-src 'none'")
        assert "unsafe" not in policy
        # Nothing of it comes from elsewhere.
        assert not re.findall(r"https?:|//[a-z]", re.sub(r"(?m)^//.*|^\s+// .*", "", answer.text))
    page = (await portal.http.get("/portal/")).text
    assert "anybody can be anybody" in page
    assert set(re.findall(r'(?:src|href)="([a-z.]+)"', page)) == {"portal.css", "portal.js"}
    assert (await portal.http.get("/portal")).headers["location"] == "/portal/"


async def test_a_name_has_one_session_and_a_token_for_it_alone(portal: Api) -> None:
    first, again, other = [await visit(portal, name) for name in ("carol", "carol", "dave")]
    assert first["uuid"] == again["uuid"] != other["uuid"]
    bearer = {"Authorization": f"Bearer {again['token']}"}
    status = await portal.http.get(f"/session/{first['uuid']}/status", headers=bearer)
    assert status.json()["session"]["user_id"] == "carol"
    assert status.json()["session"]["tenant"] == TENANT
    assert (await portal.http.post(f"/session/{first['uuid']}/wake", headers=bearer)).status_code == 202
    refused = [
        await portal.http.get(f"/session/{other['uuid']}/status", headers=bearer),
        await portal.http.post(f"/session/{first['uuid']}/access", headers=bearer),
        await portal.http.get("/sessions", headers=bearer),
    ]
    assert [answer.status_code for answer in refused] == [404, 403, 403]


async def test_two_who_come_at_once_find_the_same(portal: Api) -> None:
    async def come() -> str:
        found: list[str] = []

        async def entered() -> bool:
            answer = await enter(portal, "erin", headers=OURS)
            # Whoever comes while the other one's is made is told to come again.
            assert answer.status_code in {200, 409}, answer.text
            if answer.status_code == 200:
                found.append(answer.json()["uuid"])
            return bool(found)

        await until(entered, "a session")
        return found[0]

    assert len({*await asyncio.gather(*(come() for _ in range(3)))}) == 1


@pytest.mark.parametrize("purge", ["false", "true"])
async def test_after_a_delete_there_is_another_for_all_who_come(portal: Api, purge: str) -> None:
    # A purged one has left its conversation in the history for a while.
    name = f"frank-{purge}"
    gone = await visit(portal, name)
    bearer = {"Authorization": f"Bearer {gone['token']}"}
    deleted = await portal.http.delete(f"/session/{gone['uuid']}?purge={purge}", headers=bearer)
    assert deleted.status_code == 202

    async def another() -> str:
        answer = await enter(portal, name, headers=OURS)
        return str(answer.json()["uuid"]) if answer.status_code == 200 else ""

    fresh = await until(another, "another session")
    assert fresh != gone["uuid"]
    assert (await visit(portal, name))["uuid"] == fresh


async def test_there_is_an_end_to_names_but_not_for_those_who_were_here(
    options: DirectOptions, sessions: dict[str, SessionId]
) -> None:
    settings = PortalSettings(enabled=True, max_sessions=1)
    async with open_factory(options) as factory, open_api(factory, portal=settings) as full:
        # The first of all names, or one more than there may be.
        await enter(full, "grace", headers=OURS)
        refused = await enter(full, "heidi", headers=OURS)
        assert (refused.status_code, refused.json()["code"]) == (403, "quota_exceeded")
        known = (await full.services.views.list_sessions(tenant=TENANT)).sessions[0].owner.user_id
        assert (await enter(full, known, headers=OURS)).status_code == 200


@pytest.mark.parametrize("name", ["", "x" * (LONGEST_NAME + 1), "a\nb"])
async def test_what_is_no_name_is_refused(portal: Api, name: str) -> None:
    answer = await enter(portal, name, headers=OURS)
    assert (answer.status_code, [each["field"] for each in answer.json()["errors"]]) == (422, ["name"])


@pytest.mark.parametrize("whose", FOREIGN)
async def test_nobody_is_logged_in_by_a_page_of_others(portal: Api, whose: str) -> None:
    answer = await enter(portal, "ivan", headers=FOREIGN[whose])
    assert (answer.status_code, answer.json()["code"]) == (403, "forbidden")
    assert "set-cookie" not in answer.headers
    assert not (await portal.services.views.list_sessions(tenant=TENANT, user_id="ivan")).sessions


async def test_its_cookie_is_of_its_host_alone(portal: Api) -> None:
    cookie = (await enter(portal, "Zoë; Path=/x", headers=OURS)).headers["set-cookie"]
    head, *attributes = cookie.split("; ")
    assert head.startswith("__Host-portal=Zo%C3%AB%3B%20Path")
    assert {each.lower() for each in attributes} >= {"secure", "httponly", "path=/", "samesite=lax"}
    assert not [each for each in attributes if each.lower().startswith("domain")]


async def test_the_way_into_the_editor_is_for_its_user(portal: Api) -> None:
    mine, other = await visit(portal, "judy"), await visit(portal, "mallory")

    async def go(session: str, name: str | None) -> str:
        cookies = {"Cookie": f"__Host-portal={name}"} if name is not None else {}
        portal.http.cookies.clear()
        answer = await portal.http.get("/portal/editor", params={"session": session, "state": STATE}, headers=cookies)
        assert answer.status_code == 303
        assert answer.headers["cache-control"] == "no-store"
        return answer.headers["location"]

    place = await go(mine["uuid"], "judy")
    domain = portal.services.settings.sessions.domain
    assert place.startswith(f"{session_url(mine['uuid'], domain)}_session/login?")
    assert len(parse_qs(urlsplit(place).query)["code"][0]) == 43
    assert await go(mine["uuid"], "mallory") == "/portal/#not-yours"
    assert await go("no-session", "judy") == "/portal/#not-yours"
    assert await go(mine["uuid"], None) == "/portal/#who-are-you"
    assert await go(other["uuid"], "mallory") != "/portal/#not-yours"


def test_the_pages_files_are_those_that_are_served() -> None:
    folder = Path(__file__).parents[2] / "sessionctl/api/portal"
    assert {file.name for file in folder.iterdir()} == {"index.html", "portal.css", "portal.js"}
