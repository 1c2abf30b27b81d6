"""A platform whose sessions' agents are one process beside the test: simulated pods serve nothing."""

from __future__ import annotations

from dataclasses import fields
from typing import TYPE_CHECKING

from sessionctl.adapters.agent_http import TcpStream
from sessionctl.core.identity import agent_token
from sessionctl.factory import Factory

if TYPE_CHECKING:
    from collections.abc import Callable

    from sessionctl.adapters.agent_http import ByteStream
    from sessionctl.models import SessionId


class _Near(Factory):
    port: Callable[[], int]

    async def _dial_agent(self, session_id: SessionId) -> ByteStream:
        return await TcpStream.connect("127.0.0.1", type(self).port())


def with_agent(factory: Factory, port: Callable[[], int]) -> Factory:
    """Return the same platform, with the agent of every session at a port of this machine; all else is real."""
    kind = type("Near", (_Near,), {"port": staticmethod(port)})
    found: Factory = kind(**{each.name: getattr(factory, each.name) for each in fields(factory)})
    return found


async def token_of(factory: Factory, session_id: SessionId) -> str:
    """Return what the platform shows to a session's agent."""
    key = (await factory.reader.read_secret(factory.platform.platform_key_secret)).value("key")
    return agent_token(key, session_id)
