"""Clients of the Session API that send messages and repeat what was refused or lost, and others that listen."""

from __future__ import annotations

import asyncio
import random
import uuid
from collections import Counter
from dataclasses import dataclass, field
from datetime import timedelta
from http import HTTPStatus
from typing import TYPE_CHECKING, Final

import httpx

from sessionctl.client import Patience, SessionClient
from sessionctl.errors import SessionctlError
from sessionctl.models import EventKind
from tests.chaos.outcomes import Accepted

if TYPE_CHECKING:
    from sessionctl.wire import Event

PAUSE_SECONDS: Final = 0.5
IMPATIENT: Final = 0.15
"""So many calls are cut off by the client before there can be an answer."""
REPEATED: Final = 0.1
"""So many messages that were accepted are sent once more, with the same key."""
CUT_SECONDS: Final = 0.03
LONGEST_COMMAND_SECONDS: Final = 1.5
_LATER: Final = frozenset(
    {
        HTTPStatus.TOO_MANY_REQUESTS,
        HTTPStatus.BAD_GATEWAY,
        HTTPStatus.SERVICE_UNAVAILABLE,
        HTTPStatus.GATEWAY_TIMEOUT,
    }
)
FOR_EVER: Final = Patience(
    retry=timedelta(hours=1), total=timedelta(hours=1), silence=timedelta(seconds=30), read=timedelta(seconds=20)
)


@dataclass
class Writer:
    """Sends messages to one session, one after another, and waits for no reply.

    Attributes:
        calls: What the calls came to.
    """

    uuid: str
    http: httpx.AsyncClient
    dice: random.Random
    accepted: list[Accepted] = field(default_factory=list)
    calls: Counter[str] = field(default_factory=Counter)
    wrong: list[str] = field(default_factory=list)

    async def write(self, count: int, seconds: float) -> None:
        """Send so many messages in about so many seconds, some of them close together and some after a sleep."""
        for number in range(count):
            await asyncio.sleep(self.dice.expovariate(count / seconds))
            await self._send(f"{number}-{uuid.UUID(int=self.dice.getrandbits(128), version=4)}")

    async def _send(self, word: str) -> None:
        body = {"message": f"{word} {self.dice.uniform(0, LONGEST_COMMAND_SECONDS):.2f}"}
        tries = 0
        while (message_id := await self._try(word, body)) is None:
            tries += 1
            await asyncio.sleep(self.dice.uniform(0, 2 * PAUSE_SECONDS))
        self.accepted.append(Accepted(word, message_id, repeated=tries > 0))
        if self.dice.random() < REPEATED and (again := await self._try(word, body)) not in {None, message_id}:
            self.wrong.append(f"{word} is {message_id}, and sent again it is {again}")

    async def _try(self, word: str, body: dict[str, str]) -> str | None:
        patience = self.dice.uniform(0, CUT_SECONDS) if self.dice.random() < IMPATIENT else None
        try:
            async with asyncio.timeout(patience):
                answer = await self.http.post(
                    f"/session/{self.uuid}/chat", json=body, headers={"Idempotency-Key": word}
                )
        except TimeoutError:
            self.calls["cut off by the client"] += 1
            return None
        except httpx.HTTPError:
            self.calls["no answer"] += 1
            return None
        self.calls[str(answer.status_code)] += 1
        if answer.status_code == HTTPStatus.ACCEPTED:
            return str(answer.json()["message_id"])
        if answer.status_code not in _LATER and not _in_progress(answer):
            self.wrong.append(f"{word}: {answer.status_code} {answer.text}")
        return None


def _in_progress(answer: httpx.Response) -> bool:
    return answer.status_code == HTTPStatus.CONFLICT and answer.json().get("code") == "in_progress"


@dataclass
class Ear:
    """Listens to one session's events from the first on, over however many connections it takes."""

    uuid: str
    client: SessionClient
    heard: list[Event] = field(default_factory=list)

    async def listen(self) -> None:
        """Listen until cancelled."""
        while True:
            after = self.heard[-1].id if self.heard else "0-0"
            try:
                async for event in self.client.events(self.uuid, after=after):
                    self.heard.append(event)
            except SessionctlError:
                await asyncio.sleep(PAUSE_SECONDS)

    def ended(self) -> set[str]:
        """Return the ids of messages whose outcome was heard."""
        return {event.message_id or "" for event in self.heard if event.event is EventKind.MESSAGE_ENDED}
