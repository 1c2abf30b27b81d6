"""Pages of a list of sessions, which is ordered by age."""

from __future__ import annotations

import base64
import binascii
from bisect import bisect_right
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sessionctl.errors import InvalidRequestError

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import SessionView

_Place = tuple[datetime, str]


@dataclass(frozen=True)
class Page:
    """Some sessions, and where the next page begins; None on the last one."""

    views: Sequence[SessionView]
    cursor: str | None


def page(views: Sequence[SessionView], cursor: str | None, limit: int) -> Page:
    """Cut one page out of all views, oldest first; raises InvalidRequestError for a cursor that is none of ours.

    Nothing is left out and nothing comes twice, whatever is made and deleted between two pages.
    """
    start = bisect_right(views, _parse(cursor), key=_place) if cursor is not None else 0
    chosen = views[start : start + limit]
    more = len(views) > start + limit
    return Page(chosen, _render(_place(chosen[-1])) if more else None)


def _place(view: SessionView) -> _Place:
    return view.owner.created_at, view.session_id


def _render(place: _Place) -> str:
    return base64.urlsafe_b64encode(f"{place[0].isoformat()} {place[1]}".encode()).rstrip(b"=").decode()


def _parse(cursor: str) -> _Place:
    try:
        moment, _, session_id = base64.urlsafe_b64decode(cursor + "=" * (-len(cursor) % 4)).decode().partition(" ")
        found = datetime.fromisoformat(moment)
    except (ValueError, binascii.Error):
        raise InvalidRequestError("the cursor is not one that a page ended with") from None
    if found.tzinfo is None:
        raise InvalidRequestError("the cursor is not one that a page ended with")
    return found, session_id
