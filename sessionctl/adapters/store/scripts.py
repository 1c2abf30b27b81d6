"""Loads the Lua scripts of the package and runs them by hash."""

from __future__ import annotations

from functools import cache
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.files import package_folder

if TYPE_CHECKING:
    from collections.abc import Sequence

    from redis.asyncio import Redis

PRELUDE: Final = "prelude"
"""The parts each script is built from, after the prelude; the script's own file comes last."""
PARTS: Final[dict[str, tuple[str, ...]]] = {
    "wake": ("demand",),
    "enqueue": ("demand", "events", "chats"),
    "release": (),
    "get_queue": (),
    "ensure_record": ("records",),
    "restore": ("records",),
    "begin_restore": (),
    "open_gate": (),
    "bury": ("events", "chats"),
    "unbury": ("records",),
    "append_event": ("events",),
    "settle_waiting": ("events", "chats"),
    "list_waiting": ("events", "chats"),
    "take_dispatch": ("fence",),
    "renew_dispatch": ("fence",),
    "drop_dispatch": ("fence",),
    "get_next": ("events", "chats", "fence"),
    "start_message": ("events", "chats", "fence"),
    "append_reply": ("events", "chats", "fence"),
    "finish_message": ("events", "chats", "fence"),
    "cancel_message": ("events", "chats"),
    "take": (),
    "remember": (),
    "put_code": (),
    "open_code": (),
    "get_token_epoch": (),
    "revoke_tokens": (),
    "reserve_session": (),
    "cancel_reservation": (),
}

TELLING: Final = frozenset(
    {
        "wake",
        "enqueue",
        "release",
        "bury",
        "unbury",
        "settle_waiting",
        "cancel_message",
        "remember",
        "put_code",
        "open_code",
        "revoke_tokens",
        "reserve_session",
    }
)
"""Scripts that carry out what somebody asked for: whether one of them ran must not be left open silently."""

Reply = None | int | bytes | str | list["Reply"]


@cache
def source(name: str) -> str:
    """Return the whole text of one script."""
    folder = package_folder("adapters", "store", "lua")
    return "\n".join((folder / f"{part}.lua").read_text() for part in (PRELUDE, *PARTS[name], name))


class Scripts:
    """The scripts, bound to one client; a server that forgot one (restart, flush) is given it again."""

    def __init__(self, client: Redis) -> None:
        self._scripts = {name: client.register_script(source(name)) for name in PARTS}

    async def run(self, name: str, keys: Sequence[str], arguments: Sequence[str | int]) -> Reply:
        """Run one script and return Redis's reply."""
        reply: Reply = await self._scripts[name](keys=list(keys), args=list(arguments))
        return reply
