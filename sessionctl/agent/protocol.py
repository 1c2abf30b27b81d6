"""Requests and answers in the shapes of ``wire``.

The one module here that needs Pydantic, which takes as long to load as the server itself: it is loaded when the agent
is ready, while the message that woke the session is still on its way.
"""

from __future__ import annotations

from dataclasses import asdict
from datetime import datetime
from typing import TYPE_CHECKING, TypeVar

from pydantic import BaseModel, ValidationError

from sessionctl.agent.activity import Ages
from sessionctl.errors import InvalidRequestError
from sessionctl.wire import (
    AgentActivity,
    AgentConversation,
    AgentConversationEntry,
    CancelRequest,
    ConversationQuery,
    FieldProblem,
    MessageEnded,
    MessageRequest,
    MessageResume,
    Problem,
)

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping
    from http import HTTPStatus

    from sessionctl.agent.pages import Page
    from sessionctl.agent.records import Recorded

Shape = TypeVar("Shape", bound=BaseModel)


class InvalidFieldsError(InvalidRequestError):
    """The request has fields that cannot be accepted."""

    def __init__(self, fields: tuple[FieldProblem, ...]) -> None:
        super().__init__("the request is not valid")
        self.fields = fields


def parse_message(body: bytes) -> MessageRequest:
    """Read the body of a message; raises InvalidFieldsError."""
    return _parse(lambda: MessageRequest.model_validate_json(body))


def parse_resume(query: Mapping[str, str]) -> MessageResume:
    """Read the query of a message; raises InvalidFieldsError."""
    return _parse(lambda: MessageResume.model_validate(dict(query)))


def parse_cancel(message_id: str) -> CancelRequest:
    """Read the path of a cancel; raises InvalidFieldsError."""
    return _parse(lambda: CancelRequest.model_validate({"id": message_id}))


def parse_page(query: Mapping[str, str]) -> ConversationQuery:
    """Read the query of the conversation; raises InvalidFieldsError."""
    return _parse(lambda: ConversationQuery.model_validate(dict(query)))


def ended(recorded: Recorded) -> str:
    """Return the answer about how a message ended."""
    assert recorded.outcome is not None  # noqa: S101 - the runner answers with nothing else
    return MessageEnded(id=recorded.start.id, outcome=recorded.outcome, reason=recorded.reason).model_dump_json(
        exclude_none=True
    )


def conversation(page: Page) -> str:
    """Return a page of the conversation."""
    entries = (
        AgentConversationEntry.model_validate(asdict(turn) | {"at": datetime.fromisoformat(turn.at)})
        for turn in page.turns
    )
    return AgentConversation(messages=tuple(entries), more=page.more).model_dump_json()


def activity(*, message_running: bool, ages: Ages) -> str:
    """Return the answer about what goes on."""
    return AgentActivity(message_running=message_running, **asdict(ages)).model_dump_json()


def problem(status: HTTPStatus, code: str, detail: str, error: Exception | None = None) -> str:
    """Return an error answer."""
    fields = error.fields if isinstance(error, InvalidFieldsError) else ()
    return Problem(title=status.phrase, status=status, code=code, detail=detail, errors=fields).model_dump_json()


def warm_up() -> None:
    """Do once what is slow the first time."""
    parse_message(b'{"id":"x","message":"x","user_id":"x"}')
    parse_resume({})
    activity(message_running=False, ages=Ages())


def _parse(read: Callable[[], Shape]) -> Shape:
    try:
        return read()
    except ValidationError as error:
        fields = (FieldProblem(field=".".join(map(str, e["loc"])), message=e["msg"]) for e in error.errors())
        raise InvalidFieldsError(tuple(fields)) from error
