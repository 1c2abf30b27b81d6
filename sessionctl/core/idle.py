"""Whether somebody works (DESIGN 5). Not knowing counts as work, for a bounded time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.settings import EditorIdle

if TYPE_CHECKING:
    from sessionctl.models import Activity
    from sessionctl.settings import IdleSettings


@dataclass(frozen=True)
class Verdict:
    """``idle``, or why not; ``activity_age`` is how long ago the agent saw work, to be remembered as last activity."""

    idle: bool
    reason: str
    activity_age: timedelta | None = None


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


def judge(activity: Activity | None, since_active: timedelta, settings: IdleSettings) -> Verdict:
    """Judge one session by its agent's answer (None: there was none) and the age of its last known activity."""
    if since_active < settings.release_after:
        return Verdict(idle=False, reason="active recently")
    if activity is None:
        if since_active < settings.unknown_limit:
            return Verdict(idle=False, reason="the agent does not answer, which counts as work")
        return Verdict(idle=True, reason="the agent has not answered for longer than idle.unknownLimit")
    work = latest_work(activity, settings)
    if work is not None:
        return Verdict(idle=False, reason=work.reason, activity_age=work.age)
    return Verdict(idle=True, reason="nobody works")
