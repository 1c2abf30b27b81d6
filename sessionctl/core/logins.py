"""Logging in to an editor: a one-time code becomes a cookie, in the browser it is for (DESIGN 8).

| code made                    | shown by                            | answer                                        |
|------------------------------|-------------------------------------|-----------------------------------------------|
| for a browser (its state)    | that browser                        | opened at once                                |
| for no browser in particular | any browser, first                  | bound to it; its user is asked                |
| for no browser in particular | the same browser, user has answered | opened                                        |
| either                       | another browser                     | refused: nobody is logged in to what somebody |
|                              |                                     | else has made up for them                     |
| either                       | after its use, its time, a revoke   | refused                                       |
"""

from __future__ import annotations

import re
import secrets
from typing import TYPE_CHECKING, Final

from sessionctl.errors import InvalidRequestError
from sessionctl.models import CodeAnswer, CodeOutcome, EventKind, Login

if TYPE_CHECKING:
    from datetime import timedelta

    from sessionctl.core.journal import Journal
    from sessionctl.models import Owner, SessionId
    from sessionctl.ports import AccessStore

STATE: Final = re.compile(r"[A-Za-z0-9_-]{16,128}")
"""What names a browser on one session's host: random, in a cookie that was set there before."""
_CODE: Final = re.compile(r"[A-Za-z0-9_-]{43}")
_CODE_BYTES: Final = 32
_STATE_BYTES: Final = 16


def new_state() -> str:
    """Return a fresh state."""
    return secrets.token_hex(_STATE_BYTES)


class LoginService:
    """Grants logins and opens them."""

    def __init__(self, store: AccessStore, journal: Journal, lifetime: timedelta) -> None:
        self._store = store
        self._journal = journal
        self._lifetime = lifetime

    async def grant(self, session_id: SessionId, owner: Owner, state: str | None) -> str:
        """Return a one-time code; raises InvalidRequestError (state) and StoreError."""
        if state is not None and not STATE.fullmatch(state):
            raise InvalidRequestError("should be the state that the editor's host has given", field="state")
        epoch = await self._store.get_token_epoch(session_id)
        code = secrets.token_urlsafe(_CODE_BYTES)
        login = Login(session_id, owner.tenant, owner.user_id, epoch)
        await self._store.put_code(code, login, state or "", self._lifetime)
        return code

    async def open(self, session_id: SessionId, code: str, state: str, *, confirmed: bool) -> CodeAnswer:
        """Use a code, in the browser that ``state`` names; raises StoreError."""
        if not _CODE.fullmatch(code):
            return CodeAnswer(CodeOutcome.UNKNOWN)
        answer = await self._store.open_code(code, session_id, state, confirmed=confirmed)
        if answer.login is None:
            return answer
        if answer.login.epoch != await self._store.get_token_epoch(session_id):
            # Revoked since it was granted.
            return CodeAnswer(CodeOutcome.UNKNOWN)
        if answer.outcome is CodeOutcome.OPENED:
            self._journal.note(session_id, EventKind.EDITOR_LOGIN)
        return answer
