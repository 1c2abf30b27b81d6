"""The shapes that leave us: the CLI's JSON and YAML, the HTTP API (DESIGN 6), the agent's protocol (DESIGN 7)."""

from __future__ import annotations

from datetime import datetime
from typing import Annotated, Final, Literal, TypedDict

from pydantic import BaseModel, ConfigDict, Field, JsonValue, RootModel

from sessionctl.labels import MESSAGE_ID
from sessionctl.models import EventKind, HolderKind, MessageOutcome, Scope, SessionStatus


class _Shape(BaseModel):
    # Built at first use: a command pays only for the shape it prints.
    model_config = ConfigDict(frozen=True, extra="forbid", defer_build=True)


class _Body(_Shape):
    # Built at once: FastAPI builds its adapters from it, and silences what Pydantic says of them only then.
    model_config = ConfigDict(defer_build=False)


class CreatedSession(TypedDict):
    """Answer of create: a plain mapping, for which Pydantic need not be loaded (docs/decisions/0007)."""

    uuid: str
    user_id: str
    status: str
    created_at: str
    """RFC 3339, UTC."""
    url: str


class CreatedReport(_Shape):
    """The same for whoever has Pydantic anyway: it cannot read a TypedDict before Python 3.12."""

    uuid: str
    user_id: str
    status: Literal["created"]
    created_at: datetime
    url: str


class CreateRequest(_Body):
    """Body of ``POST /session/create``."""

    user_id: str = Field(min_length=1, max_length=256)
    profile: str = "default"
    tenant: str | None = None
    """Only to be sure: another one than the key's is refused."""


class PortalLogin(_Body):
    """Body of ``POST /portal/login``."""

    name: str = Field(min_length=1)


class PortalVisit(_Shape):
    """Answer of the demo portal's login: the session of a name, and what its page needs to use it."""

    name: str
    uuid: str
    token: str
    """Session token for reading and writing."""
    expires_at: datetime
    editor_url: str


class ChatRequest(_Body):
    """Body of ``POST /session/{uuid}/chat``."""

    message: str = Field(min_length=1)


class AccessRequest(_Body):
    """Body of ``POST /session/{uuid}/access``, which may be left out."""

    state: str | None = Field(default=None, pattern=r"^[A-Za-z0-9_-]{16,128}$")
    """Of the browser that the address is for, as the editor's host has given it to ``editor.loginUrl``."""


class QueuedChat(_Shape):
    """Answer of chat: the message is stored, and its session awake or about to be."""

    uuid: str
    action: Literal["chat"] = "chat"
    status: Literal["queued"] = "queued"
    message_id: str


class ChatReply(_Shape):
    """Answer of chat with ``wait``: the message has ended in time; ``status`` is its outcome."""

    uuid: str
    action: Literal["chat"] = "chat"
    status: MessageOutcome
    message_id: str
    reply: str
    reason: str | None = None
    partial: bool = False
    """A part of the reply is missing: it is not kept in Redis any more, or longer than what is held for whoever waits;
    an awake workspace has it in its conversation."""


class CancelledChat(_Shape):
    """Answer of cancel: ``cancelled``, or ``cancelling`` while its agent ends it."""

    uuid: str
    action: Literal["cancel"] = "cancel"
    status: Literal["cancelled", "cancelling"]
    message_id: str


class Event(_Shape):
    """What happened to a session; ``data`` of one server-sent event, whose ``id`` and ``event`` are these fields."""

    id: str
    event: EventKind
    uuid: str
    at: datetime
    detail: str = ""
    message_id: str | None = None
    outcome: MessageOutcome | None = None
    text: str | None = None
    """The message that was queued, or a piece of its reply."""
    attempt: int | None = None
    """Of a piece of a reply; those of a later attempt replace those of earlier ones. Of the end: of the last piece."""
    first_seq: int | None = None
    """One more than ``seq`` of the piece before it (1 in each attempt's first); otherwise pieces are missing."""
    seq: int | None = None
    """The last line in the piece; of the end: in the last piece, which whoever has not seen it lacks."""
    partial: bool | None = None
    """Of the end: nothing that came before it is kept, and whoever has not seen it lacks a part of the reply."""

    def lacks(self, attempt: int, seq: int) -> bool:
        """Whether an end tells of more than has come, if this was the last line of the last attempt that has."""
        return bool(self.partial) or (self.seq is not None and (self.attempt, self.seq) != (attempt, seq))


