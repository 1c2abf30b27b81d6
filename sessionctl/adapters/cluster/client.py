"""Requests, patches and watches on the API server, and the translation of its errors."""

from __future__ import annotations

import asyncio
import json
from contextlib import AsyncExitStack, aclosing, asynccontextmanager, contextmanager
from dataclasses import dataclass
from http import HTTPStatus
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlencode

from sessionctl.adapters.cluster import credentials
from sessionctl.adapters.cluster.http import HttpError, HttpPool
from sessionctl.adapters.cluster.objects import child
from sessionctl.errors import ClusterError, ConflictError, ForbiddenError, NotFoundError
from sessionctl.labels import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, Generator, Mapping
    from types import TracebackType

    from sessionctl.adapters.cluster.credentials import Endpoint, TokenSource
    from sessionctl.adapters.cluster.http import Answer, Headers
    from sessionctl.adapters.cluster.websocket import WebSocket
    from sessionctl.models import JsonObject

REPLY_SECONDS: Final = 15.0
WATCH_SECONDS: Final = 240
"""A watch ends by itself after this time and goes on from where it was."""
WATCH_SILENCE_SECONDS: Final = 90.0
"""Bookmarks come every minute: a watch that says nothing for longer is dead."""
PAGE_LENGTH: Final = 100
"""To read 500 ScaledObjects out of JSON takes 20 ms, in which nobody is answered."""
LIST_ATTEMPTS: Final = 3
"""A list whose continuation expired (410) begins anew; one that always expires is an error."""


@dataclass(frozen=True)
class Page:
    """A part of a list; ``fresh`` says that all parts before it are void."""

    document: JsonObject
    fresh: bool


