"""Words that all other models use."""

from __future__ import annotations

from dataclasses import dataclass
from enum import StrEnum
from typing import TYPE_CHECKING, NewType

if TYPE_CHECKING:
    from datetime import datetime

SessionId = NewType("SessionId", str)
"""A canonical lower-case RFC 4122 version 4 UUID; made by ``core.identity`` only."""

JsonValue = None | bool | int | float | str | list["JsonValue"] | dict[str, "JsonValue"]
"""Whatever JSON can hold: chart values and API objects on their way through."""

JsonObject = dict[str, JsonValue]


class SessionStatus(StrEnum):
    """The life cycle of a session as users see it (DESIGN 6)."""

    CREATED = "created"
    WAKING = "waking"
    ACTIVE = "active"
    SLEEPING = "sleeping"
    FAILED = "failed"
    DELETING = "deleting"
    DELETED = "deleted"


@dataclass(frozen=True, slots=True)
class Owner:
    """Whose session it is and of which profile; kept on the Deployment and on the volume."""

    user_id: str
    tenant: str
    profile: str
    created_at: datetime
