"""What people do in a browser, and what they see."""

from __future__ import annotations

import re
import sys
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from playwright.sync_api import BrowserContext, ConsoleMessage, Locator, Page, Response

from tests.support.waiting import PATIENCE_SECONDS, wait_for

PATIENCE_MS: Final = PATIENCE_SECONDS * 1000
WORKBENCH: Final = ".monaco-workbench .explorer-folders-view"
"""Of VS Code: its files are listed."""


@dataclass
class Screenshots:
    """Pictures of a test, in the order in which they were taken."""

    folder: Path
    test: str
    taken: int = 0

    def take(self, page: Page, name: str) -> None:
        """Take one; it replaces that of an earlier run."""
        self.taken += 1
        self.folder.mkdir(parents=True, exist_ok=True)
        test = re.sub(r"\W+", "-", self.test.removeprefix("test_")).strip("-")
        page.screenshot(path=self.folder / f"{test}-{self.taken:02}-{name}.png")


@dataclass
class Person:
    """Somebody with a browser profile of their own."""

    context: BrowserContext
    public_url: str
    screenshots: Screenshots
    said: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.context.set_default_timeout(PATIENCE_MS)
        self.context.on("console", self._note)
        self.context.on("weberror", lambda error: self.said.append(f"error {error.error}"))

    def _note(self, message: ConsoleMessage) -> None:
        if message.type in {"error", "warning"}:
            self.said.append(f"{message.type} {message.text} ({message.location.get('url', '')})")

    def open(self, address: str) -> tuple[Page, Response]:
        """Open an address in a new tab, and return it with the first answer."""
        page = self.context.new_page()
        answer = page.goto(address)
        assert answer is not None
        return page, answer

    def leave(self) -> None:
        """Close every tab; pytest shows what the pages complained about when the test failed."""
        for line in self.said:
            print(line, file=sys.stderr)
        self.context.close()

    def portal(self, name: str) -> Portal:
        """Open the portal and log in as somebody."""
        page, answer = self.open(f"{self.public_url}/portal/")
        assert answer.ok
        portal = Portal(page, self)
        portal.log_in(name)
        return portal

    def show(self, page: Page, name: str) -> None:
        """Take a picture."""
        self.screenshots.take(page, name)


@dataclass
class Portal:
    """A tab with the demo portal."""

    page: Page
    person: Person

    def log_in(self, name: str) -> None:
        """Say who one is."""
        self.page.get_by_label("Name").fill(name)
        self.page.get_by_role("button", name="Enter").click()
        self.page.get_by_role("heading", name=f"Workspace of {name}").wait_for()

    @property
    def editor_url(self) -> str:
        """Where the button to the editor leads."""
        address = self._editor_button().get_attribute("href")
        assert address
        return address

    @property
    def uuid(self) -> str:
        """The session."""
        found = re.search(r"vs-code-([0-9a-f-]{36})\.", self.editor_url)
        assert found
        return found[1]

    def send(self, text: str) -> Locator:
        """Send a message, and return the entry of its reply."""
        entries = self.replies()
        count = entries.count()
        self.page.get_by_label("Message to the agent").fill(text)
        self.page.get_by_label("Message to the agent").press("Enter")
        return entries.nth(count)

    def ask(self, text: str) -> str:
        """Send a message and return its whole reply."""
        entry = self.send(text)
        entry.and_(self.page.locator("[data-outcome=done]")).wait_for()
        return entry.locator(".text").inner_text()

    def replies(self) -> Locator:
        """The agent's entries."""
        return self.page.locator("#log li.agent")

    def status(self) -> str:
        """The state that it shows."""
        return self.page.locator("#state").get_attribute("data-status") or ""

    def until(self, status: str) -> None:
        """Wait until it shows this state."""
        self.page.locator(f"#state[data-status={status}]").wait_for()

    def open_editor(self) -> Editor:
        """Press the button, and return the new tab."""
        with self.page.expect_popup() as opened:
            self._editor_button().click()
        return Editor(opened.value, self.person)

    def _editor_button(self) -> Locator:
        return self.page.get_by_role("link", name="Open VS Code")


@dataclass
class Editor:
    """A tab with VS Code."""

    page: Page
    person: Person

    def ready(self) -> Editor:
        """Wait until VS Code shows the files."""
        self.page.locator(WORKBENCH).wait_for()
        return self

    def open_file(self, name: str) -> None:
        """Open a file of the explorer, and put the cursor into it."""
        self.page.locator(".explorer-folders-view").get_by_text(name, exact=True).dblclick()
        self.text().wait_for()
        self.page.locator(".monaco-editor .view-lines").first.click()

    def text(self) -> Locator:
        """The open file."""
        return self.page.locator(".editor-group-container .view-lines").first

    def shown(self) -> str:
        """What can be read of the open file; VS Code draws its spaces as no-break spaces."""
        return self.text().inner_text().replace("\N{NO-BREAK SPACE}", " ")

    def type(self, text: str) -> None:
        """Type at the end of the open file, and save it."""
        self.page.keyboard.press("Control+End")
        self.page.keyboard.type(text, delay=40)
        self.page.keyboard.press("Control+s")

    def leave_for(self, other: Page) -> None:
        """Go to another tab; Playwright makes every page believe that it has the focus."""
        self.person.context.new_cdp_session(self.page).send("Emulation.setFocusEmulationEnabled", {"enabled": False})
        other.bring_to_front()

    def close(self) -> None:
        """Close the tab."""
        self.page.close()


def wait_for_text(locator: Locator, text: str) -> None:
    """Wait until an element shows a text."""
    wait_for(lambda: text in locator.inner_text(), f"the page shows {text!r}")


def answer_of(page: Page, address: str) -> Any:
    """Fetch an address as a script of the page would, and return status and type of the answer."""
    return page.evaluate(
        "async (url) => { const r = await fetch(url); return [r.status, r.headers.get('content-type')]; }", address
    )
