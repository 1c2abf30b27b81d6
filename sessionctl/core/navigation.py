"""Whether a request is somebody who opens a page: only that wakes a session (DESIGN 8). Pure."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

_SPECULATIVE: Final = ("prefetch", "prerender", "preview")


@dataclass(frozen=True)
class Approach:
    """How a browser says that it comes; empty is what it did not say."""

    method: str
    mode: str = ""
    """``Sec-Fetch-Mode``."""
    dest: str = ""
    """``Sec-Fetch-Dest``."""
    site: str = ""
    """``Sec-Fetch-Site``."""
    purposes: tuple[str, ...] = ()
    """``Sec-Purpose`` and ``Purpose``."""
    accept: str = ""

    @property
    def is_speculative(self) -> bool:
        """Whether the browser loads what nobody has asked for yet."""
        return any(word in purpose.lower() for purpose in self.purposes for word in _SPECULATIVE)

    @property
    def is_page(self) -> bool:
        """Whether a page is to be shown, by whatever method."""
        if self.is_speculative:
            return False
        if self.mode or self.dest:
            return self.mode == "navigate" and self.dest == "document"
        # A browser of before 2023, or no browser: what loads parts of a page does not ask for HTML.
        return "text/html" in self.accept.lower()

    @property
    def is_navigation(self) -> bool:
        """Whether somebody opens a page, in a window of its own."""
        return self.method == "GET" and self.is_page

    @property
    def is_same_origin(self) -> bool:
        """Whether it comes from a page of the same host, or from nowhere; sessions are each other's siblings."""
        return self.site in {"", "none", "same-origin"}
