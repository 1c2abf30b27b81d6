"""Who may open which editor: the cookie ``__Host-session`` of one session's host (DESIGN 8)."""

from __future__ import annotations

import asyncio
import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.core.signing import Signer
from sessionctl.errors import StoreError, UnauthenticatedError, UnavailableError
from sessionctl.labels import user_hash

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import timedelta

    from sessionctl.models import Login, SessionId
    from sessionctl.ports import AccessStore, Clock

PATIENCE_SECONDS: Final = 1.5
"""The router does not wait longer either: it goes on with the answer that it had before."""
PAUSE_SECONDS: Final = 1.0
"""So long after Redis did not answer nobody is kept waiting for it."""
_LONGEST: Final = 2048
_log = logging.getLogger(__name__)
_PURPOSE: Final = b"editor-cookie"


@dataclass(frozen=True)
class Visitor:
    """Whoever shows a good cookie."""

    session_id: SessionId
    tenant: str
    user: str
    """The hash that is also a label; a user's name has no place in a cookie."""


class VisitorCookies:
    """Makes and reads cookies; ``platform_keys`` are the present one and, while it is changed, the one before."""

    def __init__(self, platform_keys: Sequence[str], store: AccessStore, clock: Clock, lifetime: timedelta) -> None:
        self._signer = Signer(platform_keys, _PURPOSE)
        self._store = store
        self._clock = clock
        self._lifetime = lifetime
        self._ask_again_at = 0.0

    @property
    def lifetime(self) -> timedelta:
        """How long one is good."""
        return self._lifetime

    def issue(self, login: Login) -> str:
        """Return the cookie of somebody who has logged in."""
        issued_at = int(self._clock.now().timestamp())
        return self._signer.sign(
            {
                "uuid": login.session_id,
                "tenant": login.tenant,
                "user": user_hash(login.user_id),
                "issued": issued_at,
                "expires": issued_at + int(self._lifetime.total_seconds()),
                "epoch": login.epoch,
            }
        )

    async def identify(self, session_id: SessionId, cookie: str) -> Visitor:
        """Return who shows this cookie on the host of this session.

        Raises UnauthenticatedError, and UnavailableError where nobody can say at present whether it was revoked.
        """
        claims = self._signer.read(cookie) if 0 < len(cookie) <= _LONGEST else None
        if claims is None or claims["uuid"] != session_id or claims["expires"] <= self._clock.now().timestamp():
            raise _refusal()
        if claims["epoch"] != await self._epoch(session_id):
            raise _refusal()
        return Visitor(session_id, claims["tenant"], claims["user"])

    async def _epoch(self, session_id: SessionId) -> int:
        if self._clock.monotonic() < self._ask_again_at:
            raise UnavailableError("Redis did not answer a moment ago")
        try:
            async with asyncio.timeout(PATIENCE_SECONDS):
                return await self._store.get_token_epoch(session_id)
        except (StoreError, TimeoutError) as error:
            self._ask_again_at = self._clock.monotonic() + PAUSE_SECONDS
            _log.warning("cookies are not read for %g s: Redis did not answer: %s", PAUSE_SECONDS, error)
            raise UnavailableError("Redis does not say what was revoked") from error


def _refusal() -> UnauthenticatedError:
    return UnauthenticatedError("the cookie is invalid, revoked, expired, or of another session")
