"""Streams to pods and the listener for Redis, on the wire protocol of the kubelet (`support/api_server.py`)."""

from __future__ import annotations

import asyncio
import json
import ssl
from contextlib import suppress
from dataclasses import replace
from typing import TYPE_CHECKING

import pytest
import pytest_asyncio

from sessionctl.adapters.cluster import websocket
from sessionctl.adapters.cluster.client import KubernetesClient
from sessionctl.adapters.cluster.listener import ForwardListener
from sessionctl.adapters.cluster.portforward import ForwardedStream, PodPort, PortForwarder
from sessionctl.adapters.store.redis_store import RedisStore
from sessionctl.errors import ClusterError, ForbiddenError, NotFoundError, StoreError
from tests.support.api_server import V4, ApiServer
from tests.support.certificates import Authority
from tests.support.connect_proxy import ConnectProxy
from tests.support.tcp_server import HOST, TcpServer
from tests.support.tcp_server import echo as say_again
from tests.support.waiting import until

if TYPE_CHECKING:
    from collections.abc import AsyncIterator
    from pathlib import Path

    from tests.support.redis import RedisServer

NAMESPACE = "sessionctl"
LABELS = {"component": "redis"}
TARGET = PodPort(NAMESPACE, "component=redis", 6379)
TOKEN = "secret-token"


@pytest_asyncio.fixture
async def api() -> AsyncIterator[ApiServer]:
    async with ApiServer() as started:
        yield started


@pytest_asyncio.fixture
async def client(api: ApiServer, tmp_path: Path) -> AsyncIterator[KubernetesClient]:
    async with await KubernetesClient.connect(api.write_kubeconfig(tmp_path, {"token": TOKEN}), None) as opened:
        yield opened


@pytest.fixture
def forwarder(client: KubernetesClient) -> PortForwarder:
    return PortForwarder(client)


@pytest_asyncio.fixture
async def echo() -> AsyncIterator[int]:
    """The port of a server that says everything twice."""
    async with TcpServer(say_again) as server:
        yield server.port


async def read_exactly(stream: ForwardedStream, length: int) -> bytes:
    data = b""
    while len(data) < length:
        piece = await stream.read()
        assert piece, "it ended early"
        data += piece
    return data


async def test_bytes_go_both_ways_unchanged(api: ApiServer, forwarder: PortForwarder, echo: int) -> None:
    api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=echo)
    stream = await forwarder.open(TARGET)
    # Longer than a frame, and with bytes that look like channels.
    sent = bytes(range(256)) * 1024
    writing = asyncio.create_task(stream.write(sent))
    assert await read_exactly(stream, len(sent)) == sent
    await writing
    stream.abort()
    assert api.longest_frame <= 32 * 1024
    upgrade = api.seen[-1]
    assert (upgrade.path, upgrade.query) == (
        "/api/v1/namespaces/sessionctl/pods/redis-0/portforward",
        {"ports": "6379"},
    )
    assert upgrade.headers["authorization"] == f"Bearer {TOKEN}"
    assert upgrade.headers["sec-websocket-protocol"] == V4


async def test_the_ports_two_bytes_are_no_data_even_in_pieces(
    api: ApiServer, forwarder: PortForwarder, echo: int
) -> None:
    api.splits = True
    api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=echo)
    stream = await forwarder.open(TARGET)
    await stream.write(b"\x00\x01hello")
    assert await read_exactly(stream, 7) == b"\x00\x01hello"
    stream.abort()


async def test_the_end_of_the_pods_connection_is_the_end(api: ApiServer, forwarder: PortForwarder) -> None:
    async def greet(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"bye")

    async with TcpServer(greet) as server:
        api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=server.port)
        stream = await forwarder.open(TARGET)
        assert [await stream.read(), await stream.read(), await stream.read()] == [b"bye", b"", b""]
        stream.abort()


async def test_a_port_that_refuses_is_told_with_the_nodes_words(api: ApiServer, forwarder: PortForwarder) -> None:
    api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=0)
    stream = await forwarder.open(TARGET)
    with pytest.raises(ClusterError, match=r"port 6379 of pod sessionctl/redis-0 .*connection refused$") as caught:
        await stream.read()
    stream.abort()
    assert caught.value.hint == "See: kubectl -n sessionctl logs redis-0"


async def test_an_answer_for_another_port_is_refused(api: ApiServer, forwarder: PortForwarder, echo: int) -> None:
    api.answers_for = 6380
    api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=echo)
    stream = await forwarder.open(TARGET)
    with pytest.raises(ClusterError, match="another port"):
        await stream.read()
    stream.abort()


