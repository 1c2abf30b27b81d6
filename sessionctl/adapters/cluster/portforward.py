"""Port-forward to a pod through the API server, with nothing but the kubeconfig.

``GET .../pods/NAME/portforward?ports=P`` upgrades to a WebSocket that the API server passes on to the kubelet, and the
kubelet to the container runtime (docs/decisions/0008). The first byte of a message is its channel: 0 carries the data
of the one stream, 1 what went wrong. The first message on either repeats the port in two bytes, the low one first.
"""

from __future__ import annotations

import asyncio
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from sessionctl.adapters.cluster import objects
from sessionctl.errors import ClusterError

if TYPE_CHECKING:
    from sessionctl.adapters.cluster.client import KubernetesClient
    from sessionctl.adapters.cluster.websocket import Part, WebSocket
    from sessionctl.models import JsonObject

SUBPROTOCOL: Final = "v4.channel.k8s.io"
OPEN_SECONDS: Final = 4.5
"""Less than Redis clients wait for a reply, so that they are told why there is none."""
MAX_FRAME_BYTES: Final = 32768
"""What container runtimes themselves send at once."""
MAX_ERROR_BYTES: Final = 4096

_DATA: Final = 0
_ERROR: Final = 1
_PORT_BYTES: Final = 2
_SHOWN: Final = 200


@dataclass(frozen=True)
class PodPort:
    """A port of whichever pod is ready when a stream is opened."""

    namespace: str
    selector: str
    port: int


class PortForwarder:
    """Opens streams to pods."""

    def __init__(self, client: KubernetesClient) -> None:
        self._client = client

    async def open(self, target: PodPort) -> ForwardedStream:
        """Find the pod and connect; raises ClusterError, ForbiddenError and NotFoundError (the pod just went).

        What keeps the pod's own port from answering shows when the stream is read.
        """
        try:
            async with asyncio.timeout(OPEN_SECONDS):
                pod = await self._find_pod(target)
                socket = await self._client.open_websocket(
                    f"/api/v1/namespaces/{target.namespace}/pods/{pod}/portforward",
                    SUBPROTOCOL,
                    ports=str(target.port),
                )
        except TimeoutError:
            msg = f"no port-forward to {target.selector} in {target.namespace} within {OPEN_SECONDS} s"
            raise ClusterError(msg, hint="Check the kubeconfig's context with: kubectl cluster-info") from None
        except ClusterError as error:
            hint = error.hint or f"See: kubectl -n {target.namespace} get pods -o wide -l {target.selector}"
            raise ClusterError(error.message, status=error.status, hint=hint) from error
        return ForwardedStream(socket, target, pod)

    async def _find_pod(self, target: PodPort) -> str:
        listing = await self._client.get(f"/api/v1/namespaces/{target.namespace}/pods", labelSelector=target.selector)
        pods = objects.items(listing)
        for pod in pods:
            if _is_ready(pod):
                return str(objects.child(pod, "metadata").get("name"))
        seen = ", ".join(f"{objects.child(pod, 'metadata').get('name')}: {_phase(pod)}" for pod in pods[:3])
        msg = f"no pod with {target.selector} is ready in {target.namespace} ({seen or 'there is none'})"
        hint = f"See: kubectl -n {target.namespace} describe pods -l {target.selector}"
        raise ClusterError(msg, hint=hint)


class ForwardedStream:
    """The bytes of one connection to a pod's port."""

    def __init__(self, socket: WebSocket, target: PodPort, pod: str) -> None:
        self._socket = socket
        self._where = f"port {target.port} of pod {target.namespace}/{pod}"
        self._hint = f"See: kubectl -n {target.namespace} logs {pod}"
        self._port = target.port.to_bytes(_PORT_BYTES, "little")
        self._channel: int | None = None
        self._heads = {_DATA: b"", _ERROR: b""}
        self._error = b""

    async def read(self) -> bytes:
        """Return what comes next, nothing at the end; raises ClusterError with what the node says went wrong."""
        try:
            while (part := await self._socket.receive()) is not None:
                if data := self._sort(part):
                    return data
        except OSError as error:
            raise self._broken(str(error) or "no answer") from error
        if self._error:
            raise self._broken(" ".join(self._error.decode(errors="replace").split()))
        return b""

    async def write(self, data: bytes) -> None:
        """Send; raises ClusterError."""
        try:
            for start in range(0, len(data), MAX_FRAME_BYTES):
                await self._socket.send(bytes([_DATA]) + data[start : start + MAX_FRAME_BYTES])
        except OSError as error:
            raise self._broken(str(error)) from error

    def close(self) -> None:
        """End the stream once what was written is on its way."""
        self._socket.close()

    def abort(self) -> None:
        """Drop the stream at once."""
        self._socket.abort()

    def _sort(self, part: Part) -> bytes:
        """Return what of a message's piece is data, and keep what is an error."""
        data = part.data
        if self._channel is None and data:
            self._channel, data = data[0], data[1:]
        channel = self._channel
        if part.ends:
            self._channel = None
        if channel is None:
            return b""
        if channel not in self._heads:
            raise self._broken(f"unknown channel {channel}")
        missing = _PORT_BYTES - len(self._heads[channel])
        self._heads[channel] += data[:missing]
        data = data[missing:]
        if not self._port.startswith(self._heads[channel]):
            raise self._broken("the node answers for another port")
        if channel == _DATA:
            return data
        self._error = (self._error + data)[:MAX_ERROR_BYTES]
        return b""

    def _broken(self, why: str) -> ClusterError:
        # Runtimes wrap the cause in words about their own parts, and name it last.
        cause = why if len(why) <= _SHOWN else f"... {why[-_SHOWN:]}"
        return ClusterError(f"{self._where} cannot be reached: {cause}", hint=self._hint)


def _is_ready(pod: JsonObject) -> bool:
    conditions = objects.child(pod, "status").get("conditions")
    return "deletionTimestamp" not in objects.child(pod, "metadata") and any(
        objects.child(condition).get("type") == "Ready" and objects.child(condition).get("status") == "True"
        for condition in (conditions if isinstance(conditions, list) else [])
    )


def _phase(pod: JsonObject) -> str:
    if "deletionTimestamp" in objects.child(pod, "metadata"):
        return "Terminating"
    return str(objects.child(pod, "status").get("phase", "unknown"))
