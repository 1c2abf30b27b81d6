"""events: what happens to a session, as it happens."""

from __future__ import annotations

from typing import Annotated, Any, Final

from fastapi import APIRouter, Header, Query, Request, Response

from sessionctl.api.guard import Given, GuardedRoute, Session, admit, guarded
from sessionctl.api.routes.chat import message_stream
from sessionctl.api.sse import EVENTS_CONTENT, MEDIA_TYPE, EventStream, render
from sessionctl.core.history import read_history
from sessionctl.models import Scope
from sessionctl.wire import MessageId

router = APIRouter(route_class=GuardedRoute, tags=["sessions"])

_ANSWER: Final = {
    "description": "Server-sent events: `id` and `event` are fields of `data`, which is an Event.",
    "content": EVENTS_CONTENT,
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
    session_id: Session,
    last_event_id: LastEventId = None,
    follow: Annotated[bool, Query(description="Stay for what happens; otherwise it ends with what is there.")] = True,
    message_id: Annotated[
        MessageId | None, Query(description="Only what happens to this message; the stream ends with its outcome.")
    ] = None,
) -> Response:
    """Follow a session: its history, then what happens. Comments come while nothing happens."""
    if message_id is not None:
        return message_stream(
            request, services, Scope.READ, lambda: services.chats.find(session_id, message_id), last_event_id
        )
    if not follow:
        kept = [render(stored) async for stored in read_history(services.store, session_id, last_event_id)]
        return Response(b"".join(kept), media_type=MEDIA_TYPE, headers={"Cache-Control": "no-store"})
    return EventStream(
        source=lambda: services.hub.listen(session_id, last_event_id),
        render=render,
        streams=services.streams,
        caller=request.state.caller,
        still_allowed=lambda: admit(request, Scope.READ),
        ending=services.life.ending,
    )