async def test_only_a_ready_pod_that_stays_is_chosen(api: ApiServer, forwarder: PortForwarder, echo: int) -> None:
    with pytest.raises(ClusterError, match=r"no pod with component=redis is ready in sessionctl \(there is none\)"):
        await forwarder.open(TARGET)
    for name in ("leaving", "starting", "other", "good"):
        api.add_pod(NAMESPACE, name, {} if name == "other" else LABELS, p6379=echo)
    api.pod("leaving")["metadata"]["deletionTimestamp"] = "2026-01-01T00:00:00Z"
    api.pod("starting")["status"] = {"phase": "Pending", "conditions": [{"type": "Ready", "status": "False"}]}
    (await forwarder.open(TARGET)).abort()
    assert api.seen[-1].path.endswith("/pods/good/portforward")
    api.remove_pod("good")
    with pytest.raises(ClusterError, match=r"\(leaving: Terminating, starting: Pending\)") as caught:
        await forwarder.open(TARGET)
    assert caught.value.hint == "See: kubectl -n sessionctl describe pods -l component=redis"


@pytest.mark.parametrize(
    ("refusal", "kind", "cause"),
    [
        (
            (403, json.dumps({"message": 'cannot get resource "pods/portforward"'})),
            ForbiddenError,
            'cannot get resource "pods/portforward"',
        ),
        ((401, "Unauthorized"), ForbiddenError, "Unauthorized"),
        ((404, json.dumps({"message": "gone"})), NotFoundError, "is not in the cluster"),
        ((500, "sandbox container is not running"), ClusterError, "sandbox container is not running"),
        ((502, "<html>a proxy's page</html>"), ClusterError, r"answered 502 to GET redis-0/portforward: $"),
    ],
)
async def test_a_refused_upgrade_becomes_our_error(
    api: ApiServer, forwarder: PortForwarder, refusal: tuple[int, str], kind: type[Exception], cause: str
) -> None:
    api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=0)
    api.refusals["/portforward"] = refusal
    with pytest.raises(kind, match=cause):
        await forwarder.open(TARGET)


async def test_a_pod_that_went_between_list_and_upgrade_is_not_found(api: ApiServer, forwarder: PortForwarder) -> None:
    api.add_pod(NAMESPACE, "redis-0", LABELS)
    with pytest.raises(NotFoundError):
        await forwarder.open(TARGET)


async def test_a_server_that_speaks_another_protocol_is_told_apart(api: ApiServer, forwarder: PortForwarder) -> None:
    api.protocols = ("SPDY/3.1+portforward.k8s.io",)
    api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=0)
    with pytest.raises(ForbiddenError):
        await forwarder.open(TARGET)


async def test_no_api_server_at_all(tmp_path: Path) -> None:
    async with ApiServer() as gone:
        kubeconfig = gone.write_kubeconfig(tmp_path, {})
    async with await KubernetesClient.connect(kubeconfig, None) as client:
        with pytest.raises(ClusterError, match="does not answer"):
            await PortForwarder(client).open(TARGET)


async def test_silence_is_questioned_and_a_dead_connection_ends(
    api: ApiServer, forwarder: PortForwarder, echo: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(websocket, "SILENCE_SECONDS", 0.1)
    api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=echo)
    stream = await forwarder.open(TARGET)
    reading = asyncio.create_task(stream.read())
    await until(lambda: api.pings > 2, "pings that are answered keep the connection")
    assert not reading.done()
    api.mute = True
    with pytest.raises(ClusterError, match="cannot be reached: no answer"):
        await reading
    stream.abort()


