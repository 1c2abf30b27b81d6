"""Who may do what with which session: asked before anything else of a request is looked at."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from sessionctl.core.demand import unknown_session
from sessionctl.errors import ClusterError, InsufficientScopeError, StoreError, UnauthenticatedError, UnavailableError

if TYPE_CHECKING:
    from sessionctl.core.keys import KeyRing
    from sessionctl.core.throttle import Throttle
    from sessionctl.core.tokens import TokenService
    from sessionctl.models import Caller, Owner, Scope, SessionId
    from sessionctl.ports import ClusterView, Store


@dataclass(frozen=True)
class Credentials:
    """What a request shows of its sender; never printed."""

    api_key: str | None = field(default=None, repr=False)
    token: str | None = field(default=None, repr=False)


@dataclass(frozen=True)
class Admitted:
    """A request that may go on, and whose session it is about, if any."""

    caller: Caller
    session_id: SessionId | None = None
    owner: Owner | None = None


class Tenancy:
    """Whose a session is; ``live`` is asked only about what an interrupted view does not show."""

    def __init__(self, view: ClusterView, live: ClusterView, store: Store) -> None:
        self._view = view
        self._live = live
        self._store = store

    async def find_owner(self, session_id: SessionId) -> Owner | None:
        """Return the owner; None when there is no such session. Raises ClusterError and UnavailableError.

        The cluster is the truth; its record in Redis tells it when the cluster does not answer, or does not show yet
        what another manager has just made.
        """
        try:
            owner = await _find(self._view, session_id)
        except (ClusterError, UnavailableError):
            if owner := await self._recorded(session_id):
                return owner
            raise
        owner = owner or await self._recorded(session_id)
        if owner is None and self._view.stale_for() is not None:
            return await _find(self._live, session_id)
        return owner

    async def _recorded(self, session_id: SessionId) -> Owner | None:
        try:
            record = await self._store.get_record(session_id)
        except StoreError:
            return None
        return record.owner if record else None


async def _find(cluster: ClusterView, session_id: SessionId) -> Owner | None:
    found = await cluster.find_workspace(session_id) or await cluster.find_volume(session_id)
    return found.owner if found else None


class Gatekeeper:
    """Admits requests."""

    def __init__(self, keys: KeyRing, tokens: TokenService, tenancy: Tenancy, throttle: Throttle) -> None:
        self._keys = keys
        self._tokens = tokens
        self._tenancy = tenancy
        self._throttle = throttle

    async def identify(self, credentials: Credentials) -> Caller:
        """Return who asks; raises UnauthenticatedError, and StoreError for a token that cannot be judged."""
        if credentials.api_key is not None and credentials.token is not None:
            raise UnauthenticatedError("send an API key or a session token, not both")
        if credentials.api_key is not None:
            return self._keys.identify(credentials.api_key)
        if credentials.token is not None:
            return await self._tokens.identify(credentials.token)
        raise UnauthenticatedError("send an API key in X-API-Key, or a session token in Authorization: Bearer")

    async def admit(self, caller: Caller, scope: Scope, session_id: SessionId | None) -> Admitted:
        """Let a caller do something of this scope; raises InsufficientScopeError, NotFoundError and RateLimitedError.

        What belongs to somebody else is as unknown as what never was.
        """
        if session_id is None:
            await self._throttle.take(caller, None, scope)
            self._require(caller, scope)
            return Admitted(caller)
        mine = caller.session_id in {None, session_id}
        owner = await self._tenancy.find_owner(session_id) if mine else None
        if owner is not None and owner.tenant != caller.tenant:
            owner = None
        allowed = scope in caller.scopes
        # Who may not do it does not use up what its user may do.
        await self._throttle.take(caller, owner.user_id if owner and allowed else None, scope)
        if mine:
            self._require(caller, scope, of_session=True)
        if owner is None:
            raise unknown_session(session_id)
        return Admitted(caller, session_id, owner)

    def _require(self, caller: Caller, scope: Scope, *, of_session: bool = False) -> None:
        if caller.session_id is not None and not of_session:
            raise InsufficientScopeError("a session token opens one session and nothing else")
        if scope not in caller.scopes:
            raise InsufficientScopeError(f"this needs the scope {scope}")
