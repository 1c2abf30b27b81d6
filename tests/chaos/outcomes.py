"""Whether every accepted message has its one outcome, in order, and ran as often as it may. Pure, so it is tested."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Final

from sessionctl.models import EventKind, MessageOutcome

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

    from sessionctl.wire import Event

ONCE: Final = 1


@dataclass(frozen=True)
class Accepted:
    """A message that the API said it has stored.

    Attributes:
        word: What the client calls it: the message's text begins with it, and its command writes it down.
        message_id: What the API calls it.
        repeated: The client asked again, with the same key, until it was told.
    """

    word: str
    message_id: str
    repeated: bool = False


@dataclass(frozen=True)
class Correspondence:
    """What is known of one session when everything is quiet again.

    Attributes:
        accepted: In the order in which they were accepted.
        events: All of the session's, as somebody sees them who asks now.
        heard: The same as somebody heard them who listened from the start on, over however many connections.
        ran: The words that its commands wrote down, in that order.
        retried: An interrupted command may be run again here.
    """

    uuid: str
    accepted: Sequence[Accepted]
    events: Sequence[Event]
    heard: Sequence[Event]
    ran: Sequence[str]
    retried: bool = False


@dataclass
class Verdict:
    """What is wrong, and how the messages ended."""

    wrong: list[str] = field(default_factory=list)
    outcomes: Counter[MessageOutcome] = field(default_factory=Counter)
    begun_again: int = 0
    """Commands that ran more than once, where that is allowed."""


def whole_reply(word: str) -> str:
    """Return what a command that ends by itself answers."""
    return f"begun {word}\ndone {word}\n"


def judge(sessions: Sequence[Correspondence]) -> Verdict:
    """Judge all sessions."""
    verdict = Verdict()
    for session in sessions:
        verdict.wrong += [f"{session.uuid}: {what}" for what in _wrong(session)]
        verdict.outcomes.update(event.outcome for event in _ended(session) if event.outcome is not None)
        verdict.begun_again += sum(count - 1 for count in Counter(session.ran).values()) if session.retried else 0
    return verdict


def _wrong(session: Correspondence) -> Iterator[str]:
    yield from _told(session)
    yield from _counted(session)
    yield from _ordered(session)
    yield from _ran(session)
    for message in session.accepted:
        yield from _answered(session, message)


def _told(session: Correspondence) -> Iterator[str]:
    """A listener misses nothing and hears nothing twice."""
    ids, heard = [event.id for event in session.events], [event.id for event in session.heard]
    if twice := [name for name, count in Counter(heard).items() if count > ONCE]:
        yield f"a listener heard {twice} twice"
    if missing := sorted(set(ids) - set(heard)):
        yield f"a listener missed {missing}"
    if heard != sorted(heard, key=position):
        yield "a listener heard events out of order"


def position(event_id: str) -> tuple[int, int]:
    """Return what orders events."""
    milliseconds, _, number = event_id.partition("-")
    return int(milliseconds), int(number)


def _counted(session: Correspondence) -> Iterator[str]:
    """As many messages as were accepted, one outcome each."""
    accepted = [message.message_id for message in session.accepted]
    if len(set(accepted)) < len(accepted):
        yield "two messages have the same id"
    for kind, name in ((EventKind.MESSAGE_QUEUED, "was queued"), (EventKind.MESSAGE_ENDED, "has an outcome")):
        found = Counter(event.message_id for event in session.events if event.event is kind)
        for message in session.accepted:
            if found[message.message_id] != ONCE:
                yield f"{message.word} {name} {found[message.message_id]} times"
        for stranger in found.keys() - set(accepted):
            yield f"{stranger}, which nobody was told of, {name}"
    for event in _ended(session):
        if event.outcome is None:
            yield f"{event.message_id} has ended, and it is not said how"


def _ordered(session: Correspondence) -> Iterator[str]:
    """In the order of acceptance, one after another."""
    accepted = [message.message_id for message in session.accepted]
    for kind in (EventKind.MESSAGE_QUEUED, EventKind.MESSAGE_STARTED, EventKind.MESSAGE_ENDED):
        seen = [event.message_id for event in session.events if event.event is kind]
        if seen != [name for name in accepted if name in set(seen)]:
            yield f"{kind} is not in the order of acceptance, or there is one twice"
    running = None
    for event in session.events:
        if event.event is EventKind.MESSAGE_STARTED:
            if running is not None:
                yield f"{event.message_id} was started while {running} ran"
            running = event.message_id
        elif event.event is EventKind.MESSAGE_ENDED and event.message_id == running:
            running = None
        elif event.event is EventKind.MESSAGE_DELTA and event.message_id != running:
            yield f"{event.message_id} said something while it did not run"


def _ran(session: Correspondence) -> Iterator[str]:
    ran = Counter(session.ran)
    for word, count in ran.items():
        if count > ONCE and not session.retried:
            yield f"the command of {word} was started {count} times"
    words = [message.word for message in session.accepted]
    for stranger in ran.keys() - set(words):
        yield f"{stranger!r} ran, and no such message was accepted"
    first = list(dict.fromkeys(session.ran))
    if first != [word for word in words if word in ran]:
        yield "commands did not run in the order of acceptance"


def _answered(session: Correspondence, message: Accepted) -> Iterator[str]:
    """What the outcome says agrees with the reply and with what ran."""
    mine = [event for event in session.events if event.message_id == message.message_id]
    outcome = next((event.outcome for event in mine if event.event is EventKind.MESSAGE_ENDED), None)
    reply, problem = _reply([event for event in mine if event.event is EventKind.MESSAGE_DELTA])
    if problem:
        yield f"{message.word}: {problem}"
    whole, ran = whole_reply(message.word), message.word in set(session.ran)
    match outcome:
        case MessageOutcome.DONE:
            if reply != whole:
                yield f"{message.word} is done and answered {reply!r}"
            if not ran:
                yield f"{message.word} is done and never ran"
        case MessageOutcome.INTERRUPTED:
            if not whole.startswith(reply):
                yield f"{message.word} was interrupted and answered {reply!r}"
            if session.retried:
                yield f"{message.word} was interrupted where it may run again"
        case MessageOutcome.FAILED | MessageOutcome.CANCELLED:
            reason = next(event.detail for event in mine if event.event is EventKind.MESSAGE_ENDED)
            yield f"{message.word} is {outcome}, for which there was no reason: {reason}"
        case None:
            pass


def _reply(pieces: Sequence[Event]) -> tuple[str, str]:
    """Return the text of the last attempt, and what is wrong with the pieces."""
    attempt, seq, text = 0, 0, ""
    for piece in pieces:
        if piece.attempt is None or piece.seq is None:
            return text, "a piece without a number"
        if piece.attempt > attempt:
            attempt, seq, text = piece.attempt, 0, ""
        if piece.attempt < attempt or piece.seq <= seq:
            return text, f"piece {piece.attempt}.{piece.seq} after {attempt}.{seq}"
        seq, text = piece.seq, text + (piece.text or "")
    return text, ""


def _ended(session: Correspondence) -> list[Event]:
    return [event for event in session.events if event.event is EventKind.MESSAGE_ENDED]
