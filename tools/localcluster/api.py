"""A small synchronous client of the Kubernetes API, over the standard library: it starts in no time."""

from __future__ import annotations

import contextlib
import http.client
import json
import ssl
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Self
from urllib.parse import urlencode, urlsplit

import yaml

if TYPE_CHECKING:
    from collections.abc import Iterator

Object = dict[str, Any]

_APPLY = "application/apply-patch+yaml"
_MANAGER = "sessionctl-localcluster"


class ApiError(Exception):
    """The API server refused a request."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(f"{status}: {message}")
        self.status = status


@dataclass(frozen=True)
class Api:
    """One user at one API server. A connection per call: slow ones never block others, and threads may share it."""

    server: str
    token: str
    authority: Path
    timeout: float = 10.0

    @classmethod
    def from_kubeconfig(cls, kubeconfig: Path) -> Self:
        """Read a kubeconfig that this package wrote."""
        raw = yaml.safe_load(kubeconfig.read_text())
        cluster = raw["clusters"][0]["cluster"]
        return cls(cluster["server"], raw["users"][0]["user"]["token"], Path(cluster["certificate-authority"]))

    def get(self, path: str) -> Object:
        """Return an object or a list of them.

        Raises:
            ApiError: The server refused.
            OSError: The server cannot be reached.
        """
        return self._call("GET", path)

    def create(self, path: str, body: Object) -> Object:
        """Create an object in a collection."""
        return self._call("POST", path, json.dumps(body).encode(), "application/json")

    def apply(self, path: str, body: Object | bytes, manager: str = _MANAGER) -> Object:
        """Create or change an object by server-side apply, as this field manager; bytes are YAML."""
        raw = body if isinstance(body, bytes) else json.dumps(body).encode()
        return self._call("PATCH", f"{path}?{urlencode({'fieldManager': manager, 'force': 'true'})}", raw, _APPLY)

    def merge(self, path: str, body: Object) -> Object:
        """Change an object by a merge patch."""
        return self._call("PATCH", path, json.dumps(body).encode(), "application/merge-patch+json")

    def delete(self, path: str) -> None:
        """Delete an object; one that is gone is fine."""
        try:
            self._call("DELETE", path)
        except ApiError as error:
            if error.status != http.HTTPStatus.NOT_FOUND:
                raise

    def is_healthy(self, path: str) -> bool:
        """Tell whether a health endpoint answers 200."""
        try:
            with self._connection(1.0) as connection:
                connection.request("GET", path, headers={"Authorization": f"Bearer {self.token}"})
                return connection.getresponse().status == http.HTTPStatus.OK
        except OSError:
            return False

    def watch(self, path: str, version: str, seconds: int, selector: str = "") -> Iterator[tuple[str, Object]]:
        """Yield (type, object) for changes after a resource version, for at most so many seconds.

        The label selector is encoded already.
        """
        query = urlencode({"watch": "true", "resourceVersion": version, "timeoutSeconds": seconds})
        query += f"&labelSelector={selector}" if selector else ""
        with self._connection(seconds + self.timeout) as connection:
            response = self._send(connection, "GET", f"{path}?{query}")
            while line := response.readline():
                event = json.loads(line)
                if event["type"] == "ERROR":
                    raise ApiError(event["object"].get("code", 0), event["object"].get("message", ""))
                yield event["type"], event["object"]

    def _call(self, method: str, path: str, body: bytes | None = None, content_type: str = "") -> Object:
        with self._connection(self.timeout) as connection:
            answer: Object = json.loads(self._send(connection, method, path, body, content_type).read())
            return answer

    def _send(
        self,
        connection: http.client.HTTPSConnection,
        method: str,
        path: str,
        body: bytes | None = None,
        content_type: str = "",
    ) -> http.client.HTTPResponse:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": "application/json"}
        if content_type:
            headers["Content-Type"] = content_type
        connection.request(method, path, body, headers)
        response = connection.getresponse()
        if response.status >= http.HTTPStatus.BAD_REQUEST:
            raise ApiError(response.status, response.read(500).decode(errors="replace"))
        return response

    @contextlib.contextmanager
    def _connection(self, timeout: float) -> Iterator[http.client.HTTPSConnection]:
        address = urlsplit(self.server)
        context = ssl.create_default_context(cafile=str(self.authority))
        connection = http.client.HTTPSConnection(address.hostname or "", address.port, timeout=timeout, context=context)
        try:
            yield connection
        except http.client.HTTPException as error:
            # A server that dies in the middle of an answer is, to callers, one that cannot be reached.
            msg = f"broken answer of {self.server}: {error!r}"
            raise ConnectionError(msg) from error
        finally:
            connection.close()
