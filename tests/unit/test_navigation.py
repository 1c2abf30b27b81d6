from __future__ import annotations

from typing import Any

import pytest

from sessionctl.core.navigation import Approach

PAGE: dict[str, Any] = {"mode": "navigate", "dest": "document", "accept": "text/html,*/*"}


@pytest.mark.parametrize(
    "approach",
    [
        Approach("GET", **PAGE),
        Approach("GET", mode="navigate", dest="document"),
        Approach("GET", **PAGE, site="cross-site"),
        Approach("GET", accept="text/html,application/xhtml+xml,*/*;q=0.8"),
    ],
)
def test_somebody_who_opens_the_page_wakes(approach: Approach) -> None:
    assert approach.is_navigation


@pytest.mark.parametrize(
    "approach",
    [
        Approach("HEAD", **PAGE),
        Approach("POST", **PAGE),
        Approach("OPTIONS", **PAGE),
        Approach("get", **PAGE),
        Approach("GET", **PAGE, purposes=("prefetch", "")),
        Approach("GET", **PAGE, purposes=("prefetch;prerender", "")),
        Approach("GET", **PAGE, purposes=("", "Prefetch")),
        Approach("GET", **PAGE, purposes=("", "preview")),
        Approach("GET", mode="cors", dest="empty", accept="text/html"),
        Approach("GET", mode="no-cors", dest="image"),
        Approach("GET", mode="websocket", dest="websocket"),
        Approach("GET", mode="websocket", dest="empty", accept="text/html"),
        Approach("GET", mode="navigate", dest="iframe", accept="text/html"),
        Approach("GET", mode="navigate", dest="embed", accept="text/html"),
        Approach("GET", mode="navigate", accept="text/html"),
        Approach("GET", dest="document", accept="text/html"),
        Approach("GET", accept="*/*"),
        Approach("GET"),
    ],
)
def test_nothing_else_does(approach: Approach) -> None:
    assert not approach.is_navigation


def test_a_form_that_is_sent_is_a_page_and_no_navigation_that_wakes() -> None:
    form = Approach("POST", **PAGE, site="same-origin")
    assert (form.is_page, form.is_navigation, form.is_same_origin) == (True, False, True)


@pytest.mark.parametrize("site", ["same-site", "cross-site", "strange"])
def test_a_sibling_is_not_the_same_origin(site: str) -> None:
    assert not Approach("POST", **PAGE, site=site).is_same_origin
