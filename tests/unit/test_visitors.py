"""The cookie of an editor's host: whose it is, how long, and what does not pass for it."""

from __future__ import annotations

import asyncio
import base64
import json
from datetime import timedelta
from typing import cast

import pytest

from sessionctl.core import visitors
from sessionctl.core.identity import new_session_id
from sessionctl.core.tokens import TokenService
from sessionctl.core.visitors import VisitorCookies
from sessionctl.errors import StoreError, UnauthenticatedError, UnavailableError
from sessionctl.labels import user_hash
from sessionctl.models import Login, Scope, SessionId
from sessionctl.ports import AccessStore
from sessionctl.testing.clock import FakeClock

SESSION, OTHER = new_session_id(), new_session_id()
LIFETIME = timedelta(hours=12)


class Epochs:
    """The one number of a store that cookies ask for; ``away`` is what it raises, ``hangs`` that it never answers."""

    def __init__(self) -> None:
        self.epoch = 7
        self.away: StoreError | None = None
        self.hangs = False
        self.asked = 0

    async def get_token_epoch(self, session_id: SessionId) -> int:
        self.asked += 1
        if self.hangs:
            await asyncio.sleep(3600)
        if self.away is not None:
            raise self.away
        return self.epoch


def cookies(*keys: str, clock: FakeClock | None = None, epochs: Epochs | None = None) -> VisitorCookies:
    return VisitorCookies(keys or ("key",), cast("AccessStore", epochs or Epochs()), clock or FakeClock(), LIFETIME)


def login(session_id: SessionId = SESSION, epoch: int = 7) -> Login:
    return Login(session_id, "acme", "älice@example.com", epoch)


async def refused(service: VisitorCookies, cookie: str, session_id: SessionId = SESSION) -> None:
    with pytest.raises(UnauthenticatedError):
        await service.identify(session_id, cookie)


async def test_a_cookie_opens_its_session_and_no_other() -> None:
    service = cookies()
    cookie = service.issue(login())
    visitor = await service.identify(SESSION, cookie)
    assert (visitor.session_id, visitor.tenant, visitor.user) == (SESSION, "acme", user_hash("älice@example.com"))
    await refused(service, cookie, OTHER)


async def test_nothing_of_a_user_can_be_read_from_it_and_it_fits_into_a_header() -> None:
    cookie = cookies().issue(Login(SESSION, "t" * 63, "\N{GRINNING FACE}" * 256, 2**53))
    assert b"alice" not in base64.urlsafe_b64decode(cookie.partition(".")[0] + "==")
    assert len(cookie) < 1024
    assert cookie.isascii()
    assert not set(cookie) & set(' ";,\\=')


async def test_it_ends_by_itself_and_when_it_is_revoked() -> None:
    clock, epochs = FakeClock(), Epochs()
    service = cookies(clock=clock, epochs=epochs)
    cookie = service.issue(login())
    await clock.sleep(LIFETIME.total_seconds() - 1)
    await service.identify(SESSION, cookie)
    epochs.epoch += 1
    await refused(service, cookie)
    epochs.epoch -= 1
    await clock.sleep(2)
    await refused(service, cookie)


async def test_a_key_that_is_being_changed_is_still_read_and_no_more_written() -> None:
    old = cookies("old").issue(login())
    both = cookies("new", "old")
    await both.identify(SESSION, old)
    fresh = both.issue(login())
    await cookies("new").identify(SESSION, fresh)
    await refused(cookies("old"), fresh)
    await refused(cookies("new"), old)


async def test_a_token_is_no_cookie_and_a_cookie_no_token() -> None:
    epochs = cast("AccessStore", Epochs())
    tokens = TokenService(["key"], epochs, FakeClock(), LIFETIME)
    token = (await tokens.issue(SESSION, "acme", [Scope.WRITE])).text
    for text in (token, token.removeprefix("st_")):
        await refused(cookies(), text)
    with pytest.raises(UnauthenticatedError):
        await tokens.identify(f"st_{cookies().issue(login())}")


async def test_nothing_of_it_can_be_changed() -> None:
    service, epochs = cookies(), Epochs()
    cookie = service.issue(login(OTHER))
    payload, _, signature = cookie.partition(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    forged = base64.urlsafe_b64encode(json.dumps(claims | {"uuid": SESSION}).encode()).rstrip(b"=").decode()
    for wrong in (
        f"{forged}.{signature}",
        f"{payload}.",
        payload,
        f".{signature}",
        f"{payload}.{signature}x",
        f"{payload}.{signature}.{signature}",
        "x" * 100_000,
        "\xff.\xff",
        "",
    ):
        await refused(cookies(epochs=epochs), wrong)
    # What nobody has signed costs Redis nothing.
    assert epochs.asked == 0


@pytest.mark.parametrize("how", ["away", "hangs"])
async def test_without_redis_nobody_can_say_and_nobody_is_kept_waiting(
    how: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(visitors, "PATIENCE_SECONDS", 0.01)
    clock, epochs = FakeClock(), Epochs()
    service = cookies(clock=clock, epochs=epochs)
    cookie = service.issue(login())
    epochs.away, epochs.hangs = StoreError("away") if how == "away" else None, how == "hangs"
    for _ in range(5):
        with pytest.raises(UnavailableError):
            await service.identify(SESSION, cookie)
    assert epochs.asked == 1
    epochs.away, epochs.hangs = None, False
    await clock.sleep(visitors.PAUSE_SECONDS)
    await service.identify(SESSION, cookie)
