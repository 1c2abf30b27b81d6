"""``AccessStore`` on Redis."""

from __future__ import annotations

import json
import secrets
from datetime import timedelta
from typing import TYPE_CHECKING

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart
from sessionctl.models import CodeAnswer, CodeOutcome, Login, Remembered

if TYPE_CHECKING:
    from collections.abc import Sequence

    from sessionctl.models import RateLimit, SessionId


class RedisAccess(StorePart):
    """What expires by itself, and the epochs of tokens."""

    async def take(self, limits: Sequence[RateLimit]) -> timedelta | None:
        """See ``ports.AccessStore``."""
        arguments = [part for limit in limits for part in (str(limit.rate), limit.burst)]
        wait = int(str(await self._run("take", [keys.limit(limit.key) for limit in limits], arguments)))
        return timedelta(microseconds=wait) if wait else None

    async def remember(self, key: str, fingerprint: str, value: str, lifetime: timedelta) -> Remembered:
        """See ``ports.AccessStore``."""
        operation = secrets.token_hex(8)
        entry = json.dumps([operation, fingerprint, value])
        reply = await self._run("remember", [keys.idempotency(key)], [entry, _milliseconds(lifetime)])
        bound_by, bound_fingerprint, bound_value = json.loads(str(reply))
        return Remembered(value=bound_value, fingerprint=bound_fingerprint, fresh=bound_by == operation)

    async def put_code(self, code: str, login: Login, state: str, lifetime: timedelta) -> None:
        """See ``ports.AccessStore``."""
        said = json.dumps([login.tenant, login.user_id, login.epoch])
        await self._run("put_code", [keys.code(code)], [login.session_id, said, state, _milliseconds(lifetime)])

    async def open_code(self, code: str, session_id: SessionId, state: str, *, confirmed: bool) -> CodeAnswer:
        """See ``ports.AccessStore``."""
        arguments: list[str | int] = [session_id, state, int(confirmed), secrets.token_hex(8)]
        word, *said = await self._run_fields("open_code", [keys.code(code)], arguments)
        login = Login(session_id, *json.loads(said[0])) if said else None
        return CodeAnswer(CodeOutcome(word), login)

    async def get_token_epoch(self, session_id: SessionId) -> int:
        """See ``ports.AccessStore``."""
        return int(str(await self._run("get_token_epoch", [keys.record(session_id)], [])))

    async def revoke_tokens(self, session_id: SessionId) -> int:
        """See ``ports.AccessStore``."""
        return int(str(await self._run("revoke_tokens", [keys.record(session_id)], [])))


def _milliseconds(lifetime: timedelta) -> int:
    return max(1, lifetime // timedelta(milliseconds=1))
