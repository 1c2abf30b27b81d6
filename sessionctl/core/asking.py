"""When a session's agent is asked what goes on in it (DESIGN 5), and what is said of one that does not answer."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from datetime import timedelta
from typing import TYPE_CHECKING, Final

from sessionctl.models import EventKind

if TYPE_CHECKING:
    from collections.abc import Collection

    from sessionctl.core.journal import Journal
    from sessionctl.models import Activity, SessionId, Workspace
    from sessionctl.ports import ActivityProbe, Clock
    from sessionctl.settings import IdleSettings

PARALLEL_QUESTIONS: Final = 128
"""An agent that answers slowly holds one of these places for as long as the probe waits."""
LOOKS_BEFORE_RELEASE: Final = 8
"""An idle session is asked so often in one timeout; only the question before a release decides anything."""
SILENT_PAUSE: Final = timedelta(seconds=10)
"""Agents that do not answer must not take the places of those that do."""

_log = logging.getLogger(__name__)


@dataclass
class _Asked:
    at: float
    silent: bool = False
    warned: bool = False
    answer: Activity | None = None
    answered_at: float | None = None
    """When the last question ended, by an answer or by silence."""


@dataclass(frozen=True)
class Answered:
    """What an agent said when it was asked last (None: nothing), and how long ago that was."""

    activity: Activity | None
    age: timedelta


class Inquiry:
    """Asks agents, none more often than its answer can matter."""

    def __init__(self, probe: ActivityProbe, clock: Clock, journal: Journal, settings: IdleSettings) -> None:
        self._probe = probe
        self._clock = clock
        self._journal = journal
        self._settings = settings
        self._slots = asyncio.Semaphore(PARALLEL_QUESTIONS)
        self._asked: dict[SessionId, _Asked] = {}

    def is_due(self, session_id: SessionId, since_active: timedelta) -> bool:
        """Whether the agent is to be asked now, for a session whose last known activity is so long ago."""
        if since_active < self._settings.timeout / 2:
            return False
        asked = self._asked.get(session_id)
        if asked is None:
            return True
        pause = self._settings.touch_interval
        if since_active < self._settings.release_after:
            pause = max(pause, self._settings.timeout / LOOKS_BEFORE_RELEASE)
        if asked.silent:
            pause = max(pause, min(SILENT_PAUSE, self._settings.timeout / LOOKS_BEFORE_RELEASE))
        return self._clock.monotonic() - asked.at >= pause.total_seconds()

    async def ask(self, workspace: Workspace, since_active: timedelta) -> Activity | None:
        """Return the agent's answer; the caller has one question per session under way at most."""
        session_id = workspace.session_id
        async with self._slots:
            asked = self._asked.setdefault(session_id, _Asked(at=0.0))
            asked.at = self._clock.monotonic()
            answer = await self._probe.ask(workspace)
        asked.silent, asked.answer, asked.answered_at = answer is None, answer, self._clock.monotonic()
        # While it may not sleep anyway, silence changes nothing.
        if answer is None and not asked.warned and since_active >= self._settings.release_after:
            asked.warned = True
            _log.warning(
                "the agent does not answer: the session stays awake for up to %s",
                self._settings.unknown_limit,
                extra={"session": session_id},
            )
            # Other managers ask too, and find the same; an agent may fall silent again an hour later.
            mark = f"{workspace.woken_at}/{self._clock.now():%Y-%m-%dT%H}"
            detail = f"its agent does not answer; it stays awake for up to {self._settings.unknown_limit}"
            self._journal.note(session_id, EventKind.AGENT_SILENT, detail, once=mark)
        elif answer is not None and asked.warned:
            asked.warned = False
            _log.info("the agent answers again", extra={"session": session_id})
        return answer

    def last_answer(self, session_id: SessionId) -> Answered | None:
        """Return what the agent said last; None where it has not been asked since the session is awake."""
        asked = self._asked.get(session_id)
        if asked is None or asked.answered_at is None:
            return None
        return Answered(asked.answer, timedelta(seconds=self._clock.monotonic() - asked.answered_at))

    def forget_answer(self, session_id: SessionId) -> None:
        """Let the session be asked at once: its last answer led to nothing."""
        if session_id in self._asked:
            self._asked[session_id].at = float("-inf")

    def forget_all_but(self, running: Collection[SessionId]) -> None:
        """Forget sessions that sleep or are gone."""
        self._asked = {session_id: asked for session_id, asked in self._asked.items() if session_id in running}
