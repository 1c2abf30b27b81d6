"""The manager as a process: it starts, serves, drains and ends; its keys change and its log tells no secret."""

from __future__ import annotations

import asyncio
import json
import signal
from collections.abc import AsyncIterator, Iterator
from pathlib import Path

import httpx
import pytest

from sessionctl.models import SessionId
from tests.api.manager import Manager, serving, starting, write_keys
from tests.api.world import make_keys
from tests.support.sessionctl_cli import Cli
from tests.support.waiting import throughout, until, wait_for
from tools.localcluster import LocalCluster

KEYS, STORED = make_keys()
GOOD = {"X-API-Key": KEYS["all"]}


@pytest.fixture(scope="module")
def manager(
    platform: LocalCluster, sessions: dict[str, SessionId], tmp_path_factory: pytest.TempPathFactory
) -> Iterator[Manager]:
    folder = tmp_path_factory.mktemp("manager")
    with serving(Cli.on(platform), folder, STORED, "--drain", "0s") as running:
        yield running


@pytest.fixture
async def http(manager: Manager) -> AsyncIterator[httpx.AsyncClient]:
    async with httpx.AsyncClient(base_url=manager.url, headers=GOOD, timeout=60) as client:
        yield client


class Stream:
    """Reads server-sent events one by one."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.aiter_lines()

    async def next(self) -> dict[str, str]:
        """Return the fields of the next event."""
        found: dict[str, str] = {}
        async with asyncio.timeout(30):
            async for line in self._lines:
                name, _, value = line.partition(": ")
                if line.startswith(("retry", ":")):
                    continue
                if not line and found:
                    return found
                if line:
                    found[name] = value
        return found


async def test_events_come_as_they_happen_and_go_on_after_the_last_one(
    http: httpx.AsyncClient, mine: SessionId
) -> None:
    path = f"/session/{mine}/events"
    async with http.stream("GET", path) as answer:
        assert answer.headers["content-type"].startswith("text/event-stream")
        stream = Stream(answer)
        # The oldest that is kept: other tests have done much with this session.
        first = await stream.next()
        event = json.loads(first["data"])
        assert (event["uuid"], event["event"], event["id"]) == (mine, first["event"], first["id"])
        await http.post(f"/session/{mine}/wake")
        seen = [first]
        while seen[-1]["event"] != "woken":
            seen.append(await stream.next())
        last = seen[-1]["id"]
    async with http.stream("GET", path, headers={"Last-Event-ID": first["id"]}) as answer:
        stream = Stream(answer)
        again = [await stream.next() for _ in seen[1:]]
        assert again == seen[1:]
    await http.post(f"/session/{mine}/sleep")
    async with http.stream("GET", path, headers={"Last-Event-ID": last}) as answer:
        stream = Stream(answer)
        while (await stream.next())["event"] != "slept":
            pass


async def test_a_stream_is_refused_before_it_begins(http: httpx.AsyncClient, mine: SessionId, other: SessionId) -> None:
    assert (await http.get(f"/session/{other}/events")).status_code == 404
    bad = await http.get(f"/session/{mine}/events", headers={"Last-Event-ID": "yesterday"})
    assert (bad.status_code, bad.json()["errors"][0]["field"]) == (422, "Last-Event-ID")


async def test_keys_change_without_a_restart(manager: Manager, http: httpx.AsyncClient) -> None:
    new_keys, new_stored = make_keys()
    rest = {name: key for name, key in STORED.items() if name != "all"}
    try:
        write_keys(manager.keys, rest | {"all": new_stored["all"]})

        async def status(key: str) -> int:
            return (await http.get("/sessions", headers={"X-API-Key": key})).status_code

        async def has_changed() -> bool:
            return await status(new_keys["all"]) == 200

        await until(has_changed, "the new key is known")
        assert await status(KEYS["all"]) == 401
        # A broken entry takes itself away and nothing else; a directory that is gone takes nothing away.
        write_keys(manager.keys, rest | {"all": new_stored["all"]})
        version = (manager.keys / "..data").resolve()
        (version / "read").write_text(KEYS["read"])

        async def is_left_out() -> bool:
            return await status(KEYS["read"]) == 401

        await until(is_left_out, "the broken entry is left out")
        assert await status(new_keys["all"]) == 200
        assert manager.says("the API key read is left out")
        hidden = manager.keys.rename(manager.keys.with_name("hidden"))
        await until(lambda: manager.says("the last API keys stay valid"), "the loss is told")
        assert await status(new_keys["all"]) == 200
        hidden.rename(manager.keys)
    finally:
        write_keys(manager.keys, STORED)
        await until(lambda: manager.process.poll() is None and _knows(manager, KEYS["all"]), "the old keys are back")
    assert not any(text in manager.log.read_text() for text in (*KEYS.values(), *new_keys.values()))


def _knows(manager: Manager, key: str) -> bool:
    return httpx.get(f"{manager.url}/sessions", headers={"X-API-Key": key}).status_code == 200


async def test_a_request_is_one_line_in_the_log_without_secrets(
    manager: Manager, http: httpx.AsyncClient, mine: SessionId
) -> None:
    access = (await http.post(f"/session/{mine}/access", headers={"X-Request-Id": "req-1"})).json()
    token, code = access["token"], access["url"].rpartition("=")[2]
    await http.get(f"/session/{mine}/status", params={"code": code, "user_id": "alice@example.com"})
    plain = httpx.AsyncClient(base_url=manager.url, headers={"Authorization": f"Bearer {token}"})
    async with plain:
        answer = await plain.get(f"/session/{mine}/status", headers={"X-Request-Id": "no id of ours"})
        assert answer.status_code == 200
        made = answer.headers["X-Request-Id"]
        assert made != "no id of ours"
    (line,) = [line for line in manager.says("request") if line.get("request_id") == "req-1"]
    assert {name: line[name] for name in ("level", "method", "route", "status", "caller", "session")} == {
        "level": "info",
        "method": "POST",
        "route": "/session/{uuid}/access",
        "status": 200,
        "caller": "all",
        "session": mine,
    }
    assert line["ms"] > 0
    assert [line["session"] for line in manager.says("request") if line.get("request_id") == made] == [mine]
    log = manager.log.read_text()
    assert not any(secret in log for secret in (token, code, "alice", *KEYS.values()))


async def test_metrics_name_routes_and_no_session(http: httpx.AsyncClient, mine: SessionId) -> None:
    await http.get(f"/session/{mine}/status")
    await http.get(f"/nowhere/{mine}")
    text = (await http.get("/metrics")).text
    assert "/session/{uuid}/status" in text
    assert mine not in text
    assert "nowhere" not in text


async def test_told_to_end_it_answers_on_for_a_while_and_ends_streams(
    platform: LocalCluster, mine: SessionId, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serving(Cli.on(platform), tmp_path_factory.mktemp("drain"), STORED, "--drain", "3s") as manager:
        async with (
            httpx.AsyncClient(base_url=manager.url, headers=GOOD, timeout=60) as http,
            http.stream("GET", f"/session/{mine}/events") as stream,
        ):
            lines = stream.aiter_lines()
            assert await anext(lines) == "retry: 2000"
            manager.tell(signal.SIGTERM)

            async def is_draining() -> bool:
                answer = await http.get("/readyz")
                return answer.status_code == 503 and answer.json() == {"status": "draining"}

            await until(is_draining, "it is not ready any more")
            assert (await http.get(f"/session/{mine}/status")).status_code == 200
            # Whoever is still sent here connects anew.
            await throughout(lambda: httpx.get(f"{manager.url}/readyz").status_code == 503, "it answers", 1)
            # The stream's own end, not a cut connection, which httpx would raise.
            async with asyncio.timeout(30):
                async for _ in lines:
                    pass
        assert await asyncio.to_thread(manager.wait) == 0
        assert manager.says("draining")
        assert manager.lines()[-1]["message"] == "ended"


async def test_what_is_under_way_is_finished_first(
    platform: LocalCluster, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serving(Cli.on(platform), tmp_path_factory.mktemp("finish"), STORED, "--drain", "0s") as manager:
        async with httpx.AsyncClient(base_url=manager.url, headers=GOOD, timeout=60) as http:
            creating = asyncio.create_task(http.post("/session/create", json={"user_id": "late"}))
            await asyncio.to_thread(wait_for, lambda: _helm_runs(manager), "Helm runs")
            manager.tell(signal.SIGTERM)
            made = await creating
            assert made.status_code == 201
        assert await asyncio.to_thread(manager.wait) == 0
    assert Cli.on(platform).run("delete", "--purge", made.json()["uuid"]).code == 0


def _helm_runs(manager: Manager) -> bool:
    pid = manager.process.pid
    return bool(Path(f"/proc/{pid}/task/{pid}/children").read_text().split())


async def test_a_second_signal_ends_it_at_once(
    platform: LocalCluster, mine: SessionId, tmp_path_factory: pytest.TempPathFactory
) -> None:
    with serving(Cli.on(platform), tmp_path_factory.mktemp("twice"), STORED, "--drain", "1h") as manager:
        manager.tell(signal.SIGTERM)
        await until(lambda: manager.says("draining"), "it drains")
        manager.tell(signal.SIGTERM)
        assert await asyncio.to_thread(manager.wait) == 0


def test_a_cluster_that_is_away_is_waited_for(platform: LocalCluster, tmp_path: Path) -> None:
    kubeconfig = tmp_path / "kubeconfig"
    true = platform.kubeconfig.read_text()
    kubeconfig.write_text(true.replace(platform.server, "https://127.0.0.1:1"))
    environment = {"KUBECONFIG": str(kubeconfig)}
    with starting(Cli.on(platform), tmp_path, STORED, "--drain", "0s", **environment) as manager:
        said = "not started yet: the Kubernetes API at https://127.0.0.1:1 does not answer"
        wait_for(lambda: manager.log.read_text().count(said) > 1, "it says so, and goes on")
        assert manager.process.poll() is None

        fresh = tmp_path / "fresh"
        fresh.write_text(true)
        fresh.rename(kubeconfig)

        manager.wait_ready()
        manager.tell(signal.SIGTERM)
        assert manager.wait() == 0
