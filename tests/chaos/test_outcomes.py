"""The judge of messages itself: what it must find, and what it must not."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import replace
from datetime import UTC, datetime

import pytest

from sessionctl.models import EventKind, MessageOutcome
from sessionctl.wire import Event
from tests.chaos.outcomes import Accepted, Correspondence, judge, whole_reply

UUID = "11111111-1111-4111-8111-111111111111"
AT = datetime(2026, 11, 24, tzinfo=UTC)

Change = Callable[[Correspondence], Correspondence]


def _numbered(events: Sequence[Event]) -> list[Event]:
    return [event.model_copy(update={"id": f"{number}-0"}) for number, event in enumerate(events, 1)]


def _event(kind: EventKind, message_id: str, **more: object) -> Event:
    return Event.model_validate({"id": "0-0", "event": kind, "uuid": UUID, "at": AT, "message_id": message_id, **more})


def _life(word: str, outcome: MessageOutcome, pieces: Sequence[tuple[int, int, str]]) -> list[Event]:
    message_id = f"id-{word}"
    return [
        _event(EventKind.MESSAGE_QUEUED, message_id, text=f"{word} 0.1"),
        _event(EventKind.MESSAGE_STARTED, message_id),
        *(
            _event(EventKind.MESSAGE_DELTA, message_id, attempt=attempt, seq=seq, text=text)
            for attempt, seq, text in pieces
        ),
        _event(EventKind.MESSAGE_ENDED, message_id, outcome=outcome),
    ]


def _good() -> Correspondence:
    """Three messages: done in two pieces, interrupted after one, done in one."""
    first = _life("a", MessageOutcome.DONE, [(1, 1, "begun a\n"), (1, 2, "done a\n")])
    second = _life("b", MessageOutcome.INTERRUPTED, [(1, 1, "begun b\n")])
    third = _life("c", MessageOutcome.DONE, [(1, 2, whole_reply("c"))])
    events = _numbered([*first, *second, *third])
    accepted = [Accepted(word, f"id-{word}") for word in "abc"]
    return Correspondence(UUID, accepted, events, events, ["a", "b", "c"])


def _with(events: Sequence[Event]) -> Change:
    numbered = _numbered(events)
    return lambda session: replace(session, events=numbered, heard=numbered)


def _without(kind: EventKind, of: str) -> Change:
    return _with([e for e in _good().events if (e.event, e.message_id) != (kind, of)])


def _twice(kind: EventKind, of: str) -> Change:
    found = [[event] * (2 if (event.event, event.message_id) == (kind, of) else 1) for event in _good().events]
    return _with([event for events in found for event in events])


def _replaced(kind: EventKind, of: str, **changes: object) -> Change:
    return _with(
        [
            event.model_copy(update=changes) if (event.event, event.message_id) == (kind, of) else event
            for event in _good().events
        ]
    )


def _heard(*numbers: int) -> Change:
    return lambda session: replace(session, heard=[session.events[number] for number in numbers])


def _ran(*words: str) -> Change:
    return lambda session: replace(session, ran=words)


def test_a_good_run_is_good_and_counted() -> None:
    verdict = judge([_good()])

    assert verdict.wrong == []
    assert verdict.outcomes == {MessageOutcome.DONE: 2, MessageOutcome.INTERRUPTED: 1}


def test_what_was_cut_off_before_its_command_wrote_anything_is_fine() -> None:
    session = _without(EventKind.MESSAGE_DELTA, "id-b")(_good())

    assert judge([replace(session, ran=["a", "c"])]).wrong == []


EVERY = range(len(_good().events))


@pytest.mark.parametrize(
    ("change", "words"),
    [
        (_without(EventKind.MESSAGE_ENDED, "id-c"), "c has an outcome 0 times"),
        (_twice(EventKind.MESSAGE_ENDED, "id-c"), "c has an outcome 2 times"),
        (_without(EventKind.MESSAGE_QUEUED, "id-a"), "a was queued 0 times"),
        (_twice(EventKind.MESSAGE_QUEUED, "id-a"), "a was queued 2 times"),
        (_twice(EventKind.MESSAGE_STARTED, "id-a"), "was started while id-a ran"),
        (_replaced(EventKind.MESSAGE_QUEUED, "id-a", message_id="id-z"), "id-z, which nobody was told of, was queued"),
        (_replaced(EventKind.MESSAGE_ENDED, "id-a", message_id="id-z"), "id-z, which nobody was told of, has an out"),
        (_replaced(EventKind.MESSAGE_ENDED, "id-a", outcome=None), "it is not said how"),
        (_replaced(EventKind.MESSAGE_ENDED, "id-a", outcome=MessageOutcome.FAILED), "a is failed"),
        (_replaced(EventKind.MESSAGE_ENDED, "id-b", outcome=MessageOutcome.DONE), "b is done and answered 'begun b"),
        (_replaced(EventKind.MESSAGE_DELTA, "id-b", text="done b\n"), "b was interrupted and answered 'done b"),
        (_replaced(EventKind.MESSAGE_DELTA, "id-c", text="done c\n"), "c is done and answered 'done c"),
        (_replaced(EventKind.MESSAGE_DELTA, "id-a", seq=2), "piece 1.2 after 1.2"),
        (_replaced(EventKind.MESSAGE_DELTA, "id-a", seq=None), "a piece without a number"),
        (_replaced(EventKind.MESSAGE_DELTA, "id-b", message_id="id-c"), "said something while it did not run"),
        (_ran("a", "b", "c", "b"), "the command of b was started 2 times"),
        (_ran("a", "b"), "c is done and never ran"),
        (_ran("b", "a", "c"), "commands did not run in the order"),
        (_ran("a", "b", "c", "d"), "'d' ran, and no such message"),
        (_heard(*EVERY[1:]), "a listener missed ['1-0']"),
        (_heard(*EVERY, 2), "a listener heard ['3-0'] twice"),
        (_heard(1, 0, *EVERY[2:]), "a listener heard events out of order"),
        (lambda session: replace(session, accepted=[*session.accepted[::-1]]), "not in the order of acceptance"),
        (lambda session: replace(session, accepted=[*session.accepted, session.accepted[0]]), "have the same id"),
        (lambda session: replace(session, retried=True), "b was interrupted where it may run again"),
    ],
)
def test_it_is_found(change: Change, words: str) -> None:
    wrong = judge([change(_good())]).wrong

    assert [line for line in wrong if words in line], wrong


def test_where_it_may_run_again_the_last_attempt_counts() -> None:
    events = _life("a", MessageOutcome.DONE, [(1, 1, "begun a\n"), (2, 1, "begun a\n"), (2, 2, "done a\n")])
    numbered = _numbered(events)
    session = Correspondence(UUID, [Accepted("a", "id-a")], numbered, numbered, ["a", "a"], retried=True)

    verdict = judge([session])

    assert verdict.wrong == []
    assert verdict.begun_again == 1
    assert judge([replace(session, retried=False)]).wrong
