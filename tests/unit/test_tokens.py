from __future__ import annotations

import base64
import json
from datetime import timedelta
from typing import cast

import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.core.tokens import TokenService
from sessionctl.errors import UnauthenticatedError
from sessionctl.models import Caller, Scope, SessionId
from sessionctl.ports import AccessStore
from sessionctl.testing.clock import FakeClock

SESSION = new_session_id()
LIFETIME = timedelta(minutes=15)


class Epochs:
    """The one number of a store that tokens ask for."""

    def __init__(self) -> None:
        self.epoch = 7

    async def get_token_epoch(self, session_id: SessionId) -> int:
        return self.epoch


def service(*keys: str, clock: FakeClock | None = None, epochs: Epochs | None = None) -> TokenService:
    return TokenService(keys, cast("AccessStore", epochs or Epochs()), clock or FakeClock(), LIFETIME)


async def test_a_token_is_read_by_whoever_has_the_key() -> None:
    token = await service("key").issue(SESSION, "acme", [Scope.READ])
    assert await service("key").identify(token.text) == Caller(SESSION, "acme", frozenset({Scope.READ}), SESSION)
    with pytest.raises(UnauthenticatedError):
        await service("other").identify(token.text)


async def test_a_key_that_is_being_changed_is_still_read_and_no_more_written() -> None:
    old = await service("old").issue(SESSION, "acme", [Scope.READ])
    both = service("new", "old")
    assert (await both.identify(old.text)).session_id == SESSION
    fresh = await both.issue(SESSION, "acme", [Scope.READ])
    assert (await service("new").identify(fresh.text)).session_id == SESSION
    with pytest.raises(UnauthenticatedError):
        await service("old").identify(fresh.text)


async def test_a_token_ends_by_itself_and_when_it_is_revoked() -> None:
    clock, epochs = FakeClock(), Epochs()
    tokens = service("key", clock=clock, epochs=epochs)
    token = await tokens.issue(SESSION, "acme", [Scope.READ])
    assert token.expires_at - clock.now() <= LIFETIME
    await clock.sleep((LIFETIME - timedelta(seconds=2)).total_seconds())
    await tokens.identify(token.text)
    epochs.epoch += 1
    with pytest.raises(UnauthenticatedError):
        await tokens.identify(token.text)
    epochs.epoch -= 1
    await clock.sleep(3)
    with pytest.raises(UnauthenticatedError):
        await tokens.identify(token.text)


async def test_nothing_of_a_token_can_be_changed() -> None:
    tokens = service("key")
    token = (await tokens.issue(SESSION, "acme", [Scope.READ])).text
    payload, _, signature = token.removeprefix("st_").partition(".")
    claims = json.loads(base64.urlsafe_b64decode(payload + "=="))
    claims["scopes"] = ["access"]
    forged = base64.urlsafe_b64encode(json.dumps(claims).encode()).rstrip(b"=").decode()
    for wrong in (
        f"st_{forged}.{signature}",
        f"st_{payload}.",
        f"st_{payload}",
        f"st_{payload}.{signature}x",
        f"st_.{signature}",
        f"{payload}.{signature}",
        "st_" + "x" * 5000,
        "st_\xff.\xff",
        "",
    ):
        with pytest.raises(UnauthenticatedError):
            await tokens.identify(wrong)


async def test_the_signing_key_is_not_the_platform_key() -> None:
    import hmac

    payload = "e30"
    signature = base64.urlsafe_b64encode(hmac.digest(b"key", payload.encode(), "sha256")).rstrip(b"=").decode()
    with pytest.raises(UnauthenticatedError):
        await service("key").identify(f"st_{payload}.{signature}")
