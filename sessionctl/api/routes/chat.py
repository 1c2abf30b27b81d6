"""chat, messages, cancel: what is said to a session's agent, and what it replies."""

from __future__ import annotations

import asyncio
from contextlib import asynccontextmanager, suppress
from http import HTTPStatus
from typing import TYPE_CHECKING, Annotated, Any, Final

from fastapi import APIRouter, Path, Query, Request, Response

from sessionctl.api.guard import Given, GuardedRoute, Session, Who, admit, guarded
from sessionctl.api.routes.sessions import IdempotencyKey
from sessionctl.api.sse import EVENTS_CONTENT, MEDIA_TYPE, EventStream, render
from sessionctl.core.reports import chat_reply, conversation
from sessionctl.errors import (
    ConflictError,
    InvalidRequestError,
    KeyReusedError,
    NotFoundError,
    OutcomeUnknownError,
    QueueFullError,
    QuotaExceededError,
    StoreError,
    TooLargeError,
)
from sessionctl.models import Cancellation, Scope
from sessionctl.wire import CancelledChat, ChatReply, ChatRequest, Conversation, MessageId, QueuedChat

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable

    from sessionctl.api.services import Services
    from sessionctl.core.chats import Accepted
    from sessionctl.core.replies import Reply
    from sessionctl.models import StoredEvent

LONGEST_WAIT_SECONDS: Final = 3600
"""What the document says; a manager may allow less (``chat.maxWait``)."""

router = APIRouter(route_class=GuardedRoute, tags=["chat"])


def _chat_answers() -> dict[str, Any]:
    said = guarded(
        Scope.WRITE,
        ConflictError,
        KeyReusedError,
        QueueFullError,
        QuotaExceededError,
        TooLargeError,
        OutcomeUnknownError,
        status=HTTPStatus.ACCEPTED,
    )
    said["responses"][200] = {
        "model": ChatReply,
        "description": "It has ended within `wait`; or, for `Accept: text/event-stream`, its events up to its outcome.",
        "content": EVENTS_CONTENT,
    }
    return said


@router.post("/session/{uuid}/chat", response_model=QueuedChat, **_chat_answers())
async def chat(
    request: Request,
    services: Given,
    who: Who,
    session_id: Session,
    body: ChatRequest,
    idempotency_key: IdempotencyKey = None,
    wait: Annotated[
        int | None,
        Query(
            ge=1,
            le=LONGEST_WAIT_SECONDS,
            description="Seconds to wait for the reply, `chat.maxWait` at most; without it in time the answer is 202.",
        ),
    ] = None,
) -> QueuedChat | Response:
    """Store a message for the session's agent and wake the session; the reply is waited for or streamed if wished."""
    streamed = _wants_stream(request)
    services.chats.check(body.message)
    if wait is not None:
        _check_wait(services, wait, streamed=streamed)

    async def accept() -> Accepted:
        return await services.chats.accept(session_id, body.message, who.caller.tenant, idempotency_key)

    if streamed:
        return message_stream(request, services, Scope.WRITE, accept, None)
    if wait is None:
        return QueuedChat(uuid=session_id, message_id=(await accept()).message_id)
    # As a stream does, it holds a socket and listens: it has a place before anything is stored.
    with services.streams.place(who.caller.name):
        accepted = await accept()
        reply = await _wait(services, accepted, wait)
    if reply is None:
        return QueuedChat(uuid=session_id, message_id=accepted.message_id)
    answer = chat_reply(session_id, reply)
    return Response(answer.model_dump_json(exclude_none=True), HTTPStatus.OK, media_type="application/json")


def _wants_stream(request: Request) -> bool:
    ranges = (each.partition(";") for each in request.headers.get("accept", "").split(","))
    return any(kind.strip().lower() == MEDIA_TYPE and "q=0" not in rest.split(";") for kind, _, rest in ranges)


def _check_wait(services: Services, wait: int, *, streamed: bool) -> None:
    longest = services.settings.chat.max_wait.total_seconds()
    if wait > longest:
        raise InvalidRequestError(f"should be {longest:g} at most; ask again with the same key", field="wait")
    if streamed:
        raise InvalidRequestError("a stream waits by itself", field="wait")


async def _wait(services: Services, accepted: Accepted, seconds: int) -> Reply | None:
    """Return the reply; None when it does not come in time, or the process ends before, or Redis is lost.

    The message is stored in any case: an error would have it sent again.
    """
    waiting = asyncio.create_task(services.chats.wait(accepted))
    ended = asyncio.create_task(services.life.ending.wait())
    try:
        await asyncio.wait((waiting, ended), timeout=seconds, return_when=asyncio.FIRST_COMPLETED)
        with suppress(StoreError):
            return waiting.result() if waiting.done() else None
        return None
    finally:
        for task in (waiting, ended):
            task.cancel()
        await asyncio.gather(waiting, ended, return_exceptions=True)


def message_stream(
    request: Request, services: Services, scope: Scope, accept: Callable[[], Awaitable[Accepted]], after: str | None
) -> EventStream[StoredEvent]:
    """Return the events of one message as an answer; what ``accept`` raises is the answer instead."""
    found: list[Accepted] = []
    over: list[str] = []

    @asynccontextmanager
    async def source() -> AsyncGenerator[AsyncIterator[StoredEvent], None]:
        accepted = await accept()
        found.append(accepted)
        try:
            async with services.chats.follow(accepted, after) as events:
                yield events
        except StoreError as error:
            msg = f"the message is stored, and cannot be followed: {error.message}"
            raise OutcomeUnknownError(msg, hint=error.hint) from error

    async def still_allowed() -> None:
        await admit(request, scope)
        for accepted in found:
            # A Redis that was lost has taken the message with it: its outcome would never come.
            known = await services.chats.find(accepted.session_id, accepted.message_id)
            if accepted.outcome is None and known.outcome is not None:
                if over:
                    # Its end is kept no longer where this stream stands. Whoever asks again is told it.
                    raise NotFoundError(f"the end of message {accepted.message_id} is not among the events any more")
                over.append(accepted.message_id)

    return EventStream(
        source=source,
        render=render,
        streams=services.streams,
        caller=request.state.caller,
        still_allowed=still_allowed,
        ending=services.life.ending,
    )


@router.get("/session/{uuid}/messages", **guarded(Scope.READ))
async def messages(
    services: Given,
    session_id: Session,
    cursor: Annotated[
        MessageId | None, Query(description="Of the page before; this one has what came before it.")
    ] = None,
    limit: Annotated[int, Query(ge=1, le=100)] = 100,
) -> Conversation:
    """Show the newest messages, oldest first: all of them while the workspace is awake, else what Redis holds."""
    return conversation(session_id, await services.chats.conversations.read(session_id, cursor, limit))


def _cancel_answers() -> dict[str, Any]:
    said = guarded(Scope.WRITE, ConflictError, OutcomeUnknownError)
    said["responses"][202] = {"model": CancelledChat, "description": "Its agent has been told, and will end it."}
    return said


@router.delete("/session/{uuid}/messages/{message_id}", **_cancel_answers())
async def cancel(
    services: Given, session_id: Session, message_id: Annotated[MessageId, Path()], response: Response
) -> CancelledChat:
    """Cancel a message that waits or runs; its outcome is one of its events."""
    done = await services.chats.cancel(session_id, message_id)
    if done is Cancellation.CANCELLING:
        response.status_code = HTTPStatus.ACCEPTED
        return CancelledChat(uuid=session_id, status="cancelling", message_id=message_id)
    return CancelledChat(uuid=session_id, status="cancelled", message_id=message_id)
