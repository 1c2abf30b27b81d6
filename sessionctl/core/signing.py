"""Claims that only whoever has the platform key can have written: what tokens and cookies are made of."""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence


@dataclass(frozen=True)
class _SigningKey:
    key_id: str
    secret: bytes

    @classmethod
    def derive(cls, platform_key: str, purpose: bytes) -> _SigningKey:
        """Of the platform key, so that what is signed can never pass for anything else that is derived from it."""
        secret = hmac.digest(platform_key.encode(), purpose, "sha256")
        return cls(hashlib.sha256(secret).hexdigest()[:8], secret)

    def sign(self, payload: str) -> str:
        return _encode(hmac.digest(self.secret, payload.encode(), "sha256"))


class Signer:
    """Signs with the first of ``platform_keys``, and reads what any of them has signed for the same purpose."""

    def __init__(self, platform_keys: Sequence[str], purpose: bytes) -> None:
        self._keys = [_SigningKey.derive(key, purpose) for key in platform_keys]

    def sign(self, claims: Mapping[str, object]) -> str:
        """Return the claims, and which key has signed them, as one text for headers and cookies."""
        key = self._keys[0]
        payload = _encode(json.dumps({"key": key.key_id, **claims}, separators=(",", ":")).encode())
        return f"{payload}.{key.sign(payload)}"

    def read(self, text: str) -> dict[str, Any] | None:
        """Return the claims; None for what no key of ours has signed. They have the form that we gave them."""
        payload, _, signature = text.partition(".")
        if not any(hmac.compare_digest(key.sign(payload).encode(), signature.encode()) for key in self._keys):
            return None
        claims: dict[str, Any] = json.loads(_decode(payload))
        return claims


def _encode(data: bytes) -> str:
    return base64.urlsafe_b64encode(data).rstrip(b"=").decode()


def _decode(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