class ChatMessage(_Shape):
    """One message of a conversation; ``status`` is queued, running, or how it ended."""

    message_id: str
    message: str
    status: Literal["queued", "running", "done", "failed", "interrupted", "cancelled"]
    reply: str | None = None
    reason: str | None = None
    at: datetime | None = None


class Conversation(_Shape):
    """Answer of messages, oldest first; ``cursor`` leads to what comes before.

    ``partial`` says that only what Redis holds is shown, because the workspace sleeps or does not answer.
    """

    uuid: str
    messages: tuple[ChatMessage, ...]
    partial: bool
    cursor: str | None = None


class Holder(_Shape):
    """One reason why a session is awake."""

    kind: HolderKind
    detail: str
    until: datetime | None = None
    """When it ends by itself, if nothing else happens."""


class Why(_Shape):
    """Answer of why: what holds a session awake, when it will sleep, why it does not start, which limits apply."""

    uuid: str
    status: SessionStatus
    reason: str | None
    awake: bool
    held_by: tuple[Holder, ...]
    sleeps_at: datetime | None
    """When it goes to sleep if nothing else happens; None where that is not known or not so."""
    expires_at: datetime | None
    """When ``sessions.maxLifetime`` ends."""
    deleted_for_good_at: datetime | None
    limits: tuple[str, ...]
    """Sentences: limits that have been reached or will be."""
    timestamp: datetime


class Access(_Shape):
    """Answer of access: a one-time address of the editor, and a token for this session alone."""

    uuid: str
    url: str
    url_expires_at: datetime
    token: str
    expires_at: datetime
    scopes: tuple[Scope, ...]


class Action(_Shape):
    """Answer of a verb that changes one session."""

    uuid: str
    action: Literal["wake", "sleep", "delete", "restore"]
    status: str
    notice: str | None = None


class SessionBody(_Shape):
    """What is known of a session itself."""

    user_id: str
    tenant: str
    profile: str
    status: SessionStatus
    reason: str | None
    url: str
    created_at: datetime
    last_active: datetime | None
    deleted_at: datetime | None
    restorable_until: datetime | None


class SessionReport(_Shape):
    """Answer of status, and a row of list.

    ``queue_length`` counts waiting messages and a wake that is not met yet, never the keep-awake entry of a running
    pod; None when Redis did not answer or was not asked. ``replicas`` is what is wanted, ``ready_replicas`` what is.
    """

    uuid: str
    session: SessionBody
    queue_length: int | None
    replicas: int
    ready_replicas: int
    timestamp: datetime
    notices: tuple[str, ...] = ()


class SessionList(_Shape):
    """Answer of list."""

    sessions: tuple[SessionReport, ...]
    cursor: str | None = None
    """Give it back to get the next page; None on the last one."""


class ApiKeyInfo(_Shape):
    """An API key, without the key."""

    id: str
    tenant: str
    scopes: tuple[Scope, ...]
    expires_at: datetime | None


class CreatedApiKey(ApiKeyInfo):
    """Answer of apikey create: the only time that the key is shown."""

    key: str


class ApiKeyList(_Shape):
    """Answer of apikey list; ``broken`` are the ids of entries that managers cannot read."""

    keys: tuple[ApiKeyInfo, ...]
    broken: tuple[str, ...]


class Health(_Shape):
    """Answer of readyz; ``dependencies`` only when asked for: one that is down takes nothing away by itself."""

    status: Literal["starting", "ready", "draining"]
    dependencies: dict[str, bool] | None = None


class SweepResult(_Shape):
    """Answer of one sweep: the sessions put to sleep, adopted, kept, refused, woken, or given up (failed)."""

    gate: Literal["open", "closed"]
    slept: tuple[str, ...]
    adopted: tuple[str, ...]
    kept: tuple[str, ...]
    refused: tuple[str, ...]
    woken: tuple[str, ...]
    failed: tuple[str, ...]


