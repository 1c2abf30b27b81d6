"""A headless Chromium before the real cluster; a folder of tests/node, because a machine has room for one cluster."""

from __future__ import annotations

import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, Final

import httpx
import pytest
from playwright.sync_api import Browser, sync_playwright

from sessionctl.core.portal import TENANT
from tests.node.browser.people import Person, Screenshots
from tests.node.platforms import PUBLIC, Installed
from tests.node.workspaces import Workspaces
from tests.support.sessionctl_cli import Cli
from tests.support.waiting import wait_for
from tools.debian import ensure_packages
from tools.localcluster import LocalCluster
from tools.localcluster.managers import make_key
from tools.pins import ROOT
from tools.progress import Progress

ARTEFACTS: Final = Path(os.environ.get("SESSIONCTL_TEST_ARTEFACTS", ROOT / "build" / "browser"))
People = Callable[..., Person]
ASKED: Final = 20
"""Of two managers, one that does not know a key yet is missed by so many calls once in a million times."""


@pytest.fixture(scope="module")
def public(installed: Installed) -> LocalCluster:
    """The node with managers, router and portal, behind the TLS edge."""
    return installed.want(PUBLIC)


@pytest.fixture(scope="module")
def browser() -> Iterator[Browser]:
    """Debian's Chromium. Of one module: while it runs no other event loop may."""
    ensure_packages(["chromium"], Progress(None))
    with sync_playwright() as playwright:
        # The edge's certificate is self-made. Only as a flag it is accepted for service workers too.
        started = playwright.chromium.launch(
            executable_path=shutil.which("chromium"), args=["--ignore-certificate-errors"]
        )
        yield started
        started.close()


@pytest.fixture
def people(browser: Browser, public: LocalCluster, request: pytest.FixtureRequest) -> Iterator[People]:
    """Makes people, each with a browser profile of their own; what their pages said is shown when the test fails."""
    made: list[Person] = []
    screenshots = Screenshots(ARTEFACTS, request.node.name)

    def make(**settings: Any) -> Person:
        person = Person(browser.new_context(**settings), public.public_url, screenshots)
        made.append(person)
        return person

    yield make
    for person in made:
        person.leave()


@pytest.fixture(scope="module")
def api(public: LocalCluster) -> Iterator[httpx.Client]:
    """The Session API, as a backend calls it that holds the key of the portal's tenant."""
    key = make_key(public, "demo-backend", TENANT)
    assert key
    with httpx.Client(base_url=public.api_url, headers={"X-API-Key": key}, timeout=60) as client:

        def is_known() -> bool:
            return all(client.get("/sessions").is_success for _ in range(ASKED))

        wait_for(is_known, "both managers know the key")
        yield client


@pytest.fixture
def workspaces(public: LocalCluster) -> Iterator[Workspaces]:
    """Looks at sessions from the operator's side; those of the test are gone after it."""
    found = Workspaces(public, Cli.on(public))
    yield found
    found.purge_all()
