"""List and watch (the Kubernetes API's own protocol): one kind of object, followed for as long as its reader wants.

| what happens                                | what is done                                              |
|---------------------------------------------|-----------------------------------------------------------|
| a page of the list expired (410)            | the list begins anew                                      |
| the server ended the watch                  | the next one goes on from the last resource version       |
| the version is too old (410)                | the list is read again; its events say what it holds      |
| too old again, and nothing was said between | an error: whoever follows waits before the next list      |
| the watch ended before it said a word       | an error, so that whoever follows waits before the next   |
| silence for longer than bookmarks allow     | an error (client.py)                                      |
"""

from __future__ import annotations

from contextlib import aclosing
from http import HTTPStatus
from typing import TYPE_CHECKING, TypeVar

from sessionctl.adapters.cluster.objects import child, items, resource_version
from sessionctl.errors import ClusterError
from sessionctl.models import WatchEvent

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Callable

    from sessionctl.adapters.cluster.client import KubernetesClient
    from sessionctl.models import JsonObject

Item = TypeVar("Item")


async def read_all(
    client: KubernetesClient, path: str, read: Callable[[JsonObject], Item | None], **selector: str
) -> tuple[list[Item], str]:
    """Read a whole list, however long, and its resource version; what ``read`` answers None to is left out."""
    found: list[Item] = []
    version = ""
    async with aclosing(client.list_pages(path, **selector)) as pages:
        async for page in pages:
            if page.fresh:
                found.clear()
            # Translated page by page: the raw objects are many times as large.
            found += [item for item in map(read, items(page.document)) if item is not None]
            version = resource_version(page.document)
    return found, version


async def follow(
    client: KubernetesClient, path: str, read: Callable[[JsonObject], Item | None], **selector: str
) -> AsyncGenerator[WatchEvent[Item], None]:
    """Yield the list and then its changes, without end; raises ClusterError and ForbiddenError."""
    in_vain = 0
    while True:
        listed, version = await read_all(client, path, read, **selector)
        yield WatchEvent(listed=tuple(listed))
        listed.clear()
        try:
            async with aclosing(_changes(client, path, version, **selector)) as events:
                async for event in events:
                    in_vain = 0
                    yield _step(event.get("type"), child(event, "object"), read)
        except ClusterError as error:
            in_vain += 1
            if error.status != HTTPStatus.GONE or in_vain > 1:
                raise


async def _changes(
    client: KubernetesClient, path: str, version: str, **selector: str
) -> AsyncGenerator[JsonObject, None]:
    said = True
    while said:
        said = False
        async with aclosing(client.watch(path, resourceVersion=version, **selector)) as events:
            async for event in events:
                said = True
                version = resource_version(child(event, "object")) or version
                yield event
    msg = "the Kubernetes API ended a watch before it said anything"
    raise ClusterError(msg)


def _step(kind: object, item: JsonObject, read: Callable[[JsonObject], Item | None]) -> WatchEvent[Item]:
    match kind:
        case "ADDED" | "MODIFIED":
            return WatchEvent(changed=read(item))
        case "DELETED":
            return WatchEvent(deleted=read(item))
        case _:  # a bookmark: it moves the version, and says that nothing else is to be said
            return WatchEvent()
