"""Session tokens: what a browser may hold for one session and a short time (DESIGN 6)."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import json
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

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


@dataclass(frozen=True)
class _SigningKey:
    key_id: str
    secret: bytes

    @classmethod
    def derive(cls, platform_key: str) -> _SigningKey:
        """Of the platform key, so that tokens can never pass for anything else that is derived from it."""
        secret = hmac.digest(platform_key.encode(), _PURPOSE, "sha256")
        return cls(hashlib.sha256(secret).hexdigest()[:8], secret)

    def sign(self, payload: str) -> str:
        return _encode(hmac.digest(self.secret, payload.encode(), "sha256"))


class TokenService:
    """Makes and reads tokens; ``platform_keys`` are the present one and, while it is changed, the one before."""

    def __init__(self, platform_keys: Sequence[str], store: AccessStore, clock: Clock, lifetime: timedelta) -> None:
        self._keys = [_SigningKey.derive(key) for key in platform_keys]
        self._store = store
        self._clock = clock
        self._lifetime = lifetime

    async def issue(self, session_id: SessionId, tenant: str, scopes: Iterable[Scope]) -> SessionToken:
        """Make a token for one session; raises StoreError."""
        epoch = await self._store.get_token_epoch(session_id)
        key = self._keys[0]
        issued_at = self._clock.now().replace(microsecond=0)
        expires_at = issued_at + self._lifetime
        claims = {
            "key": key.key_id,
            "uuid": session_id,
            "tenant": tenant,
            "scopes": sorted(scopes),
            "issued": int(issued_at.timestamp()),
            "expires": int(expires_at.timestamp()),
            "epoch": epoch,
        }
        payload = _encode(json.dumps(claims, separators=(",", ":")).encode())
        return SessionToken(f"{PREFIX}{payload}.{key.sign(payload)}", expires_at, frozenset(scopes))

    async def identify(self, text: str) -> Caller:
        """Return who holds this token; raises UnauthenticatedError and StoreError (nobody knows if it was revoked)."""
        payload, _, signature = text.removeprefix(PREFIX).partition(".")
        if not text.startswith(PREFIX) or len(text) > _LONGEST or not self._is_signed(payload, signature):
            raise _refusal()
        # Signed by us, so it has the form that we gave it.
        claims = json.loads(_decode(payload))
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

    def _is_signed(self, payload: str, signature: str) -> bool:
        return any(hmac.compare_digest(key.sign(payload).encode(), signature.encode()) for key in self._keys)


def _refusal() -> UnauthenticatedError:
    return UnauthenticatedError("the session token is invalid, revoked or expired")


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    try:
        return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
    except (ValueError, binascii.Error):
        raise _refusal() from None
