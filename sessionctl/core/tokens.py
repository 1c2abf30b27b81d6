"""Session tokens: what a browser may hold for one session and a short time (DESIGN 6)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sessionctl.core.signing import Signer
from sessionctl.errors import UnauthenticatedError
from sessionctl.labels import SESSION_ID
from sessionctl.models import Caller, Scope, SessionId

if TYPE_CHECKING:
    from collections.abc import Iterable, Sequence
    from datetime import timedelta

    from sessionctl.ports import AccessStore, Clock

PREFIX: Final = "st_"
_LONGEST: Final = 1024
_PURPOSE: Final = b"session-token"


@dataclass(frozen=True)
class SessionToken:
    """A token, and when it ends."""

    text: str
    expires_at: datetime
    scopes: frozenset[Scope]


class TokenService:
    """Makes and reads tokens; ``platform_keys`` are the present one and, while it is changed, the one before."""

    def __init__(self, platform_keys: Sequence[str], store: AccessStore, clock: Clock, lifetime: timedelta) -> None:
        self._signer = Signer(platform_keys, _PURPOSE)
        self._store = store
        self._clock = clock
        self._lifetime = lifetime

    async def issue(self, session_id: SessionId, tenant: str, scopes: Iterable[Scope]) -> SessionToken:
        """Make a token for one session; raises StoreError."""
        epoch = await self._store.get_token_epoch(session_id)
        issued_at = self._clock.now().replace(microsecond=0)
        expires_at = issued_at + self._lifetime
        claims = {
            "uuid": session_id,
            "tenant": tenant,
            "scopes": sorted(scopes),
            "issued": int(issued_at.timestamp()),
            "expires": int(expires_at.timestamp()),
            "epoch": epoch,
        }
        return SessionToken(f"{PREFIX}{self._signer.sign(claims)}", expires_at, frozenset(scopes))

    async def identify(self, text: str) -> Caller:
        """Return who holds this token; raises UnauthenticatedError and StoreError (nobody knows if it was revoked)."""
        ours = text.startswith(PREFIX) and len(text) <= _LONGEST
        claims = self._signer.read(text.removeprefix(PREFIX)) if ours else None
        if claims is None:
            raise _refusal()
        session_id = SessionId(claims["uuid"])
        if datetime.fromtimestamp(claims["expires"], UTC) <= self._clock.now():
            raise _refusal()
        if not SESSION_ID.fullmatch(session_id) or claims["epoch"] != await self._store.get_token_epoch(session_id):
            raise _refusal()
        return Caller(
            name=session_id,
            tenant=claims["tenant"],
            scopes=frozenset(map(Scope, claims["scopes"])),
            session_id=session_id,
        )


def _refusal() -> UnauthenticatedError:
    return UnauthenticatedError("the session token is invalid, revoked or expired")
