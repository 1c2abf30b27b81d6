"""What the command line makes of the answers it waits for, through the API."""

from __future__ import annotations

import re
from datetime import timedelta
from typing import Any

import httpx
import pytest

from sessionctl.cli import remote
from sessionctl.cli.remote import RemoteBackend
from sessionctl.client import SessionClient
from sessionctl.core.identity import parse_session_id
from sessionctl.errors import DeadlineExceededError, NotFoundError, SessionctlError
from sessionctl.wire import Action

UUID = parse_session_id("3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11")
GONE = httpx.Response(
    404,
    headers={"content-type": "application/problem+json"},
    json={"title": "Not Found", "status": 404, "code": "not_found", "detail": f"there is no session {UUID}"},
)


def shown(status: str, reason: str | None = None) -> httpx.Response:
    session: dict[str, Any] = dict.fromkeys(("last_active", "deleted_at", "restorable_until"))
    session |= {"user_id": "a", "tenant": "t", "profile": "p", "status": status, "reason": reason, "url": "u"}
    session |= {"created_at": "2026-01-02T03:04:05Z"}
    report = {"uuid": UUID, "session": session, "queue_length": 0, "replicas": 1, "ready_replicas": 0}
    return httpx.Response(200, json=report | {"timestamp": "2026-01-02T03:04:05Z"})


async def done(answers: list[httpx.Response], verb: str, patience: timedelta = timedelta(minutes=1)) -> Action:
    """Carry a verb out on an API whose status answers one after the other, the last one for ever; takes them away."""
    action = "wake" if verb == "wake" else "delete"

    def serve(request: httpx.Request) -> httpx.Response:
        if not request.url.path.endswith("/status"):
            return httpx.Response(202, json={"uuid": UUID, "action": action, "status": "queued"})
        return answers.pop(0) if len(answers) > 1 else answers[0]

    async with SessionClient("http://api", "key", transport=httpx.MockTransport(serve)) as client:
        backend = RemoteBackend(client, lambda _: None)
        if verb == "wake":
            return await backend.wake(UUID, patience)
        return await backend.delete(UUID, purge=verb == "purge", wait=True)


async def test_a_start_that_failed_before_is_not_the_one_waited_for() -> None:
    answers = [shown("failed", "the one before"), shown("sleeping"), shown("waking"), shown("active")]
    assert (await done(answers, "wake")).status == "active"


@pytest.mark.parametrize(
    ("answers", "kind", "message"),
    [
        ([shown("waking"), shown("failed", "no image")], DeadlineExceededError, "did not start: no image"),
        ([shown("waking"), shown("deleting")], NotFoundError, "there is no session"),
        ([shown("waking"), GONE], NotFoundError, "there is no session"),
    ],
)
async def test_a_wait_ends_when_there_is_nothing_to_wait_for(
    answers: list[httpx.Response], kind: type[SessionctlError], message: str
) -> None:
    with pytest.raises(kind, match=message):
        await done(answers, "wake")


async def test_a_start_that_fails_at_once_is_told_in_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(remote, "STALE_SECONDS", 0.1)
    with pytest.raises(DeadlineExceededError, match="did not start: no image"):
        await done([shown("failed", "no image")], "wake")


async def test_a_wait_has_an_end() -> None:
    with pytest.raises(DeadlineExceededError, match=re.escape(f"session {UUID} is not ready after 0.2 s")):
        await done([shown("waking")], "wake", timedelta(milliseconds=200))


@pytest.mark.parametrize(("verb", "last"), [("delete", shown("deleted")), ("purge", GONE)])
async def test_a_delete_is_done_when_the_volume_is_all_that_is_left_and_a_purge_when_nothing_is(
    verb: str, last: httpx.Response
) -> None:
    answers = [shown("sleeping"), shown("deleting"), shown("deleted"), last, last]
    await done(answers, verb)
    assert len(answers) == (2 if verb == "delete" else 1)
