"""Requests, patches and watches on the API server, and the translation of its errors."""

from __future__ import annotations

import asyncio
import json
import os
from contextlib import asynccontextmanager
from http import HTTPStatus
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self
from urllib.parse import urlencode

import aiohttp
from kubernetes.aio.client import ApiClient, Configuration
from kubernetes.aio.config import ConfigException, load_incluster_config, load_kube_config

from sessionctl.errors import ClusterError, ConfigurationError, ConflictError, NotFoundError
from sessionctl.labels import FIELD_MANAGER

if TYPE_CHECKING:
    from collections.abc import AsyncIterator, Mapping
    from types import TracebackType

    from kubernetes.aio.client.rest import RESTResponse

    from sessionctl.models import JsonObject

REQUEST_TIMEOUT_SECONDS: Final = 15
CONNECT_TIMEOUT_SECONDS: Final = 5
WATCH_SECONDS: Final = 240
"""A watch ends by itself after this time and goes on from where it was."""
WATCH_SILENCE_SECONDS: Final = 90
"""Bookmarks come every minute: a watch that says nothing for longer is dead."""

_MERGE_PATCH: Final = "application/merge-patch+json"


class WatchExpiredError(Exception):
    """The resource version is too old for a watch (410): list again."""


class KubernetesClient:
    """A connection to one API server; an async context manager."""

    def __init__(self, api: ApiClient) -> None:
        self._api = api

    @classmethod
    async def connect(cls, kubeconfig: str | None, context: str | None) -> Self:
        """Read the kubeconfig (or the pod's own identity) without contacting the cluster; raises ConfigurationError."""
        configuration = Configuration()
        configuration.retries = None
        try:
            if kubeconfig is None and "KUBECONFIG" not in os.environ and "KUBERNETES_SERVICE_HOST" in os.environ:
                load_incluster_config(client_configuration=configuration)
            else:
                location = kubeconfig or os.environ.get("KUBECONFIG") or str(Path.home() / ".kube" / "config")
                if not any(Path(part).is_file() for part in location.split(os.pathsep)):
                    msg = f"no usable kubeconfig: there is no file {location}"
                    raise ConfigurationError(msg, hint="Set KUBECONFIG or give --kubeconfig.")
                await load_kube_config(config_file=location, context=context, client_configuration=configuration)
        except (ConfigException, OSError, ValueError, TypeError) as error:
            msg = f"no usable kubeconfig: {str(error).splitlines()[0][:200]}"
            raise ConfigurationError(msg, hint="Set KUBECONFIG or give --kubeconfig.") from error
        return cls(ApiClient(configuration=configuration))

    async def __aenter__(self) -> Self:
        """Connections are made at first use."""
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        """Close the connections."""
        await self._api.close()

    async def get(self, path: str, **query: str) -> JsonObject:
        """Read an object or a list."""
        return await self._exchange("GET", path, query)

    async def find(self, path: str) -> JsonObject | None:
        """Read an object; None when it is not there."""
        try:
            return await self._exchange("GET", path, {})
        except NotFoundError:
            return None

    async def merge_patch(self, path: str, body: Mapping[str, object]) -> JsonObject:
        """Patch an object under our field manager; raises NotFoundError and ConflictError."""
        return await self._exchange("PATCH", path, {"fieldManager": FIELD_MANAGER}, body)

    async def delete(self, path: str) -> None:
        """Delete an object; succeeds when it is gone."""
        try:
            await self._exchange("DELETE", path, {})
        except NotFoundError:
            return

    async def watch(self, path: str, **query: str) -> AsyncIterator[JsonObject]:
        """Yield the events of one watch until the server ends it; raises WatchExpiredError and ClusterError."""
        parameters = {
            **query,
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH_SECONDS),
        }
        timeout = aiohttp.ClientTimeout(sock_connect=CONNECT_TIMEOUT_SECONDS, sock_read=WATCH_SILENCE_SECONDS)
        async with self._response("GET", path, parameters, None, timeout) as response:
            rest = b""
            with _unreachable(self._host):
                async for chunk in response.response.content.iter_any():
                    *lines, rest = (rest + chunk).split(b"\n")
                    for line in lines:
                        yield _watch_event(line)

    @property
    def _host(self) -> str:
        return str(self._api.configuration.host)

    async def _exchange(
        self, method: str, path: str, query: Mapping[str, str], body: Mapping[str, object] | None = None
    ) -> JsonObject:
        timeout = aiohttp.ClientTimeout(total=REQUEST_TIMEOUT_SECONDS, sock_connect=CONNECT_TIMEOUT_SECONDS)
        async with self._response(method, path, query, body, timeout) as response:
            with _unreachable(self._host):
                document: JsonObject = json.loads(await response.read())
            return document

    @asynccontextmanager
    async def _response(
        self,
        method: str,
        path: str,
        query: Mapping[str, str],
        body: Mapping[str, object] | None,
        timeout: aiohttp.ClientTimeout,
    ) -> AsyncIterator[RESTResponse]:
        headers = {
            "Accept": "application/json",
            "Content-Type": _MERGE_PATCH if method == "PATCH" else "application/json",
            "User-Agent": FIELD_MANAGER,
        }
        token = await self._api.configuration.get_api_key_with_prefix("BearerToken")
        if token:
            headers["Authorization"] = token
        url = f"{self._host}{path}" + (f"?{urlencode(query)}" if query else "")
        with _unreachable(self._host):
            response = await self._api.call_api(method, url, headers, body, _request_timeout=timeout)
        try:
            if response.status >= HTTPStatus.BAD_REQUEST:
                with _unreachable(self._host):
                    text = await response.read()
                raise _error(method, path, response.status, text)
            yield response
        finally:
            response.response.release()


class _unreachable:  # noqa: N801 - reads as a statement
    """Turn failures of the connection into ClusterError."""

    def __init__(self, host: str) -> None:
        self._host = host

    def __enter__(self) -> None:
        return None

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        if isinstance(error, aiohttp.ClientError | asyncio.TimeoutError | OSError | json.JSONDecodeError):
            msg = f"the Kubernetes API at {self._host} does not answer"
            raise ClusterError(msg, hint="Check the kubeconfig's context with: kubectl cluster-info") from error


def _watch_event(line: bytes) -> JsonObject:
    event: JsonObject = json.loads(line)
    if event.get("type") == "ERROR":
        status = event.get("object")
        code = status.get("code") if isinstance(status, dict) else None
        if code == HTTPStatus.GONE:
            raise WatchExpiredError
        msg = f"the Kubernetes API ended a watch with {code}"
        raise ClusterError(msg, status=code if isinstance(code, int) else 0)
    return event


def _error(method: str, path: str, status: int, body: bytes) -> Exception:
    try:
        message = str(json.loads(body).get("message", ""))[:300]
    except (ValueError, AttributeError):
        message = ""
    kind_and_name = "/".join(path.split("/")[-2:])
    if status == HTTPStatus.NOT_FOUND:
        return NotFoundError(f"{kind_and_name} is not in the cluster")
    if status == HTTPStatus.CONFLICT:
        return ConflictError(f"{kind_and_name} changed meanwhile")
    if status == HTTPStatus.GONE:
        return WatchExpiredError()
    if status in {HTTPStatus.UNAUTHORIZED, HTTPStatus.FORBIDDEN}:
        msg = f"the Kubernetes API refused {method} {kind_and_name}: {message or status}"
        return ClusterError(msg, status=status, hint="Use a kubeconfig with the rights of the platform chart's Role.")
    return ClusterError(f"the Kubernetes API answered {status} to {method} {kind_and_name}: {message}", status=status)
