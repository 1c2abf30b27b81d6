"""events: what happens to a session, as it happens."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response

from sessionctl.api.guard import Given, GuardedRoute, Session, Who, admit, guarded
from sessionctl.api.sse import MEDIA_TYPE, EventStream, render
from sessionctl.core.history import read_history
from sessionctl.models import Scope

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])

_ANSWER: Final = {
    "description": "Server-sent events: `id` and `event` are fields of `data`, which is an Event.",
    "content": {MEDIA_TYPE: {"schema": {"type": "string"}}},
}
LastEventId = Annotated[
    str | None,
    Header(
        alias="Last-Event-ID",
        max_length=40,
        pattern=r"^[0-9]{1,18}(-[0-9]{1,18})?$",
        description="Go on after this event; without it the stream begins with the oldest there is.",
    ),
]


def _documented() -> dict[str, Any]:
    said = guarded(Scope.READ)
    said["responses"][200] = _ANSWER
    return said


@router.get("/session/{uuid}/events", response_class=Response, **_documented())
async def events(
    request: Request,
    services: Given,
    who: Who,
    session_id: Session,
    last_event_id: LastEventId = None,
    follow: Annotated[bool, Query(description="Stay for what happens; otherwise it ends with what is there.")] = True,
) -> Response:
    """Follow a session: its history, then what happens. Comments come while nothing happens."""
    if not follow:
        kept = [render(stored) async for stored in read_history(services.store, session_id, last_event_id)]
        return Response(b"".join(kept), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})

    async def still_allowed() -> None:
        await admit(request, Scope.READ)

    return EventStream(
        hub=services.hub,
        streams=services.streams,
        caller=who.caller.name,
        session_id=session_id,
        after=last_event_id,
        still_allowed=still_allowed,
        ending=services.life.ending,
    )
