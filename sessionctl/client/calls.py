"""What all calls of the SDK share."""

from __future__ import annotations

import uuid
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from sessionctl.client.transport import WRONG_URL
from sessionctl.errors import ApiError, InvalidRequestError
from sessionctl.labels import SESSION_ID

if TYPE_CHECKING:
    from sessionctl.client.transport import Transport

Shape = TypeVar("Shape", bound=BaseModel)


class Calls:
    """A transport, and typed reading of what comes through it."""

    def __init__(self, transport: Transport) -> None:
        self._transport = transport

    @property
    def address(self) -> str:
        """The API's URL without credentials."""
        return self._transport.address

    def _read(self, shape: type[Shape], answer: bytes) -> Shape:
        try:
            return shape.model_validate_json(answer, extra="ignore")
        except ValidationError as error:
            place = ".".join(str(part) for part in error.errors()[0]["loc"])
            msg = f"{self.address} answered what this version does not understand ({shape.__name__}: {place})"
            raise ApiError(msg, hint=f"Upgrade sessionctl to the server's version. {WRONG_URL}") from error


def session_path(session_id: str, *rest: str) -> str:
    """Return the path of a call about one session; raises InvalidRequestError for what is no session id."""
    if not SESSION_ID.fullmatch(session_id):
        msg = f"{session_id[:80]!r} is not a session id"
        raise InvalidRequestError(msg, hint="A session id is a lower-case UUID of version 4.")
    return "/".join(("/session", session_id, *rest))


def idempotent(key: str | None) -> dict[str, str]:
    """Return the header under which a request is done once, however often it is sent."""
    return {"Idempotency-Key": key if key is not None else str(uuid.uuid4())}