class TestConnections:
    """What a kubeconfig may ask for."""

    @pytest.fixture
    def authority(self, tmp_path: Path) -> Authority:
        return Authority(tmp_path)

    @pytest.mark.parametrize("way", ["direct", "proxy"])
    async def test_tls_with_a_client_certificate_and_another_server_name(
        self, authority: Authority, echo: int, tmp_path: Path, way: str, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async with ApiServer(tls=authority.server("api.example.com")) as api, ConnectProxy() as proxy:
            api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=echo)
            cluster = {"certificate-authority": str(authority.file), "tls-server-name": "api.example.com"}
            certificate, key = authority.client("somebody")
            user = {"client-certificate": str(certificate), "client-key": str(key)}
            if way == "proxy":
                monkeypatch.setenv("HTTPS_PROXY", proxy.url)
                monkeypatch.setenv("NO_PROXY", "")
            kubeconfig = api.write_kubeconfig(tmp_path, user, cluster)
            async with await KubernetesClient.connect(kubeconfig, None) as client:
                stream = await PortForwarder(client).open(TARGET)
                await stream.write(b"hello")
                assert await read_exactly(stream, 5) == b"hello"
                stream.abort()
            # The list of pods and the upgrade.
            assert proxy.tunnels == ([f"{HOST}:{api.port}"] * 2 if way == "proxy" else [])

    async def test_a_certificate_for_another_name_is_refused(self, authority: Authority, tmp_path: Path) -> None:
        async with ApiServer(tls=authority.server("api.example.com")) as api:
            cluster = {"certificate-authority": str(authority.file), "tls-server-name": "other.example.com"}
            certificate, key = authority.client("somebody")
            user = {"client-certificate": str(certificate), "client-key": str(key)}
            async with await KubernetesClient.connect(api.write_kubeconfig(tmp_path, user, cluster), None) as client:
                with pytest.raises(ClusterError) as caught:
                    await client.open_websocket("/api/v1/namespaces/n/pods/p/portforward", V4, ports="1")
                assert isinstance(caught.value.__cause__, ssl.SSLCertVerificationError)


class TestRedis:
    """The store through the listener: first-party Redis, reached by hand."""

    @pytest.fixture
    def listener(self, forwarder: PortForwarder) -> ForwardListener:
        return ForwardListener(forwarder, TARGET)

    @pytest_asyncio.fixture
    async def forwarded(self, redis: RedisServer, listener: ForwardListener) -> AsyncIterator[RedisStore]:
        endpoint = replace(redis.endpoint(), host="sessionctl-redis.sessionctl.svc", port=6379)
        async with RedisStore(endpoint, listener) as opened:
            yield opened

    async def test_it_works_as_if_it_were_direct(
        self, api: ApiServer, redis: RedisServer, forwarded: RedisStore
    ) -> None:
        api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=redis.port)
        assert (await forwarded.get_epoch()).is_open
        # The gate's own single connection goes the same way.
        assert await forwarded.admit_keda()
        assert redis.keda_is_on()

    async def test_nothing_is_asked_before_its_first_use(self, api: ApiServer, forwarded: RedisStore) -> None:
        await asyncio.sleep(0)
        assert api.seen == []

    async def test_a_replaced_pod_is_found_again(
        self, api: ApiServer, redis: RedisServer, forwarded: RedisStore
    ) -> None:
        api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=redis.port)
        await forwarded.get_epoch()
        api.remove_pod("redis-0")
        await api.cut()
        api.add_pod(NAMESPACE, "redis-1", LABELS, p6379=redis.port)
        assert (await forwarded.get_epoch()).is_open
        assert [each.path for each in api.seen if each.path.endswith("/portforward")][-1].split("/")[-2] == "redis-1"

    async def test_without_a_pod_the_error_names_redis_the_cause_and_the_next_step(
        self, api: ApiServer, redis: RedisServer, forwarded: RedisStore
    ) -> None:
        with pytest.raises(StoreError) as caught:
            await forwarded.get_epoch()
        assert caught.value.message == (
            "Redis at sessionctl-redis.sessionctl.svc:6379 does not answer: "
            "no pod with component=redis is ready in sessionctl (there is none)"
        )
        assert caught.value.hint == "See: kubectl -n sessionctl describe pods -l component=redis"
        api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=redis.port)
        assert (await forwarded.get_epoch()).is_open

    async def test_a_failure_of_the_past_is_no_cause(
        self, api: ApiServer, redis: RedisServer, forwarded: RedisStore, listener: ForwardListener
    ) -> None:
        with pytest.raises(StoreError):
            await forwarded.get_epoch()
        api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=redis.port)
        await forwarded.get_epoch()
        assert listener.failure is None

    async def test_missing_rights_are_named(self, api: ApiServer, forwarded: RedisStore) -> None:
        api.refusals["/pods"] = (403, json.dumps({"message": "pods is forbidden"}))
        with pytest.raises(StoreError, match=r"refused GET .*pods is forbidden") as caught:
            await forwarded.get_epoch()
        assert caught.value.hint == "Use a kubeconfig with the rights of the platform chart's Role."

    async def test_it_ends_with_the_store(self, api: ApiServer, redis: RedisServer, listener: ForwardListener) -> None:
        api.add_pod(NAMESPACE, "redis-0", LABELS, p6379=redis.port)
        async with RedisStore(redis.endpoint(), listener) as opened:
            await opened.get_epoch()
            host, port = opened._address or ("", 0)
            reader, writer = await asyncio.open_connection(host, port)
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection(host, port)
        with suppress(ConnectionResetError):
            assert await reader.read() == b""
        writer.close()
