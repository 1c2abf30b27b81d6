"""Whether somebody works (DESIGN 5). Not knowing counts as work, for a bounded time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.models import EventKind
from sessionctl.settings import EditorIdle

if TYPE_CHECKING:
    from sessionctl.models import Activity
    from sessionctl.settings import IdleSettings


@dataclass(frozen=True)
class Verdict:
    """``idle``, or why not; ``activity_age`` is how long ago the agent saw work, to be remembered as last activity.

    ``limit`` is the limit without which it would not be idle.
    """

    idle: bool
    reason: str
    activity_age: timedelta | None = None
    limit: EventKind | None = None


@dataclass(frozen=True)
class Reached:
    """A limit that has been reached, so that what it limits counts as work no longer."""

    kind: EventKind
    reason: str


@dataclass(frozen=True)
class Work:
    """What the agent saw of somebody at work, and how long ago."""

    reason: str
    age: timedelta


def latest_work(activity: Activity, settings: IdleSettings) -> Work | None:
    """Return the work that counts and is younger than the timeout."""
    if activity.message_running:
        return Work("a message is running", timedelta())
    if activity.hold is not None and activity.hold < settings.hold_limit:
        return Work("held by a running command", timedelta())
    if (
        settings.editor is EditorIdle.CONNECTION
        and activity.editor_connected is not None
        and activity.editor_connected < settings.editor_limit
    ):
        return Work("an editor is open", timedelta())
    if activity.editor_input is not None and activity.editor_input < settings.release_after:
        return Work("somebody types in the editor", activity.editor_input)
    return None


def reached_limits(activity: Activity | None, since_active: timedelta, settings: IdleSettings) -> tuple[Reached, ...]:
    """Return the limits that an agent's answer (None: there was none) has reached, the most telling one first."""
    if activity is None:
        if since_active < settings.unknown_limit:
            return ()
        limit = settings.unknown_limit
        return (Reached(EventKind.UNKNOWN_LIMIT, f"its agent has not answered for idle.unknownLimit ({limit})"),)
    found = []
    if activity.hold is not None and activity.hold >= settings.hold_limit:
        found.append(Reached(EventKind.HOLD_LIMIT, f"it was held for idle.holdLimit ({settings.hold_limit})"))
    if (
        settings.editor is EditorIdle.CONNECTION
        and activity.editor_connected is not None
        and activity.editor_connected >= settings.editor_limit
    ):
        limit = settings.editor_limit
        found.append(Reached(EventKind.EDITOR_LIMIT, f"an editor was open for idle.editorLimit ({limit})"))
    return tuple(found)


def judge(activity: Activity | None, since_active: timedelta, settings: IdleSettings) -> Verdict:
    """Judge one session by its agent's answer (None: there was none) and the age of its last known activity."""
    if since_active < settings.release_after:
        return Verdict(idle=False, reason="active recently")
    limits = reached_limits(activity, since_active, settings)
    if activity is None and not limits:
        return Verdict(idle=False, reason="the agent does not answer, which counts as work")
    work = latest_work(activity, settings) if activity is not None else None
    if work is not None:
        return Verdict(idle=False, reason=work.reason, activity_age=work.age)
    if limits:
        return Verdict(idle=True, reason=limits[0].reason, limit=limits[0].kind)
    return Verdict(idle=True, reason="nobody works")
