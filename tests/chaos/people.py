"""Users of the Session API: they wake, work, go away and look, and note what they were promised."""

from __future__ import annotations

import asyncio
import random
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from http import HTTPStatus
from typing import Final

import httpx

from tests.chaos.truth import Truth

PAUSE_SECONDS: Final = 0.3
STATUS_LAG_SECONDS: Final = 2.0
"""What a status says was true at some moment not longer ago than this (the step's own bound)."""


@dataclass(frozen=True)
class Answer:
    """What a status said, and when it was asked and answered."""

    uuid: str
    asked: float
    answered: float
    replicas: int


@dataclass(frozen=True)
class Wake:
    """A wake that was accepted: when it was sent, and when its answer came."""

    sent: float
    answered: float


@dataclass
class Notes:
    """What users were told; the verdict compares it with the truth."""

    promised: dict[str, list[Wake]] = field(default_factory=dict)
    """The accepted wakes of each session."""
    answers: list[Answer] = field(default_factory=list)
    waits: dict[str, list[float]] = field(default_factory=lambda: {"awake": [], "asleep": []})
    refused: int = 0
    wrong: list[str] = field(default_factory=list)


@dataclass
class Person:
    """One user with one session.

    Attributes:
        managers: Base URLs; any of them may be away.
        idle: The idle timeout, in seconds.
    """

    uuid: str
    managers: Sequence[str]
    http: httpx.AsyncClient
    truth: Truth
    notes: Notes
    dice: random.Random
    idle: float
    waiting: str = ""
    """What it waits for, for whoever asks why this takes so long."""

    async def live(self, until: float) -> None:
        """Work and rest in turn."""
        await asyncio.sleep(self.dice.uniform(0, self.idle))
        while time.monotonic() < until:
            await self._wake()
            await self._see(1, "awake")
            end = time.monotonic() + self.dice.choice([0, 0.5, 1, 2]) * self.idle
            while time.monotonic() < min(end, until):
                await asyncio.sleep(self.dice.uniform(0.1, 0.9) * self.idle)
                await self._wake()
                await self._look()
            if self.dice.random() < 0.5:
                await self._see(0, "asleep")
            else:
                # Comes back at about the moment it is put to sleep.
                await asyncio.sleep(self.dice.uniform(0.7, 1.4) * self.idle)

    async def _wake(self) -> None:
        while True:
            sent = time.monotonic()
            answer = await self._call("POST", "wake")
            if answer is not None and answer.status_code == HTTPStatus.ACCEPTED:
                self.notes.promised.setdefault(self.uuid, []).append(Wake(sent, time.monotonic()))
                return
            await asyncio.sleep(self.dice.uniform(0, 2 * PAUSE_SECONDS))

    async def _see(self, replicas: int, name: str) -> None:
        """Return when the cluster shows it; the test has a time limit, and the verdict names who waits."""
        began, self.waiting = time.monotonic(), f"{self.uuid} to be {name}"
        track = self.truth.of(self.uuid)
        # A wake that was answered has taken effect if it is awake now, or was at any moment since.
        since = self.notes.promised[self.uuid][-1].sent if replicas else began
        while replicas not in track.during(since, time.monotonic()):
            if replicas and self.truth.was_blind(since, self.idle):
                # It may have been awake for all its time, and nobody saw it.
                break
            await self._look()
            await asyncio.sleep(PAUSE_SECONDS)
        self.notes.waits[name].append(time.monotonic() - began)
        self.waiting = ""

    async def _look(self) -> None:
        asked = time.monotonic()
        answer = await self._call("GET", "status")
        if answer is not None and answer.status_code == HTTPStatus.OK:
            replicas = int(answer.json()["replicas"])
            self.notes.answers.append(Answer(self.uuid, asked, time.monotonic(), replicas))

    async def _call(self, method: str, verb: str) -> httpx.Response | None:
        try:
            answer = await self.http.request(method, f"{self.dice.choice(self.managers)}/session/{self.uuid}/{verb}")
        except httpx.HTTPError:
            self.notes.refused += 1
            return None
        if answer.status_code == HTTPStatus.SERVICE_UNAVAILABLE:
            self.notes.refused += 1
        elif answer.status_code not in {HTTPStatus.OK, HTTPStatus.ACCEPTED}:
            self.notes.wrong.append(f"{verb} answered {answer.status_code}: {answer.text}")
        return answer
