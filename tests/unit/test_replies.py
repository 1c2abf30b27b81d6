"""A reply put together from its events."""

from __future__ import annotations

from typing import Any

import pytest

from sessionctl.core.holdings import Holdings, Share
from sessionctl.core.identity import new_session_id
from sessionctl.core.messages import just_before
from sessionctl.core.replies import ReplyDraft
from sessionctl.models import EventKind, MessageOutcome, StoredEvent

SESSION = new_session_id()


def draft(*events: tuple[EventKind, dict[str, Any]], share: Share | None = None) -> ReplyDraft:
    found = ReplyDraft("m1", share=share)
    for number, (kind, fields) in enumerate(events):
        found.add(StoredEvent(SESSION, f"{number + 1}-0", kind, message_id="m1", **fields))
    return found


QUEUED = (EventKind.MESSAGE_QUEUED, {"text": "hello"})
ENDED = (EventKind.MESSAGE_ENDED, {"outcome": MessageOutcome.DONE})


def piece(text: str, first: int, last: int, attempt: int = 1) -> tuple[EventKind, dict[str, Any]]:
    return EventKind.MESSAGE_DELTA, {"text": text, "first_seq": first, "seq": last, "attempt": attempt}


def ended(**fields: Any) -> tuple[EventKind, dict[str, Any]]:
    return EventKind.MESSAGE_ENDED, {"outcome": MessageOutcome.DONE, **fields}


@pytest.mark.parametrize("end", [ENDED, ended(seq=2, attempt=2)], ids=["of an older manager", "of ours"])
def test_one_without_a_gap_is_whole(end: tuple[EventKind, dict[str, Any]]) -> None:
    found = draft(QUEUED, piece("a", 1, 3), piece("b", 4, 4), piece("c", 1, 2, attempt=2), end)
    assert (found.text, found.whole, found.entry().reply) == ("c", True, "c")


def test_a_gap_of_an_earlier_attempt_is_none_of_the_last() -> None:
    found = draft(QUEUED, piece("a", 2, 3), piece("c", 1, 2, attempt=2), ENDED)
    assert (found.text, found.whole) == ("c", True)


def test_what_has_no_room_is_cut_off_until_the_next_attempt() -> None:
    holdings = Holdings(of_one=400)
    with holdings.share("a") as share:
        found = draft(QUEUED, piece("x" * 200, 1, 1), piece("y" * 200, 2, 2), piece("z", 3, 3), share=share)
        assert (found.text, found.cut, found.whole) == ("x" * 200, True, True)
    with holdings.share("a") as share:
        found = draft(QUEUED, piece("x" * 200, 1, 1), piece("y" * 200, 1, 2, attempt=2), ENDED, share=share)
        assert (found.text, found.cut) == ("y" * 200, False)


@pytest.mark.parametrize(
    "events",
    [
        (piece("a", 1, 1), ENDED),
        (QUEUED, piece("b", 2, 2), ENDED),
        (QUEUED, piece("a", 1, 1), piece("c", 3, 3), ENDED),
        (QUEUED, piece("a", 1, 1), piece("c", 2, 3, attempt=2), ENDED),
        (QUEUED, piece("a", 1, 1), ended(seq=2, attempt=1)),
        (QUEUED, piece("a", 1, 1), ended(seq=1, attempt=2)),
        (QUEUED, ended(seq=1, attempt=1)),
        (QUEUED, piece("a", 1, 1), ended(partial=True)),
    ],
    ids=[
        "its beginning",
        "its first piece",
        "one in the middle",
        "the first of a later attempt",
        "its last piece",
        "its last attempt",
        "all of its reply",
        "whatever was there",
    ],
)
def test_one_that_misses_something_is_not_shown_as_whole(events: tuple[tuple[EventKind, dict[str, Any]], ...]) -> None:
    found = draft(*events)
    assert (found.whole, found.entry().reply) == (False, None)


@pytest.mark.parametrize(
    ("event_id", "before"),
    [("7-3", "7-2"), ("7-0", "6-999999999999999999"), ("7", "6-999999999999999999"), ("0-0", "0-0")],
)
def test_a_listener_begins_just_before_an_event(event_id: str, before: str) -> None:
    assert just_before(event_id) == before
