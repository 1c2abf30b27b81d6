"""``GateStore`` on Redis: the order of steps is the guarantee (DESIGN 5, the gate)."""

from __future__ import annotations

import asyncio
import importlib
import secrets
from typing import TYPE_CHECKING

from sessionctl.adapters.store import keys
from sessionctl.adapters.store.base import StorePart, milliseconds, record_fields
from sessionctl.errors import ForbiddenError, StoreError
from sessionctl.models import Epoch

if TYPE_CHECKING:
    from redis.asyncio import Redis
    from redis.asyncio.client import Pipeline

    from sessionctl.models import Workspace


class RedisGate(StorePart):
    """The epoch, and the ACL user of KEDA."""

    @property
    def _keda(self) -> str:
        return self._endpoint.keda_username

    async def get_epoch(self) -> Epoch:
        """See ``ports.GateStore``."""
        # The first call of most commands. Loading the library takes a while; what runs beside it must go on.
        await asyncio.to_thread(importlib.import_module, "redis.asyncio")
        with self._translated():
            server = await self._client.info("server")
            if server.get("redis_mode") == "cluster":
                msg = "Redis Cluster is not supported: the demand scripts use several keys"
                raise StoreError(msg, hint="Use a single Redis, or one with replicas behind one address.")
            value = await self._client.get(keys.EPOCH)
        return Epoch(run_id=str(server["run_id"]), value=str(value or ""))

    async def admit_keda(self) -> bool:
        """See ``ports.GateStore``; raises ForbiddenError where the Redis user may not use ACL."""
        # WATCH makes EXEC fail if the epoch moved; the connection cannot be replaced by another one to a Redis that
        # restarted meanwhile, because a lost connection ends the transaction and nothing is repeated.
        with self._translated():
            async with self._single_connection() as client, client.pipeline(transaction=True) as pipeline:
                await pipeline.watch(keys.EPOCH)
                return await self._admit(pipeline)

    async def _admit(self, pipeline: Pipeline) -> bool:
        from redis import exceptions as redis_errors

        value = await pipeline.get(keys.EPOCH)
        server = await pipeline.info("server")
        if value != server["run_id"]:
            return False
        pipeline.multi()  # type: ignore[no-untyped-call]
        pipeline.acl_setuser(self._keda, enabled=True, reset=False)
        try:
            await pipeline.execute()
        except redis_errors.WatchError:
            return False
        except redis_errors.NoPermissionError as error:
            raise self._powerless() from error
        return True

    def _powerless(self) -> ForbiddenError:
        return ForbiddenError(
            f"the Redis user {self._endpoint.username!r} may not switch KEDA's user {self._keda!r} on and off",
            hint="Give it +acl +client +info; without that an emptied Redis puts awake sessions to sleep.",
        )

    def _single_connection(self) -> Redis:
        from redis.asyncio import Redis
        from redis.asyncio.retry import Retry
        from redis.backoff import NoBackoff

        pool = self._client.connection_pool
        single = type(pool)(
            **{
                **pool.connection_kwargs,
                "connection_class": pool.connection_class,
                "max_connections": 1,
                "retry": Retry(NoBackoff(), 0),
            }
        )
        return Redis.from_pool(single)

    async def shut_out_keda(self) -> None:
        """See ``ports.GateStore``."""
        from redis import exceptions as redis_errors

        with self._translated():
            try:
                await self._client.acl_setuser(self._keda, enabled=False)
                await self._client.client_kill_filter(user=self._keda)
            except redis_errors.NoPermissionError as error:
                raise self._powerless() from error

    async def begin_restore(self, run_id: str) -> str | None:
        """See ``ports.GateStore``."""
        token = await self._run("begin_restore", [keys.EPOCH], [run_id, secrets.token_hex(8)])
        return token if isinstance(token, str) else None

    async def restore(self, token: str, workspace: Workspace) -> bool:
        """See ``ports.GateStore``."""
        session_id, owner = workspace.session_id, workspace.owner
        done = await self._run(
            "restore",
            [
                keys.record(session_id),
                keys.queue(session_id),
                keys.tombstone(session_id),
                keys.user_index(owner.tenant, owner.user_id),
                keys.EPOCH,
                keys.events(session_id),
                keys.marks(session_id),
            ],
            [
                token,
                _run_id(token),
                session_id,
                int(workspace.replicas > 0),
                milliseconds(workspace),
                *record_fields(workspace),
            ],
        )
        return done == 1

    async def open_gate(self, token: str) -> bool:
        """See ``ports.GateStore``."""
        return await self._run("open_gate", [keys.EPOCH], [token, _run_id(token)]) == 1


def _run_id(token: str) -> str:
    return token.split(":")[1]