class Repair(_Shape):
    """One session that was not whole."""

    uuid: str
    repair: str
    error: str | None


class ReconcileResult(_Shape):
    """Answer of reconcile."""

    dry_run: bool
    repairs: tuple[Repair, ...]


class RenderedValues(RootModel[dict[str, JsonValue]]):
    """Answer of template: the chart values of a session, without its secret."""


class VersionInfo(_Shape):
    """Answer of version; the session chart has the version of sessionctl itself."""

    sessionctl: str
    helm: str | None
    platform: str | None


class AgentActivity(BaseModel):
    """Answer of the agent's ``GET /v1/activity``: ages in seconds, never timestamps (DESIGN 5).

    None means there is none; fields of a newer agent are ignored.
    """

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    message_running: bool = False
    hold: float | None = None
    """How long the last ``hold`` that began has lasted: a forgotten one takes no limit away from a new one."""
    editor_input: float | None = None
    """How long ago somebody typed."""
    editor_connected: float | None = None
    """How long the newest editor connection that lasts has been there."""


MAX_LINE_BYTES: Final = 64 * 1024
"""No line of an agent's answer is longer, its newline included."""

MessageId = Annotated[str, Field(pattern=f"^{MESSAGE_ID.pattern}$")]


class MessageRequest(_Shape):
    """``POST /v1/messages`` of the agent; the same id again asks for the same answer (DESIGN 7)."""

    id: MessageId
    message: str = Field(min_length=1)
    user_id: str = Field(min_length=1, max_length=256)


class MessageResume(_Shape):
    """Query of ``POST /v1/messages``: the answer is wanted from line ``from_seq`` if ``attempt`` is still the last."""

    from_seq: int = Field(default=1, ge=1)
    attempt: int = Field(default=1, ge=1)
    begun: bool = False
    """The caller knows that it was begun: an agent without a trace of it has lost its files, and must not begin it."""


class CancelRequest(_Shape):
    """Path of ``DELETE /v1/messages/<id>`` of the agent."""

    id: MessageId


class MessageEnded(_Shape):
    """Answer of ``DELETE /v1/messages/<id>`` of the agent: how the message ended, which is recorded."""

    id: str
    outcome: MessageOutcome
    reason: str | None = None


class ConversationQuery(_Shape):
    """Query of ``GET /v1/conversation`` of the agent."""

    before: MessageId | None = None
    """The oldest message that is known already."""
    limit: int = Field(default=50, ge=1, le=200)


class AgentConversation(BaseModel):
    """Answer of the agent's ``GET /v1/conversation``: the newest messages before ``before``, oldest first."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    messages: tuple[AgentConversationEntry, ...]
    more: bool
    """Whether there are older ones."""


class AgentConversationEntry(BaseModel):
    """One message and its reply; ``outcome`` is None while it runs."""

    model_config = ConfigDict(frozen=True, extra="ignore", defer_build=True)

    id: str
    message: str
    reply: str
    outcome: MessageOutcome | None = None
    reason: str | None = None
    at: datetime
    cut: bool = False
    """Whether one of the texts is longer than a page has room for, and ends early."""


class MessageDelta(_Shape):
    """A line of the agent's answer: the next piece of the reply.

    ``seq`` counts the lines of one attempt from 1. A line of a later attempt replaces all lines of earlier ones.
    """

    seq: int
    attempt: int
    delta: str


class MessageEnd(_Shape):
    """The last line of the agent's answer; an answer without it was cut off and may be asked for again."""

    seq: int
    attempt: int
    outcome: MessageOutcome
    reason: str | None = None


class FieldProblem(_Shape):
    """What is wrong with one field of a request; ``field`` is its path, empty for the request as a whole."""

    field: str
    message: str


class Problem(_Shape):
    """Every error answer, as ``application/problem+json`` (RFC 9457); ``code`` is stable."""

    type: str = "about:blank"
    title: str
    status: int
    code: str
    detail: str
    errors: tuple[FieldProblem, ...] = ()
