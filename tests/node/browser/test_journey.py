"""What a user sees, from the first visit to the morning after: portal, chat, editor, sleep, wake page, editor again."""

from __future__ import annotations

import time
from typing import Final

from tests.node.browser.conftest import People
from tests.node.browser.people import Editor, Portal
from tests.node.platforms import PUBLIC_IDLE_SECONDS
from tests.node.workspaces import Workspaces
from tests.support.waiting import wait_for

_WAKE_PAGE: Final = 503


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
    _type_for(editor, 3 * PUBLIC_IDLE_SECONDS)
    # Nothing but typing was done, and the same pod runs.
    assert [each["metadata"]["uid"] for each in workspaces.pods(portal.uuid)] == [pod]
    assert portal.status() == "active"
    typed = editor.shown()
    wait_for(lambda: workspaces.read(portal.uuid).replace("\n", "").strip() == typed.replace("\n", "").strip(), "saved")
    alice.show(editor.page, "typed")

    editor.close()
    _sleeps(portal, workspaces)
    alice.show(portal.page, "asleep")

    page, answer = alice.open(portal.editor_url)
    assert answer.status == _WAKE_PAGE
    alice.show(page, "wake-page")
    # By itself.
    again = Editor(page, alice).ready()
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
