"""What a user sees, from the first visit to the morning after: portal, chat, editor, sleep, wake page, editor again."""

from __future__ import annotations

import os
import time
from typing import Final

import httpx
import pytest

from tests.node.browser.conftest import People
from tests.node.browser.people import Editor, Portal
from tests.node.platforms import PUBLIC_IDLE_SECONDS
from tests.node.workspaces import Workspaces
from tests.support.waiting import wait_for

_WAKE_PAGE: Final = 503

pytestmark = pytest.mark.skipif("SESSIONCTL_TEST_BROWSER" not in os.environ, reason="make browser runs it")
"""It has a node of its own, and takes six minutes."""


def test_the_whole_way(people: People, workspaces: Workspaces) -> None:
    alice = people(viewport={"width": 1280, "height": 800})
    portal = alice.portal("alice")
    workspaces.made.append(portal.uuid)
    assert "anybody can be anybody" in portal.page.inner_text("header")
    alice.show(portal.page, "portal")

    # The first message starts the pod.
    assert portal.ask("hello workspace") == "hello workspace"
    portal.until("active")
    alice.show(portal.page, "answer")

    workspaces.write(portal.uuid, "first line\n")
    editor = portal.open_editor().ready()
    editor.open_file("file")
    assert "first line" in editor.shown()
    alice.show(editor.page, "editor")

    pod = workspaces.pods(portal.uuid)[0]["metadata"]["uid"]
    _type_for(editor, PUBLIC_IDLE_SECONDS + 10)
    # Nothing but typing was done, and the same pod runs.
    assert [each["metadata"]["uid"] for each in workspaces.pods(portal.uuid)] == [pod]
    assert portal.status() == "active"
    typed = editor.shown()
    wait_for(lambda: workspaces.read(portal.uuid).replace("\n", "").strip() == typed.replace("\n", "").strip(), "saved")
    alice.show(editor.page, "typed")

    editor.close()
    _sleeps(portal, workspaces)
    alice.show(portal.page, "asleep")

    began = time.monotonic()
    page, answer = alice.open(portal.editor_url)
    assert answer.status == _WAKE_PAGE
    shown = time.monotonic() - began
    alice.show(page, "wake-page")
    # By itself.
    page.locator(".monaco-workbench").wait_for()
    opened = time.monotonic() - began
    again = Editor(page, alice).ready()
    usable = time.monotonic() - began
    print(f"after the wake: wake page {shown:.1f} s, VS Code's frame {opened:.1f} s, its files {usable:.1f} s")
    again.open_file("file")
    wait_for(lambda: typed[:200] in again.shown(), "what was typed is there")
    alice.show(page, "editor-again")

    portal.page.reload()
    portal.page.get_by_text("hello workspace").first.wait_for()
    assert portal.replies().last.locator(".text").inner_text() == "hello workspace"
    alice.show(portal.page, "conversation")


def _type_for(editor: Editor, seconds: float) -> None:
    ends = time.monotonic() + seconds
    while time.monotonic() < ends:
        editor.type("word ")
        editor.page.wait_for_timeout(500)


def _sleeps(portal: Portal, workspaces: Workspaces) -> None:
    portal.until("sleeping")
    wait_for(lambda: not workspaces.pods(portal.uuid), "its pod is gone")


def test_a_link_asks_first_and_opens_one_browser(people: People, workspaces: Workspaces, api: httpx.Client) -> None:
    portal = people().portal("bob")
    workspaces.made.append(portal.uuid)
    # Of a backend that does not know the browser; anybody may have sent it to anybody.
    link = api.post(f"/session/{portal.uuid}/access").json()["url"]

    first, second = people(), people(color_scheme="dark")
    page, answer = first.open(link)
    assert answer.ok
    assert "bob" in page.inner_text("main")
    first.show(page, "confirmation")
    page.get_by_role("button").click()
    Editor(page, first).ready()

    page, answer = second.open(link)
    assert 400 <= answer.status < 500
    second.show(page, "refused-link")
    page, _ = second.open(portal.editor_url)
    assert page.url == f"{second.public_url}/portal/#who-are-you"
    Portal(page, second).log_in("eve")
    workspaces.made.append(Portal(page, second).uuid)
    page, _ = second.open(portal.editor_url)
    assert page.url == f"{second.public_url}/portal/#not-yours"
    second.show(page, "not-yours")


def test_a_stale_tab_wakes_nothing_and_the_wake_page_needs_no_script(people: People, workspaces: Workspaces) -> None:
    carol = people(color_scheme="dark")
    portal = carol.portal("carol")
    workspaces.made.append(portal.uuid)
    stale = portal.open_editor().ready()

    # The tab stays open, and nobody looks at it.
    stale.leave_for(portal.page)
    _sleeps(portal, workspaces)
    calm_since = time.monotonic()

    def calm() -> bool:
        assert portal.status() == "sleeping"
        assert not workspaces.pods(portal.uuid)
        return time.monotonic() > calm_since + PUBLIC_IDLE_SECONDS

    wait_for(calm, "it sleeps on, however often the tab connects")
    carol.show(stale.page, "stale-tab")

    plain = people(color_scheme="dark", java_script_enabled=False, storage_state=carol.context.storage_state())
    page, answer = plain.open(portal.editor_url)
    assert answer.status == _WAKE_PAGE
    assert page.locator("h1").count() == 1
    plain.show(page, "wake-page-without-script")
    page.wait_for_url(lambda url: "/_session/" in url)
    # VS Code's page; what it shows needs scripts.
    page.wait_for_url(lambda url: url.startswith(f"{portal.editor_url}?folder="))
    assert page.locator("#vscode-workbench-web-configuration").count() == 1

    with stale.page.expect_navigation():
        stale.page.reload()
    stale.ready()
