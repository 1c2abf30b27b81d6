"""``SessionClient``: a method for each call of the Session API."""

from __future__ import annotations

from typing import TYPE_CHECKING, Self

from pydantic import BaseModel

from sessionctl.client.calls import idempotent, session_path
from sessionctl.client.chats import ChatCalls
from sessionctl.client.retries import Patience
from sessionctl.client.transport import Transport
from sessionctl.wire import Access, Action, CreatedReport, SessionList, SessionReport, Why

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable
    from types import TracebackType

    import httpx
    from pydantic import JsonValue

    from sessionctl.models import SessionStatus


class _Info(BaseModel):
    version: str


class _Document(BaseModel):
    """As much of an OpenAPI document as is wanted here."""

    info: _Info


def _ignore(_: str) -> None:
    """Progress that nobody watches."""


class SessionClient(ChatCalls):
    """The sessions of one tenant, through the Session API; open it with ``async with``.

    A call that gets no answer, or is asked to come back later, is repeated while ``patience.retry`` lasts. That is safe
    for each of them: create and chat carry an idempotency key, made once per call, and the others may be done twice.

    Every call raises the errors of ``sessionctl.errors``: what the server says by its ``code``, ApiError when there is
    no answer or it is not the Session API's, DeadlineExceededError after ``patience.total``. Fields that only a newer
    server knows are ignored.
    """

    def __init__(
        self,
        url: str,
        api_key: str,
        *,
        patience: Patience | None = None,
        report: Callable[[str], None] = _ignore,
        transport: httpx.AsyncBaseTransport | None = None,
    ) -> None:
        """Make a client; raises InvalidRequestError for a URL or key that cannot be one.

        Args:
            url: Of the API, with the path before ``/session`` if there is one.
            api_key: As ``sessionctl apikey create`` printed it; surrounding white space is left out.
            patience: How long to wait for what.
            report: Called with a sentence before a call is repeated.
            transport: Instead of the network, for tests.
        """
        super().__init__(Transport(url, api_key, patience or Patience(), report, transport))

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._transport.aclose()

    async def create(
        self,
        user_id: str,
        *,
        profile: str = "default",
        tenant: str | None = None,
        idempotency_key: str | None = None,
    ) -> CreatedReport:
        """Create a session, asleep; a ``tenant`` that is not the key's own is refused.

        With an ``idempotency_key`` of your own the call may be repeated by another process too, and makes one session.
        """
        body: dict[str, JsonValue] = {"user_id": user_id, "profile": profile}
        if tenant is not None:
            body["tenant"] = tenant
        answer = await self._transport.call("POST", "/session/create", body=body, headers=idempotent(idempotency_key))
        return self._read(CreatedReport, answer)

    async def wake(self, session_id: str) -> Action:
        """Wake a session, or count it as used now; its pod is not waited for."""
        return self._read(Action, await self._transport.call("POST", session_path(session_id, "wake")))

    async def status(self, session_id: str) -> SessionReport:
        """Show one session."""
        return self._read(SessionReport, await self._transport.call("GET", session_path(session_id, "status")))

    async def sleep(self, session_id: str, *, force: bool = False) -> Action:
        """Put a session to sleep now; ConflictError while a message waits or runs, unless ``force`` cancels it."""
        params = {"force": "true"} if force else {}
        return self._read(Action, await self._transport.call("POST", session_path(session_id, "sleep"), params=params))

    async def delete(self, session_id: str, *, purge: bool = False) -> Action:
        """Delete a session; its files are kept for the retention time unless ``purge``."""
        params = {"purge": "true"} if purge else {}
        return self._read(Action, await self._transport.call("DELETE", session_path(session_id), params=params))

    async def restore(self, session_id: str) -> Action:
        """Undo a delete within the retention time."""
        return self._read(Action, await self._transport.call("POST", session_path(session_id, "restore")))

    async def list(
        self, *, user_id: str | None = None, status: SessionStatus | None = None, tenant: str | None = None
    ) -> AsyncGenerator[SessionReport, None]:
        """Yield sessions, oldest first, page after page; those deleted only when asked for by their status.

        A ``tenant`` that is not the key's own is refused.
        """
        wanted = {"user_id": user_id, "status": status, "tenant": tenant}
        params = {name: value for name, value in wanted.items() if value is not None}
        while True:
            page = self._read(SessionList, await self._transport.call("GET", "/sessions", params=params))
            for row in page.sessions:
                yield row
            if page.cursor is None:
                return
            params |= {"cursor": page.cursor}

    async def why(self, session_id: str) -> Why:
        """Show what holds a session awake, when it will sleep, why it does not start."""
        return self._read(Why, await self._transport.call("GET", session_path(session_id, "why")))

    async def access(self, session_id: str, *, state: str | None = None) -> Access:
        """Make a one-time address of the editor and a token for this session alone; a repeated call makes another.

        ``state`` names the browser that the address is for: the editor's host gives it to your ``editor.loginUrl``.
        """
        body = None if state is None else {"state": state}
        return self._read(Access, await self._transport.call("POST", session_path(session_id, "access"), body=body))

    async def revoke_access(self, session_id: str) -> None:
        """Make every token of the session invalid."""
        await self._transport.call("DELETE", session_path(session_id, "access"))

    async def server_version(self) -> str:
        """Return the version of the session manager, which is that of its platform release."""
        return self._read(_Document, await self._transport.call("GET", "/openapi.json")).info.version