class KubernetesClient:
    """A connection to one API server; an async context manager."""

    def __init__(self, endpoint: Endpoint, token: TokenSource) -> None:
        self._endpoint = endpoint
        self._token = token
        self._http = HttpPool(endpoint)

    @classmethod
    async def connect(cls, kubeconfig: str | None, context: str | None) -> Self:
        """Read the kubeconfig (or the pod's own identity) without contacting the cluster; raises ConfigurationError."""
        return cls(*await asyncio.to_thread(credentials.load, kubeconfig, context))

    async def __aenter__(self) -> Self:
        """Connections are made at first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._http.close()

    @property
    def in_cluster(self) -> bool:
        """Whether this process is a pod of that cluster."""
        return self._endpoint.in_cluster

    async def get(self, path: str, **query: str) -> JsonObject:
        """Read an object or a list."""
        return await self._exchange("GET", path, query)

    async def list_pages(self, path: str, **query: str) -> AsyncGenerator[Page, None]:
        """Read a list page by page, so that no answer is ever large; a page that is ``fresh`` begins it (anew)."""
        for attempt in range(LIST_ATTEMPTS):
            more: dict[str, str] = {}
            while True:
                try:
                    document = await self._exchange("GET", path, {**query, "limit": str(PAGE_LENGTH), **more})
                except ClusterError as error:
                    if error.status != HTTPStatus.GONE or attempt + 1 == LIST_ATTEMPTS:
                        raise
                    break
                yield Page(document, fresh=not more)
                token = child(document, "metadata").get("continue")
                if not isinstance(token, str) or not token:
                    return
                more = {"continue": token}

    async def find(self, path: str) -> JsonObject | None:
        """Read an object; None when it is not there."""
        try:
            return await self._exchange("GET", path, {})
        except NotFoundError:
            return None

    async def merge_patch(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """Patch an object under our field manager; raises NotFoundError and ConflictError."""
        return await self._exchange("PATCH", path, {"fieldManager": FIELD_MANAGER}, body)

    async def delete(self, path: str, resource_version: str | None = None) -> None:
        """Delete an object; succeeds when it is gone. Raises ConflictError when it is not of the version given."""
        condition = {"preconditions": {"resourceVersion": resource_version}} if resource_version else None
        try:
            await self._exchange("DELETE", path, {}, condition)
        except NotFoundError:
            return

    async def watch(self, path: str, **query: str) -> AsyncGenerator[JsonObject, None]:
        """Yield the events of one watch until the server ends it.

        Raises ClusterError: its status is 410 where the resource version is too old, and the list has to be read again.
        """
        parameters = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        async with AsyncExitStack() as stack:
            # Its first words are not a matter of minutes: a server that holds them back is as good as away.
            with _unreachable(self._endpoint.server):
                async with asyncio.timeout(REPLY_SECONDS):
                    answer = await stack.enter_async_context(self._answer("GET", path, parameters, None))
            chunks = await stack.enter_async_context(aclosing(answer.chunks()))
            rest = b""
            while True:
                with _unreachable(self._endpoint.server):
                    async with asyncio.timeout(WATCH_SILENCE_SECONDS):
                        chunk = await anext(chunks, None)
                if chunk is None:
                    return
                *lines, rest = (rest + chunk).split(b"\n")
                for line in lines:
                    yield _watch_event(line)

    async def open_websocket(self, path: str, subprotocol: str, **query: str) -> WebSocket:
        """Upgrade a GET to a WebSocket; raises NotFoundError, ForbiddenError and ClusterError."""
        from sessionctl.adapters.cluster.websocket import RefusedError, WebSocket  # noqa: PLC0415 - for forwards only

        target = f"{path}?{urlencode(query)}"
        with _unreachable(self._endpoint.server):
            try:
                async with asyncio.timeout(REPLY_SECONDS):
                    return await WebSocket.connect(self._endpoint, target, await self._headers(), subprotocol)
            except RefusedError as error:
                raise _error("GET", path, error.status, error.body) from None

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, object] | None = None
    ) -> JsonObject:
        # The sweeper relies on a bound for the whole call (docs/decisions/0001).
        with _unreachable(self._endpoint.server):
            async with asyncio.timeout(REPLY_SECONDS), self._answer(method, path, query, body) as answer:
                document: JsonObject = json.loads(await answer.read())
                return document

    @asynccontextmanager
    async def _answer(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, object] | None
    ) -> AsyncGenerator[Answer, None]:
        headers = [("Accept", "application/json"), *await self._headers()]
        if body is not None:
            kind = "application/merge-patch+json" if method == "PATCH" else "application/json"
            headers.append(("Content-Type", kind))
        target = f"{path}?{urlencode(query)}" if query else path
        content = b"" if body is None else json.dumps(body).encode()
        with _unreachable(self._endpoint.server):
            async with self._http.send(method, target, headers, content) as answer:
                if answer.status >= HTTPStatus.BAD_REQUEST:
                    raise _error(method, path, answer.status, await answer.read())
                yield answer

    async def _headers(self) -> Headers:
        token = await self._token.get()
        return [("User-Agent", FIELD_MANAGER), *([("Authorization", f"Bearer {token}")] if token else [])]


@contextmanager
def _unreachable(server: str) -> Generator[None, None, None]:
    try:
        yield
    except (*HttpError, json.JSONDecodeError) as error:
        msg = f"the Kubernetes API at {server} does not answer"
        raise ClusterError(msg, hint="Check the kubeconfig's context with: kubectl cluster-info") from error


def _watch_event(line: bytes) -> JsonObject:
    event: JsonObject = json.loads(line)
    if event.get("type") == "ERROR":
        status = event.get("object")
        code = status.get("code") if isinstance(status, dict) else None
        msg = f"the Kubernetes API ended a watch with {code}"
        raise ClusterError(msg, status=code if isinstance(code, int) else 0)
    return event


def _error(method: str, path: str, status: int, body: bytes) -> Exception:
    try:
        message = str(json.loads(body).get("message", ""))[:300]
    except (ValueError, AttributeError):
        # A kubelet answers in words; what begins with a tag is a page of some proxy.
        words = " ".join(body.decode(errors="replace").split())
        message = "" if words.startswith("<") else words[:300]
    kind_and_name = "/".join(path.split("/")[-2:])
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"{kind_and_name} is not in the cluster")
    if status == HTTPStatus.CONFLICT:
        return ConflictError(f"{kind_and_name} changed meanwhile")
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        msg = f"the Kubernetes API refused {method} {kind_and_name}: {message or status}"
        return ForbiddenError(msg, hint="Use a kubeconfig with the rights of the platform chart's Role.")
    return ClusterError(f"the Kubernetes API answered {status} to {method} {kind_and_name}: {message}", status=status)
