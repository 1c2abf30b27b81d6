"""Who and which: user ids, tenants, session ids, and the token an agent is known by."""

from __future__ import annotations

import hmac
import re
import unicodedata
import uuid
from typing import Final

from sessionctl.errors import InvalidRequestError
from sessionctl.labels import MESSAGE_ID, SESSION_ID
from sessionctl.models import SessionId

MAX_USER_ID_LENGTH: Final = 256
_NAME: Final = re.compile(r"[a-z0-9]([-a-z0-9]{0,61}[a-z0-9])?")


def new_session_id() -> SessionId:
    """Return a fresh random session id."""
    return SessionId(str(uuid.uuid4()))


def parse_session_id(text: str) -> SessionId:
    """Accept a canonical lower-case version 4 UUID (RFC 4122); raises InvalidRequestError."""
    if not SESSION_ID.fullmatch(text):
        msg = f"{text[:80]!r} is not a session id"
        raise InvalidRequestError(msg, hint="A session id is a lower-case UUID of version 4; see: sessionctl list")
    return SessionId(text)


def parse_message_id(text: str) -> str:
    """Accept what can be the id of a message; raises InvalidRequestError."""
    if not MESSAGE_ID.fullmatch(text):
        msg = f"{text[:80]!r} is not the id of a message"
        raise InvalidRequestError(msg, hint="See: sessionctl messages UUID")
    return text


def parse_user_id(text: str) -> str:
    """Accept 1 to 256 characters without control characters, kept byte for byte; raises InvalidRequestError."""
    if not text:
        msg = "the user id is empty"
        raise InvalidRequestError(msg, hint="Give the id your product knows the user by.")
    if len(text) > MAX_USER_ID_LENGTH:
        msg = f"the user id has {len(text)} characters, more than {MAX_USER_ID_LENGTH}"
        raise InvalidRequestError(msg, hint="Give a shorter id, for example its hash.")
    for character in text:
        # Cc: control characters; Cs: bytes of the command line that are not UTF-8, or half of a surrogate pair.
        if unicodedata.category(character) in {"Cc", "Cs"}:
            msg = f"the user id holds the control or broken character U+{ord(character):04X}"
            raise InvalidRequestError(msg, hint="Remove it; everything else is kept as it is.")
    return text


def parse_name(kind: str, text: str) -> str:
    """Accept a tenant's or profile's name, which becomes a label value; raises InvalidRequestError."""
    if not _NAME.fullmatch(text):
        msg = f"{text[:80]!r} is not a name for a {kind}"
        raise InvalidRequestError(msg, hint="Use 1 to 63 lower-case letters, digits and hyphens.")
    return text


def agent_token(platform_key: str, session_id: SessionId) -> str:
    """Return the token of a session's agent: of this session only, and the same after every upgrade (DESIGN 3)."""
    return hmac.digest(platform_key.encode(), f"agent:{session_id}".encode(), "sha256").hex()
