"""A reply put together from its events."""

from __future__ import annotations

from typing import Any

import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.core.messages import just_before
from sessionctl.core.replies import ReplyDraft
from sessionctl.models import EventKind, MessageOutcome, StoredEvent

SESSION = new_session_id()


def draft(*events: tuple[EventKind, dict[str, Any]]) -> ReplyDraft:
    found = ReplyDraft("m1")
    for number, (kind, fields) in enumerate(events):
        found.add(StoredEvent(SESSION, f"{number + 1}-0", kind, message_id="m1", **fields))
    return found


QUEUED = (EventKind.MESSAGE_QUEUED, {"text": "hello"})
ENDED = (EventKind.MESSAGE_ENDED, {"outcome": MessageOutcome.DONE})


def piece(text: str, first: int, last: int, attempt: int = 1) -> tuple[EventKind, dict[str, Any]]:
    return EventKind.MESSAGE_DELTA, {"text": text, "first_seq": first, "seq": last, "attempt": attempt}


def test_one_without_a_gap_is_whole() -> None:
    found = draft(QUEUED, piece("a", 1, 3), piece("b", 4, 4), piece("c", 1, 2, attempt=2), ENDED)
    assert (found.text, found.whole, found.entry().reply) == ("c", True, "c")


@pytest.mark.parametrize(
    "events",
    [
        (piece("a", 1, 1), ENDED),
        (QUEUED, piece("b", 2, 2), ENDED),
        (QUEUED, piece("a", 1, 1), piece("c", 3, 3), ENDED),
        (QUEUED, piece("a", 1, 1), piece("c", 2, 3, attempt=2), ENDED),
    ],
    ids=["its beginning", "its first piece", "one in the middle", "the first of a later attempt"],
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
