"""Pages of sessions: in the order of their creation, so that a cursor survives whatever comes and goes meanwhile."""

from __future__ import annotations

import base64
import binascii
from datetime import datetime
from typing import TYPE_CHECKING, Final

from sessionctl.errors import InvalidRequestError
from sessionctl.labels import SESSION_ID

if TYPE_CHECKING:
    from sessionctl.models import Owner, SessionId

LONGEST_CURSOR: Final = 200

Position = tuple[datetime, str]


def position(session_id: SessionId, owner: Owner) -> Position:
    """Return the place of a session in the order of all."""
    return owner.created_at, session_id


def cursor_after(place: Position) -> str:
    """Return the opaque text that leads to what comes after a place."""
    created_at, session_id = place
    return base64.urlsafe_b64encode(f"{created_at.isoformat()} {session_id}".encode()).rstrip(b"=").decode()


def parse_cursor(cursor: str) -> Position:
    """Read a cursor; raises InvalidRequestError for what is none of ours."""
    try:
        if len(cursor) > LONGEST_CURSOR:
            raise ValueError(cursor)  # noqa: TRY301 - one answer to whatever is wrong
        padded = cursor.encode("ascii") + b"=" * (-len(cursor) % 4)
        text = base64.b64decode(padded, altchars=b"-_", validate=True).decode("ascii")
        created_at, _, session_id = text.partition(" ")
        moment = datetime.fromisoformat(created_at)
        if moment.tzinfo is None or not SESSION_ID.fullmatch(session_id):
            raise ValueError(text)  # noqa: TRY301
    except (ValueError, binascii.Error):
        msg = "the cursor is not one that a list gave"
        raise InvalidRequestError(msg, hint="Begin with the first page: leave it out.") from None
    return moment, session_id
