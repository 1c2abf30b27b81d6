"""Hooks around the methods of an adapter, so that a test can force what happens between two steps."""

from __future__ import annotations

import inspect
from collections import Counter
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, TypeVar, cast

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

Port = TypeVar("Port")


@dataclass
class Hooks:
    """What happens before and after the n-th call of a method, counted over all adapters it is around.

    Attributes:
        calls: How often each method was called.
    """

    calls: Counter[str] = field(default_factory=Counter)
    _before: dict[tuple[str, int], Callable[[], Awaitable[object]]] = field(default_factory=dict)
    _after: dict[tuple[str, int], Callable[[], Awaitable[object]]] = field(default_factory=dict)

    def before(self, method: str, act: Callable[[], Awaitable[object]], *, nth: int = 1) -> None:
        """Act before the n-th call from now; an error of the act is the call's."""
        self._before[method, self.calls[method] + nth] = act

    def after(self, method: str, act: Callable[[], Awaitable[object]], *, nth: int = 1) -> None:
        """Act after the n-th call from now, before its caller goes on."""
        self._after[method, self.calls[method] + nth] = act

    def around(self, port: Port) -> Port:
        """Return the adapter with these hooks around its coroutines."""
        return cast("Port", _Hooked(port, self))

    async def call(self, name: str, method: Callable[..., Awaitable[object]], *args: object, **named: object) -> object:
        """Make one call with what belongs to it."""
        self.calls[name] += 1
        key = name, self.calls[name]
        if act := self._before.pop(key, None):
            await act()
        answer = await method(*args, **named)
        if act := self._after.pop(key, None):
            await act()
        return answer


class _Hooked:
    def __init__(self, port: object, hooks: Hooks) -> None:
        self._port = port
        self._hooks = hooks

    def __getattr__(self, name: str) -> Any:
        method = getattr(self._port, name)
        if not inspect.iscoroutinefunction(method):
            return method

        async def call(*args: object, **named: object) -> object:
            return await self._hooks.call(name, method, *args, **named)

        return call
