"""The measuring half of `make bench-chat`: runs where pods have addresses."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import random
import sys
import time
import uuid
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import httpx

from tools.apibench import line

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Awaitable, Callable, Sequence

PARTS: Final = ("added", "first", "rate", "cuts", "listeners")
ROUNDS: Final = 200
WARM_UP: Final = 10
SLOW_ROUNDS: Final = 5
LOAD_SECONDS: Final = 8
RATE: Final = int(os.environ.get("SESSIONCTL_BENCH_CHAT_RATE", "300"))
EVENTS: Final = int(os.environ.get("SESSIONCTL_BENCH_CHAT_EVENTS", "10000"))
EVENTS_OF_A_MESSAGE: Final = 4
CUTS: Final = 100
LISTENERS: Final = int(os.environ.get("SESSIONCTL_BENCH_CHAT_LISTENERS", "2000"))
PATIENCE_SECONDS: Final = 60
TICKS: Final = os.sysconf("SC_CLK_TCK")

Place = dict[str, Any]


def api_client(place: Place, key: int = 0) -> httpx.AsyncClient:
    """Return a client of the API."""
    limits = httpx.Limits(max_connections=1000, max_keepalive_connections=1000)
    headers = {"X-API-Key": place["keys"][key]}
    return httpx.AsyncClient(base_url=place["api"], headers=headers, timeout=120, limits=limits, trust_env=False)


async def first_byte(http: httpx.AsyncClient, session: str) -> float:
    """Send a message and return how long it takes until the first piece of the reply."""
    began = time.monotonic()
    async for event, _ in streamed(http, session, "hello"):
        if event == "message-delta":
            return time.monotonic() - began
    raise AssertionError(session)


async def streamed(http: httpx.AsyncClient, session: str, message: str) -> AsyncIterator[tuple[str, dict[str, Any]]]:
    """Send a message and yield the events of its reply."""
    headers = {"Accept": "text/event-stream"}
    body = {"message": message}
    async with http.stream("POST", f"/session/{session}/chat", json=body, headers=headers) as answer:
        assert answer.is_success, await answer.aread()
        kind = ""
        async for text in answer.aiter_lines():
            if text.startswith("event:"):
                kind = text[6:].strip()
            elif text.startswith("data:"):
                yield kind, json.loads(text[5:])
                if kind == "message-ended":
                    return


class ChatLoad:
    """The measurements."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._sessions: list[str] = [each for each in place["agents"] if each != place["slow"]]

    async def run(self, parts: Sequence[str]) -> None:
        """Measure these parts."""
        async with api_client(self._place) as api, httpx.AsyncClient(timeout=60, trust_env=False) as agents:
            if "added" in parts:
                await self._added(api, agents)
            if "first" in parts:
                await self._first(api, agents)
            if "rate" in parts:
                await self._rate(api, agents)
            if "cuts" in parts:
                await self._cuts(api)
            if "listeners" in parts:
                await self._listeners(api)

    async def _direct(self, agents: httpx.AsyncClient, session: str, message: str = "hello") -> tuple[float, float]:
        """Send a message to its agent; returns when the first line came, and when the last."""
        token = {"Authorization": f"Bearer {self._place['tokens'][session]}"}
        body = {"id": str(uuid.uuid4()), "message": message, "user_id": "bench"}
        began, first = time.monotonic(), 0.0
        url = f"{self._place['agents'][session]}/v1/messages"
        async with agents.stream("POST", url, json=body, headers=token) as answer:
            assert answer.is_success, await answer.aread()
            async for text in answer.aiter_lines():
                if text and not first:
                    first = time.monotonic() - began
        return first, time.monotonic() - began

    async def _waited(self, api: httpx.AsyncClient, session: str) -> float:
        began = time.monotonic()
        answer = await api.post(f"/session/{session}/chat?wait=30", json={"message": "hello"})
        assert answer.status_code == HTTPStatus.OK, answer.text
        return time.monotonic() - began

    async def _streamed(self, api: httpx.AsyncClient, session: str) -> tuple[float, float]:
        began, first = time.monotonic(), 0.0
        async for kind, _ in streamed(api, session, "hello"):
            if kind == "message-delta" and not first:
                first = time.monotonic() - began
        return first, time.monotonic() - began

    async def _added(self, api: httpx.AsyncClient, agents: httpx.AsyncClient) -> None:
        session = self._sessions[0]
        direct, waited, stream = [], [], []
        for number in range(WARM_UP + ROUNDS):
            turn = (await self._direct(agents, session))[1], await self._waited(api, session)
            streams = await self._streamed(api, session)
            if number >= WARM_UP:
                direct.append(turn[0])
                waited.append(turn[1])
                stream.append(streams[1])
        alone = line("POST to the agent, awake", direct)
        for name, figures in (("POST chat?wait", waited), ("POST chat, streamed", stream)):
            own = line(f"{name}, awake", figures)
            print(
                f"  adds {1000 * (own - alone):.1f} ms to p50 (<= 15); {own / alone:.1f} x the agent's own", flush=True
            )

    async def _first(self, api: httpx.AsyncClient, agents: httpx.AsyncClient) -> None:
        slow = self._place["slow"]
        direct = [await self._direct(agents, slow) for _ in range(SLOW_ROUNDS)]
        through = [await self._streamed(api, slow) for _ in range(SLOW_ROUNDS)]
        for name, turns in (("the agent", direct), ("through the API", through)):
            line(f"first byte of a reply of 2 s, {name}", [first for first, _ in turns])
            line(f"  its last byte, {name}", [last for _, last in turns])

    def _cpu(self) -> float:
        fields = Path(f"/proc/{self._place['manager']}/stat").read_text().rpartition(")")[2].split()
        return (int(fields[11]) + int(fields[12])) / TICKS

    async def _rate(self, api: httpx.AsyncClient, agents: httpx.AsyncClient) -> None:
        """As many as are wanted each second, over all sessions, for some seconds; then until all have ended."""

        async def one(session: str) -> None:
            await self._direct(agents, session)

        bare = await self._closed_loop(one)
        print(f"messages to {len(self._sessions)} agents themselves, one at a time each: {bare:.0f}/s", flush=True)
        ended = Counting(self._place, self._sessions)
        async with ended.counting():
            await self._open_loop(api, ended, bare)

    async def _closed_loop(self, work: Callable[[str], Awaitable[None]]) -> float:
        began, count = time.monotonic(), 0

        async def loop(session: str) -> None:
            nonlocal count
            while time.monotonic() - began < LOAD_SECONDS:
                await work(session)
                count += 1

        await asyncio.gather(*(loop(session) for session in self._sessions))
        return count / (time.monotonic() - began)

    async def _open_loop(self, api: httpx.AsyncClient, ended: Counting, bare: float) -> None:
        cpu, began = self._cpu(), time.monotonic()
        statuses: dict[int, int] = {}
        answered: list[float] = []

        async def send(number: int) -> None:
            await asyncio.sleep(began + number / RATE - time.monotonic())
            sent = time.monotonic()
            session = self._sessions[number % len(self._sessions)]
            answer = await api.post(f"/session/{session}/chat", json={"message": f"message {number}"})
            answered.append(time.monotonic() - sent)
            statuses[answer.status_code] = statuses.get(answer.status_code, 0) + 1

        sending = [asyncio.create_task(send(number)) for number in range(RATE * LOAD_SECONDS)]
        await asyncio.wait(sending, timeout=PATIENCE_SECONDS)
        taken = time.monotonic() - began
        for task in sending:
            task.cancel()
        await asyncio.gather(*sending, return_exceptions=True)
        accepted = statuses.get(HTTPStatus.ACCEPTED, 0)
        await ended.reach(accepted)
        done = accepted / (time.monotonic() - began)
        each = (self._cpu() - cpu) / accepted
        line(f"POST chat at {RATE}/s", answered)
        print(
            f"  {statuses}: accepted {accepted / taken:.0f}/s, ended {done:.0f}/s (>= 300), "
            f"{done / bare:.2f} of what the agents do themselves; the manager works {1000 * each:.2f} ms for each, "
            f"which is {1 / each:.0f}/s of one core; load of the machine {os.getloadavg()[0]:.1f}",
            flush=True,
        )

    async def _cuts(self, api: httpx.AsyncClient) -> None:
        """Listen over many connections while messages go on; somebody who asks afterwards knows what there was."""
        session = self._sessions[1]
        messages = EVENTS // EVENTS_OF_A_MESSAGE
        dice = random.Random(7)
        seen: list[str] = []
        cuts, ended = 0, 0
        last = await self._newest(api, session)
        whole: list[str] = []
        steady = asyncio.create_task(self._hear(session, last, messages, whole))
        sending = asyncio.create_task(self._send_all(api, session, messages))
        async with api_client(self._place, 1) as http:
            while ended < messages:
                left = dice.randint(1, 2 * EVENTS // CUTS) if cuts < CUTS else EVENTS
                async with listening(http, session, seen[-1] if seen else last) as events:
                    async for event in events:
                        seen.append(event["id"])
                        ended += event["event"] == "message-ended"
                        left -= 1
                        if ended == messages or not left:
                            break
                cuts += 1
        await sending
        await steady
        twice, missing = len(seen) - len(set(seen)), len(set(whole) - set(seen))
        print(
            f"{len(seen)} events over {cuts} connections: {missing} missing, {twice} twice, "
            f"{'in' if seen == whole else 'OUT OF'} the order of an uninterrupted listener",
            flush=True,
        )

    async def _newest(self, api: httpx.AsyncClient, session: str) -> str:
        last = "0-0"
        async with listening(api, session, last, follow="false") as events:
            async for event in events:
                last = event["id"]
        return last

    async def _hear(self, session: str, last: str, messages: int, whole: list[str]) -> None:
        ended = 0
        async with api_client(self._place, 2) as http, listening(http, session, last) as events:
            async for event in events:
                whole.append(event["id"])
                ended += event["event"] == "message-ended"
                if ended == messages:
                    return

    async def _send_all(self, api: httpx.AsyncClient, session: str, messages: int) -> None:
        for number in range(messages):
            while True:
                answer = await api.post(f"/session/{session}/chat", json={"message": f"message {number}"})
                if answer.status_code == HTTPStatus.ACCEPTED:
                    break
                # So many may wait, and no more.
                await asyncio.sleep(0.2)

    async def _listeners(self, api: httpx.AsyncClient) -> None:
        """Many listeners of a few sessions; each hears the end of a message."""
        before = self._resident()
        heard: list[float] = []
        listening_now = asyncio.Semaphore(0)

        async def listen(number: int) -> None:
            session = self._sessions[number % len(self._sessions)]
            http = clients[number % len(clients)]
            async with listening(http, session, lasts[session]) as events:
                listening_now.release()
                async for event in events:
                    if event["event"] == "message-ended":
                        heard.append(time.monotonic())
                        return

        async with contextlib.AsyncExitStack() as stack:
            count = len(self._place["keys"])
            clients = [await stack.enter_async_context(api_client(self._place, key)) for key in range(count)]
            lasts = {session: await self._newest(api, session) for session in self._sessions}
            tasks = [asyncio.create_task(listen(number)) for number in range(LISTENERS)]
            for _ in range(LISTENERS):
                await listening_now.acquire()
            began = time.monotonic()
            resident = self._resident()
            for session in self._sessions:
                assert (await api.post(f"/session/{session}/chat", json={"message": "to all"})).is_success
            await asyncio.gather(*tasks)
        line(f"{len(heard)} listeners on one manager hear an end", [at - began for at in heard])
        print(f"  the manager grew from {before:.0f} to {resident:.0f} MB", flush=True)

    def _resident(self) -> float:
        pages = int(Path(f"/proc/{self._place['manager']}/statm").read_text().split()[1])
        return pages * os.sysconf("SC_PAGE_SIZE") / 1e6


class Counting:
    """Counts outcomes of sessions, cheaply: who measures shares the cores."""

    def __init__(self, place: Place, sessions: list[str]) -> None:
        self._place = place
        self._sessions = sessions
        self._count = 0

    @contextlib.asynccontextmanager
    async def counting(self) -> AsyncIterator[None]:
        """Count in the block."""
        ready = asyncio.Semaphore(0)
        async with api_client(self._place, 3) as http:

            async def listen(session: str) -> None:
                headers = {"Last-Event-ID": f"{int(time.time() * 1000)}-0"}
                async with http.stream("GET", f"/session/{session}/events", headers=headers) as answer:
                    ready.release()
                    tail = b""
                    async for chunk in answer.aiter_bytes():
                        text = tail + chunk
                        self._count += text.count(b"event: message-ended")
                        tail = text[-19:] if not text.endswith(b"\n\n") else b""

            tasks = [asyncio.create_task(listen(session)) for session in self._sessions]
            for _ in tasks:
                await ready.acquire()
            yield
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def reach(self, count: int) -> None:
        """Return when so many have ended; says so when it takes for ever."""
        deadline = time.monotonic() + PATIENCE_SECONDS
        while self._count < count:
            if time.monotonic() > deadline:
                print(f"  only {self._count} of {count} ended", flush=True)
                return
            await asyncio.sleep(0.01)


@contextlib.asynccontextmanager
async def listening(
    http: httpx.AsyncClient, session: str, last: str, follow: str = "true"
) -> AsyncIterator[AsyncIterator[dict[str, Any]]]:
    """Follow a session's events after one; the connection is cut at the end of the block."""
    headers = {"Last-Event-ID": last, "Accept": "text/event-stream"}
    path = f"/session/{session}/events"
    async with http.stream("GET", path, params={"follow": follow}, headers=headers) as answer:
        assert answer.is_success, await answer.aread()

        async def events() -> AsyncIterator[dict[str, Any]]:
            async for text in answer.aiter_lines():
                if text.startswith("data:"):
                    yield json.loads(text[5:])

        yield events()


def main(file: str, parts: Sequence[str]) -> int:
    """Measure parts of what a file says."""
    asyncio.run(ChatLoad(json.loads(Path(file).read_text())).run(parts))
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1], sys.argv[2:]))
