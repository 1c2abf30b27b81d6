"""API keys: what they look like, how they are stored, and who holds one."""

from __future__ import annotations

import hashlib
import hmac
import json
import logging
import re
import secrets
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Final

from sessionctl.core.identity import parse_name
from sessionctl.errors import ConfigurationError, InvalidRequestError, UnauthenticatedError
from sessionctl.models import ApiKey, Caller, Scope

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from sessionctl.ports import Clock, KeySource

RELOAD_SECONDS: Final = 2.0

_KEY: Final = re.compile(r"sck_([a-z0-9](?:[-a-z0-9]{0,61}[a-z0-9])?)_[A-Za-z0-9_-]{43}")
_DIGEST: Final = re.compile(r"[0-9a-f]{64}")
_RANDOM_BYTES: Final = 32
_NOBODY: Final = "0" * 64
"""Compared with when there is no such key, so that an unknown id takes as long as a wrong key."""

_log = logging.getLogger(__name__)


def make_key(key_id: str, tenant: str, scopes: Iterable[Scope], expires_at: datetime | None) -> tuple[str, ApiKey]:
    """Return a fresh key, which is nowhere stored, and what is stored of it; raises InvalidRequestError."""
    text = f"sck_{parse_name('key', key_id)}_{secrets.token_urlsafe(_RANDOM_BYTES)}"
    stored = ApiKey(
        key_id=key_id,
        digest=_digest(text),
        tenant=parse_name("tenant", tenant),
        scopes=frozenset(scopes),
        expires_at=expires_at,
    )
    return text, stored


def render_entry(key: ApiKey) -> str:
    """Return the entry of the Secret for a key; its name there is the key's id."""
    entry = {"digest": key.digest, "tenant": key.tenant, "scopes": sorted(key.scopes)}
    if key.expires_at is not None:
        entry["expires_at"] = key.expires_at.isoformat()
    return json.dumps(entry)


def parse_entry(key_id: str, text: str) -> ApiKey:
    """Read an entry of the Secret; raises ValueError, whose text never quotes the entry."""
    try:
        entry = json.loads(text)
    except ValueError:
        raise ValueError("it is not JSON") from None
    if not isinstance(entry, dict) or entry.keys() - {"digest", "tenant", "scopes", "expires_at"}:
        raise ValueError("it is not an object with digest, tenant, scopes and perhaps expires_at")
    digest, tenant, scopes = entry.get("digest"), entry.get("tenant"), entry.get("scopes")
    if not isinstance(digest, str) or not _DIGEST.fullmatch(digest):
        raise ValueError("digest is not a SHA-256 in hex")
    if not isinstance(scopes, list) or not scopes or not all(scope in list(Scope) for scope in scopes):
        raise ValueError(f"scopes is not a list of {', '.join(Scope)}")
    try:
        name, owner = parse_name("key", key_id), parse_name("tenant", str(tenant))
    except InvalidRequestError:
        raise ValueError("its name or its tenant is not 1 to 63 lower-case letters, digits and hyphens") from None
    return ApiKey(name, digest, owner, frozenset(map(Scope, scopes)), _moment(entry.get("expires_at")))


def _moment(value: object) -> datetime | None:
    if value is None:
        return None
    try:
        moment = datetime.fromisoformat(str(value))
    except ValueError:
        raise ValueError("expires_at is not a time of RFC 3339") from None
    return moment if moment.tzinfo else moment.replace(tzinfo=UTC)


def _digest(text: str) -> str:
    return hashlib.sha256(text.encode()).hexdigest()


class KeyRing:
    """The keys that are valid at this moment."""

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._keys: Mapping[str, ApiKey] = {}

    def replace(self, keys: Iterable[ApiKey]) -> None:
        """Take these keys in place of all earlier ones."""
        self._keys = {key.key_id: key for key in keys}

    def identify(self, text: str) -> Caller:
        """Return who holds this key; raises UnauthenticatedError, which does not say what is wrong with it."""
        match = _KEY.fullmatch(text)
        key = self._keys.get(match[1]) if match else None
        matches = hmac.compare_digest(key.digest if key else _NOBODY, _digest(text))
        if key is None or not matches or (key.expires_at is not None and key.expires_at <= self._clock.now()):
            raise UnauthenticatedError("the API key is unknown, revoked or expired")
        return Caller(name=key.key_id, tenant=key.tenant, scopes=key.scopes)


class KeyKeeper:
    """Keeps a ring as its source says."""

    def __init__(self, source: KeySource, ring: KeyRing, clock: Clock) -> None:
        self._source = source
        self._ring = ring
        self._clock = clock
        self._failing = False

    async def load(self) -> None:
        """Read the keys once; raises ConfigurationError."""
        self._ring.replace(await self._source.load())

    async def forever(self) -> None:
        """Read them again and again; while they cannot be read the last ones stay valid."""
        while True:
            await self._clock.sleep(RELOAD_SECONDS)
            try:
                await self.load()
                self._failing = False
            except ConfigurationError as error:
                if not self._failing:
                    _log.warning("the last API keys stay valid: %s", error.message)
                self._failing = True
