"""The demo portal: whoever gives a name is that user of the tenant ``demo``, and has one session."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.core.demand import unknown_session
from sessionctl.core.identity import new_session_id, parse_user_id
from sessionctl.core.sessions import NewSession
from sessionctl.errors import ConflictError, InProgressError, InvalidRequestError, QuotaExceededError
from sessionctl.labels import user_hash
from sessionctl.models import Caller, Scope, SessionId, SessionStatus

if TYPE_CHECKING:
    from collections.abc import Callable
    from contextlib import AbstractAsyncContextManager

    from sessionctl.core.admission import Tenancy
    from sessionctl.core.idempotency import Idempotency
    from sessionctl.core.sessions import SessionService
    from sessionctl.core.throttle import Throttle
    from sessionctl.core.views import ViewService
    from sessionctl.models import Owner
    from sessionctl.ports import RecordStore

TENANT: Final = "demo"
LONGEST_NAME: Final = 64
PROFILE: Final = "default"
VISITOR: Final = Caller("portal", TENANT, frozenset({Scope.READ, Scope.WRITE, Scope.ACCESS}))
"""Whom everybody at the portal is taken for: together they may ask as often as one key."""
VISIT_SCOPES: Final = frozenset({Scope.READ, Scope.WRITE})
"""What the page may do with the session of its user."""
_MOST_DELETED: Final = 32


@dataclass(frozen=True)
class Portal:
    """Finds and makes the sessions of names.

    ``open_sessions`` gives the service that makes them, when there is a place for it.
    """

    views: ViewService
    tenancy: Tenancy
    throttle: Throttle
    store: RecordStore
    idempotency: Idempotency
    open_sessions: Callable[[], AbstractAsyncContextManager[SessionService]]
    max_sessions: int

    async def enter(self, name: str) -> SessionId:
        """Return the session of a name, made if there is none.

        Raises InvalidRequestError (name), RateLimitedError, QuotaExceededError, InProgressError (somebody of the same
        name is just making it), and what making a session raises.
        """
        await self.throttle.take(VISITOR, parse_visitor(name), Scope.WRITE)
        found = await self._find(name)
        return found if found is not None else await self._make(name)

    async def owner_of(self, name: str, session_id: SessionId) -> Owner:
        """Return the owner of a session of that name; raises NotFoundError for any other."""
        await self.throttle.take(VISITOR, parse_visitor(name), Scope.ACCESS)
        owner = await self.tenancy.find_owner(session_id)
        if owner is None or (owner.tenant, owner.user_id) != (TENANT, name):
            raise unknown_session(session_id)
        return owner

    async def _find(self, name: str) -> SessionId | None:
        page = await self.views.list_sessions(user_id=name, tenant=TENANT)
        # The oldest: whoever comes at the same time with the same name finds the same.
        usable = (each.session_id for each in page.sessions if each.status is not SessionStatus.DELETING)
        return next(usable, None)

    async def _make(self, name: str) -> SessionId:
        if len((await self.views.list_sessions(tenant=TENANT)).sessions) >= self.max_sessions:
            msg = f"the demo has {self.max_sessions} workspaces already, and may not have more"
            raise QuotaExceededError(msg, hint="Use a name that has one, or raise portal.maxSessions.")
        key = f"portal:{user_hash(name)}"
        for _ in range(_MOST_DELETED):
            session_id = SessionId(
                await self.idempotency.bind(TENANT, key, {"call": "portal", "user_id": name}, new_session_id())
            )
            if await self.store.get_burial_age(session_id) is not None:
                # Deleted or purged since, and its conversation is still known. The next one of the same name hangs on
                # it, so that of two who come now both find the same.
                key = f"portal:{session_id}"
                continue
            try:
                async with self.open_sessions() as sessions:
                    made = await sessions.create(NewSession(name, TENANT, PROFILE, session_id))
            except InProgressError:
                raise
            except ConflictError:
                # Deleted at this moment.
                key = f"portal:{session_id}"
            else:
                return made.session_id
        raise ConflictError("too many sessions of this name were deleted today", hint="Use another name.")


def parse_visitor(name: str) -> str:
    """Accept a name at the portal; raises InvalidRequestError."""
    if len(name) > LONGEST_NAME:
        raise InvalidRequestError(f"the name has {len(name)} characters, more than {LONGEST_NAME}", field="name")
    try:
        return parse_user_id(name)
    except InvalidRequestError as error:
        raise InvalidRequestError(error.message, field="name") from None
