"""Pages of sessions, whatever comes and goes between two of them."""

from __future__ import annotations

import base64
import random
from dataclasses import replace
from datetime import UTC, datetime, timedelta, timezone
from typing import TYPE_CHECKING, Any, cast

import pytest

from sessionctl.core.cursors import cursor_after, parse_cursor, position
from sessionctl.core.views import ViewService
from sessionctl.errors import InvalidRequestError
from sessionctl.models import SessionStatus, Volume, Workspace
from sessionctl.settings import SessionSettings
from tests.support.sessions import CREATED_AT, make_workspace

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import SessionView
    from sessionctl.ports import ClusterView, Store


class View:
    """What a cluster shows, in no order."""

    def __init__(self, workspaces: Sequence[Workspace], volumes: Sequence[Volume] = ()) -> None:
        self.workspaces = list(workspaces)
        self.volumes = list(volumes)

    async def list_workspaces(self) -> Sequence[Workspace]:
        return random.sample(self.workspaces, len(self.workspaces))

    async def list_volumes(self) -> Sequence[Volume]:
        return self.volumes

    def stale_for(self) -> None:
        return None

    @property
    def service(self) -> ViewService:
        view = cast("ClusterView", self)
        return ViewService(view=view, live=view, store=cast("Store", None), settings=SessionSettings())


def sessions(count: int, **given: Any) -> list[Workspace]:
    """Return sessions in the order of their creation, two made in each moment."""
    made = [make_workspace(**given) for _ in range(count)]
    made = [
        replace(each, keeps_volume=False, owner=replace(each.owner, created_at=CREATED_AT + timedelta(minutes=n // 2)))
        for n, each in enumerate(made)
    ]
    return sorted(made, key=lambda each: position(each.session_id, each.owner))


async def pages(view: View, limit: int, **filters: Any) -> list[list[SessionView]]:
    found = []
    cursor: str | None = None
    while True:
        page = await view.service.list_sessions(limit=limit, cursor=cursor, **filters)
        found.append([*page.sessions])
        if (cursor := page.cursor) is None:
            return found


@pytest.mark.parametrize(("limit", "sizes"), [(3, [3, 3, 1]), (7, [7]), (8, [7]), (1, [1] * 7)])
async def test_every_session_comes_once_and_in_order(limit: int, sizes: list[int]) -> None:
    made = sessions(7)
    found = await pages(View(made), limit)
    assert [len(page) for page in found] == sizes
    assert [view.session_id for page in found for view in page] == [each.session_id for each in made]


async def test_a_cursor_survives_what_comes_and_goes() -> None:
    made = sessions(9)
    view = View(made[1:8])
    first = await view.service.list_sessions(limit=3)
    # The last one of the page goes, one before it and one at the end come.
    view.workspaces = [*made[:3], *made[4:]]
    second = await view.service.list_sessions(limit=3, cursor=first.cursor)
    third = await view.service.list_sessions(limit=3, cursor=second.cursor)
    shown = [each.session_id for page in (first, second, third) for each in page.sessions]
    assert shown == [each.session_id for each in made[1:9]]
    assert third.cursor is None


async def test_pages_are_of_what_was_asked_for() -> None:
    mine, others, awake = sessions(4, user_id="me"), sessions(5, user_id="you"), sessions(3, user_id="me", replicas=1)
    view = View([*mine, *others, *awake])
    found = await pages(view, 2, user_id="me", status=SessionStatus.CREATED)
    assert [len(page) for page in found] == [2, 2]
    assert {each.session_id for page in found for each in page} == {each.session_id for each in mine}
    assert await pages(view, 2, tenant="elsewhere") == [[]]


async def test_deleted_ones_have_pages_too() -> None:
    gone, present = sessions(3), sessions(2)
    volumes = [Volume(each.session_id, each.owner, "{}", CREATED_AT, False, False) for each in (*gone, *present)]
    found = await pages(View(present, volumes), 2, status=SessionStatus.DELETED)
    assert [[each.session_id for each in page] for page in found] == [
        [each.session_id for each in gone[:2]],
        [gone[2].session_id],
    ]


def test_a_cursor_is_read_as_it_was_written() -> None:
    (one,) = sessions(1)
    place = position(one.session_id, replace(one.owner, created_at=datetime.now(timezone(timedelta(hours=2)))))
    assert parse_cursor(cursor_after(place)) == place


def encoded(text: str) -> str:
    return base64.urlsafe_b64encode(text.encode()).decode().rstrip("=")


UUID = "5f0c8b1e-4f57-4c43-9d3b-6f1f7a0c2d11"


@pytest.mark.parametrize(
    "cursor",
    [
        "",
        "x",
        "é",
        "=" * 4,
        "A" * 10_000,
        encoded(UUID),
        encoded(f"2026-01-01T00:00:00 {UUID}"),
        encoded(f"yesterday {UUID}"),
        encoded("2026-01-01T00:00:00+00:00 5f0c8b1e"),
        encoded(f"2026-01-01T00:00:00+00:00 {UUID} "),
        encoded(f"2026-01-01T00:00:00+00:00 {UUID}") + "\n",
    ],
)
def test_what_is_no_cursor_is_refused(cursor: str) -> None:
    assert parse_cursor(encoded(f"2026-01-01T00:00:00+00:00 {UUID}")) == (datetime(2026, 1, 1, tzinfo=UTC), UUID)
    with pytest.raises(InvalidRequestError):
        parse_cursor(cursor)
