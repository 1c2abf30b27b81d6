"""What really was: the replicas of every session over time, from a watch of the tests' own."""

from __future__ import annotations

import asyncio
import json
import ssl
import time
from bisect import bisect_right
from dataclasses import dataclass, field
from datetime import datetime
from typing import TYPE_CHECKING, Any, Final

import httpx

if TYPE_CHECKING:
    from tools.localcluster import LocalCluster

_DEPLOYMENTS: Final = "/apis/apps/v1/namespaces/sessions/deployments"
_PAUSE_SECONDS: Final = 0.1
_SILENCE_SECONDS: Final = 90.0
DELAY_SECONDS: Final = 1.0
"""An event of a watch comes within this time, on a busy machine too."""
GRAIN_SECONDS: Final = 1.0
"""The API server writes down when a field changed in whole seconds."""


@dataclass
class Track:
    """One session: when its replicas were seen to change, by the monotonic clock."""

    times: list[float] = field(default_factory=list)
    earliest: list[float] = field(default_factory=list)
    """The moments from which on each change may have happened."""
    replicas: list[int] = field(default_factory=list)

    def note(self, at: float, replicas: int, written: float | None = None) -> None:
        """Append a change seen at a moment, and the second in which it was written; what did not change is not noted.

        What is seen late, because the test was busy, has happened at the end of that second at the latest.
        """
        if not self.replicas or self.replicas[-1] != replicas:
            earliest = at if written is None else min(at, written)
            self.times.append(max([min(at, earliest + GRAIN_SECONDS), *self.times[-1:]]))
            self.earliest.append(earliest)
            self.replicas.append(replicas)

    def during(self, start: float, end: float) -> set[int]:
        """Return the values it had at some moment between the two."""
        first = max(bisect_right(self.times, start) - 1, 0)
        last = bisect_right(self.times, end)
        return set(self.replicas[first:last])

    def before(self, start: float, fall: float) -> set[int]:
        """Return the values it had from a moment on until just before a fall."""
        first = max(bisect_right(self.times, start) - 1, 0)
        return set(self.replicas[first : self.times.index(fall)])

    def falls(self) -> list[tuple[float, float]]:
        """Return when it was put to sleep, each time at the earliest and at the latest."""
        changes = zip(self.earliest[1:], self.times[1:], self.replicas[1:], strict=True)
        return [(earliest, latest) for earliest, latest, value in changes if value == 0]


@dataclass
class Truth:
    """All sessions. What happens while the watch is interrupted is seen late, or not at all."""

    tracks: dict[str, Track] = field(default_factory=dict)
    blind: list[tuple[float, float]] = field(default_factory=list)
    """When the watch was interrupted, and when it had caught up again."""
    _blind_since: float | None = None

    def of(self, uuid: str) -> Track:
        """Return one session's."""
        return self.tracks.setdefault(uuid, Track())

    def may_have_been(self, uuid: str, start: float, end: float) -> set[int]:
        """Return the values a session may have had between the two; while nobody saw it, any."""
        gaps = [*self.blind, *([(self._blind_since, float("inf"))] if self._blind_since is not None else [])]
        unseen = any(since <= end and start <= until for since, until in gaps)
        return {0, 1} if unseen else self.of(uuid).during(start, end)

    def was_blind(self, since: float, seconds: float) -> bool:
        """Whether the watch was interrupted for so long, at a stretch that ended after a moment."""
        return any(end >= since and end - start >= seconds for start, end in self.blind)

    def blind_since(self, moment: float) -> float:
        """Return when what was seen at ``moment`` may have happened at the earliest."""
        return min([start for start, end in self.blind if start <= moment <= end], default=moment) - DELAY_SECONDS

    async def follow(self, cluster: LocalCluster) -> None:
        """Watch until cancelled."""
        context = ssl.create_default_context(cafile=str(cluster.certificate_authority))
        headers = {"Authorization": f"Bearer {cluster.token_for('admin')}"}
        timeout = httpx.Timeout(10.0, read=_SILENCE_SECONDS)
        version = ""
        async with httpx.AsyncClient(
            base_url=cluster.server, verify=context, headers=headers, timeout=timeout, trust_env=False
        ) as http:
            while True:
                try:
                    version = version or await self._list(http)
                    self._sees(at=time.monotonic())
                    version = await self._watch(http, version)
                except (httpx.HTTPError, KeyError, ValueError):
                    self._loses_sight()
                    await asyncio.sleep(_PAUSE_SECONDS)

    def _sees(self, at: float) -> None:
        if self._blind_since is not None:
            # The first events after a gap come within a moment of the connection.
            self.blind.append((self._blind_since, at + DELAY_SECONDS))
            self._blind_since = None

    async def _list(self, http: httpx.AsyncClient) -> str:
        answer = (await http.get(_DEPLOYMENTS)).raise_for_status().json()
        for item in answer["items"]:
            self._note(item)
        return str(answer["metadata"]["resourceVersion"])

    async def _watch(self, http: httpx.AsyncClient, version: str) -> str:
        query = {"watch": "true", "resourceVersion": version, "allowWatchBookmarks": "true"}
        try:
            async with http.stream("GET", _DEPLOYMENTS, params=query) as answer:
                answer.raise_for_status()
                async for line in answer.aiter_lines():
                    event = json.loads(line)
                    if event["type"] == "ERROR":
                        # A restarted API server remembers no earlier events: what was missed stays unknown.
                        self._loses_sight()
                        return ""
                    version = str(event["object"]["metadata"]["resourceVersion"])
                    if event["type"] != "BOOKMARK":
                        self._note(event["object"])
        except (httpx.HTTPError, ValueError):
            self._loses_sight()
        return version

    def _loses_sight(self) -> None:
        if self._blind_since is None:
            self._blind_since = time.monotonic()

    def _note(self, item: dict[str, Any]) -> None:
        uuid = item["metadata"]["labels"].get("uuid", "")
        now = time.monotonic()
        moments = [_moment(entry) for entry in item["metadata"].get("managedFields", ())]
        written = max([moment for moment in moments if moment is not None], default=None)
        replicas = int(item["spec"].get("replicas", 0))
        self.of(uuid).note(now, replicas, None if written is None else now - time.time() + written)


def _moment(entry: dict[str, Any]) -> float | None:
    """Return when this owner wrote the replicas, by the API server's clock, which is this machine's."""
    owns = "f:replicas" in entry.get("fieldsV1", {}).get("f:spec", {})
    return datetime.fromisoformat(entry["time"]).timestamp() if owns and "time" in entry else None
