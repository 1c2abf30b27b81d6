"""What holds a session awake, until when, and which limits it has reached; pure."""

from __future__ import annotations

from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING

from sessionctl.core.idle import reached_limits
from sessionctl.core.moments import moment
from sessionctl.core.starts import start_age
from sessionctl.models import Holder, HolderKind
from sessionctl.settings import EditorIdle

if TYPE_CHECKING:
    from sessionctl.core.asking import Answered
    from sessionctl.models import Activity, Queue, Record, Workspace
    from sessionctl.settings import IdleSettings

REDIS_AWAY = "Redis does not answer: every pod stays as it is"
GATE_CLOSED = "Redis restarted, and its demand is being restored: nothing sleeps before that"


@dataclass(frozen=True)
class Facts:
    """All that is known of one session at one moment, by the clock of Redis; None where nothing is."""

    now: datetime
    workspace: Workspace
    reason: str | None
    """Why it is not ready."""
    record: Record | None
    queue: Queue | None
    """None when Redis did not answer."""
    gate_open: bool
    answered: Answered | None

    @property
    def last_active(self) -> datetime | None:
        """When somebody was seen at work last."""
        return moment(self.record.last_active) if self.record else None


def held_by(facts: Facts, idle: IdleSettings, start_timeout: timedelta) -> tuple[Holder, ...]:
    """Return everything that holds it awake; nothing for one that sleeps and should."""
    workspace = facts.workspace
    if workspace.deleted_at is not None:
        return ()
    found = [*_demand(facts)]
    if workspace.replicas:
        found += _gate(facts)
        found += [_start(facts, start_timeout)] if workspace.is_starting else _work(facts, idle)
    return tuple(found)


def sleeps_at(facts: Facts, holders: tuple[Holder, ...], idle: IdleSettings) -> datetime | None:
    """Return when it goes to sleep if nothing else happens; None for one that sleeps, or where nobody knows."""
    if not facts.workspace.replicas or facts.workspace.deleted_at is not None:
        return None
    ends = [facts.now]
    for holder in holders:
        if holder.until is None:
            return None
        # What is held counts as activity until its end, and the idle timeout begins then.
        lasting = holder.kind is HolderKind.HOLD or (
            holder.kind is HolderKind.EDITOR and idle.editor is EditorIdle.CONNECTION
        )
        ends.append(holder.until + idle.release_after if lasting else holder.until)
    return max(ends)


def limits_reached(facts: Facts, idle: IdleSettings) -> dict[str, str]:
    """Return a sentence for each limit of idleness that it has reached, by its name."""
    answered = _fresh(facts, idle)
    if answered is None or facts.last_active is None or not facts.workspace.replicas:
        return {}
    activity = _aged(answered)
    reached = reached_limits(activity, facts.now - facts.last_active, idle)
    return {limit.kind: limit.reason for limit in reached}


def _demand(facts: Facts) -> list[Holder]:
    queue = facts.queue
    if queue is None:
        return []
    found = []
    if queue.chats:
        waits = "message waits or runs" if queue.chats == 1 else "messages wait or run"
        found.append(Holder(HolderKind.MESSAGE, f"{queue.chats} {waits}"))
    if queue.outside:
        detail = f"{queue.outside} in its queue from outside: it stays awake for one idle timeout more"
        found.append(Holder(HolderKind.OUTSIDE, detail))
    if queue.length and not facts.workspace.replicas:
        found.append(Holder(HolderKind.WOKEN, "it has been woken, and its pod is about to be made"))
    return found


def _gate(facts: Facts) -> list[Holder]:
    if facts.queue is None:
        return [Holder(HolderKind.GATE, REDIS_AWAY)]
    return [] if facts.gate_open else [Holder(HolderKind.GATE, GATE_CLOSED)]


def _start(facts: Facts, start_timeout: timedelta) -> Holder:
    now = int(facts.now.timestamp() * 1000)
    left = start_timeout - start_age(facts.workspace, now, facts.record.woken_at if facts.record else 0)
    # What is overdue is given up at the next look, unless its agent has answered once.
    until = facts.now + left if left > timedelta() else None
    return Holder(HolderKind.STARTING, facts.reason or "its pod is not ready yet", until)


def _work(facts: Facts, idle: IdleSettings) -> list[Holder]:
    found = []
    last_active, answered = facts.last_active, _fresh(facts, idle)
    if answered is not None and answered.activity is not None:
        found += _seen_by_agent(facts.now, _aged(answered) or answered.activity, idle)
    elif answered is not None and last_active is not None and facts.now - last_active < idle.unknown_limit:
        detail = f"its agent does not answer, which counts as work for up to {idle.unknown_limit}"
        found.append(Holder(HolderKind.SILENT, detail, last_active + idle.unknown_limit))
    if last_active is not None and facts.now - last_active < idle.release_after:
        found.append(Holder(HolderKind.RECENT, "it was active a moment ago", last_active + idle.release_after))
    return found


def _seen_by_agent(now: datetime, activity: Activity, idle: IdleSettings) -> list[Holder]:
    found = []
    if activity.message_running:
        found.append(Holder(HolderKind.MESSAGE, "a message is running"))
    if activity.hold is not None and activity.hold < idle.hold_limit:
        until = now - activity.hold + idle.hold_limit
        found.append(Holder(HolderKind.HOLD, "it is held by a running command", until))
    by_connection, connected = idle.editor is EditorIdle.CONNECTION, activity.editor_connected
    if by_connection and connected is not None and connected < idle.editor_limit:
        found.append(Holder(HolderKind.EDITOR, "an editor is open", now - connected + idle.editor_limit))
    elif activity.editor_input is not None and activity.editor_input < idle.release_after:
        until = now - activity.editor_input + idle.release_after
        # Beside an editor that lasts until its limit, typing is what is over an idle timeout later.
        kind = HolderKind.RECENT if by_connection else HolderKind.EDITOR
        found.append(Holder(kind, "somebody types in the editor", until))
    return found


def _fresh(facts: Facts, idle: IdleSettings) -> Answered | None:
    """Return the last answer unless it is so old that somebody must have been active since: nobody asked again."""
    answered = facts.answered
    return answered if answered is not None and answered.age < idle.release_after else None


def _aged(answered: Answered) -> Activity | None:
    """Return an answer with its ages as they are by now, if all went on."""
    if answered.activity is None:
        return None
    activity, age = answered.activity, answered.age
    return replace(
        activity,
        hold=None if activity.hold is None else activity.hold + age,
        editor_input=None if activity.editor_input is None else activity.editor_input + age,
        editor_connected=None if activity.editor_connected is None else activity.editor_connected + age,
    )
