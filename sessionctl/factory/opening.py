"""From a kubeconfig to the platform: its settings, its Secrets, and a connection to each of its parts."""

from __future__ import annotations

import asyncio
import os
from contextlib import asynccontextmanager, suppress
from typing import TYPE_CHECKING

from sessionctl.errors import ConfigurationError
from sessionctl.factory.services import Factory, Reach

if TYPE_CHECKING:
    from collections.abc import AsyncGenerator, AsyncIterator, Callable

    from sessionctl.adapters.cluster.client import KubernetesClient
    from sessionctl.adapters.store.connection import Route
    from sessionctl.factory.services import DirectOptions
    from sessionctl.models import JsonObject
    from sessionctl.settings import PlatformRedis


def _ignore(_: str) -> None:
    """Progress that nobody watches."""


@asynccontextmanager
async def open_factory(
    options: DirectOptions, progress: Callable[[str], None] = _ignore, *, with_helm: bool = False
) -> AsyncIterator[Factory]:
    """Find the platform through a kubeconfig, and close every connection at the end.

    ``with_helm`` asks Helm for its version at once, while everything else is loaded. Raises ConfigurationError (no
    kubeconfig, no platform, wrong settings) and ClusterError.
    """
    async with _helm_check(options.helm if with_helm else None) as helm_checked:
        from sessionctl.adapters.cluster.client import KubernetesClient

        async with await KubernetesClient.connect(options.kubeconfig, options.context) as client:
            factory = await _assemble(options, client, progress, helm_checked)
            async with factory.store:
                try:
                    yield factory
                finally:
                    await factory.journal.close()


@asynccontextmanager
async def _helm_check(binary: str | None) -> AsyncGenerator[asyncio.Task[str] | None, None]:
    if binary is None:
        yield None
        return
    from sessionctl.adapters.helm import check_version

    task = asyncio.create_task(check_version(binary))
    await asyncio.sleep(0)  # the program starts now and runs beside the imports that follow
    try:
        yield task
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError, Exception):
            await task


async def _assemble(
    options: DirectOptions,
    client: KubernetesClient,
    progress: Callable[[str], None],
    helm_checked: asyncio.Task[str] | None,
) -> Factory:
    from sessionctl.adapters.cluster.kubernetes_cluster import KubernetesCluster
    from sessionctl.adapters.cluster.platform import PlatformReader
    from sessionctl.adapters.metrics import NoMetrics
    from sessionctl.adapters.store.redis_store import RedisStore
    from sessionctl.core.journal import Journal
    from sessionctl.models import RedisEndpoint
    from sessionctl.settings import load_platform, load_settings

    reader = PlatformReader(client, options.platform_namespace)
    documents = await reader.read_documents()
    where = f"ConfigMap {documents.namespace}/sessionctl-platform"
    settings = load_settings(f"{where}: config.yaml", _mapping(documents.config), os.environ)
    platform = load_platform(f"{where}: platform.yaml", _mapping(documents.platform))
    secret = await reader.read_secret(platform.redis.secret_name)
    by_forward = options.reach is Reach.PORT_FORWARD or (options.reach is Reach.AUTO and not client.in_cluster)
    # A Redis outside the platform release has an address of its own, and perhaps no pod.
    forwarded = by_forward and platform.redis.pod_selector
    route = _forward_to_redis(client, options.platform_namespace, platform.redis) if forwarded else None
    endpoint = RedisEndpoint(
        host=platform.redis.host,
        port=platform.redis.port,
        database=platform.redis.database,
        tls=platform.redis.tls,
        username=secret.value("username"),
        password=secret.value("password"),
        keda_username=platform.keda.username,
    )
    store, metrics = RedisStore(endpoint, route, settings.events, settings.api.idempotency_lifetime), NoMetrics()
    return Factory(
        options=options,
        settings=settings,
        platform=platform,
        cluster=KubernetesCluster(client, platform.sessions_namespace),
        store=store,
        reader=reader,
        progress=progress,
        client=client,
        by_forward=by_forward,
        metrics=metrics,
        journal=Journal(store, metrics),
        helm_checked=helm_checked,
    )


def _forward_to_redis(client: KubernetesClient, namespace: str, redis: PlatformRedis) -> Route:
    from sessionctl.adapters.cluster.listener import ForwardListener
    from sessionctl.adapters.cluster.portforward import PodPort, PortForwarder

    return ForwardListener(PortForwarder(client), PodPort(namespace, redis.pod_selector, redis.port))


def _mapping(text: str) -> JsonObject:
    import yaml

    from sessionctl.adapters.files import load_yaml

    try:
        document = load_yaml(text)
    except yaml.YAMLError as error:
        msg = f"the platform's configuration is not YAML: {str(error).splitlines()[0]}"
        raise ConfigurationError(msg, hint="Upgrade the platform release.") from error
    if document is None:
        return {}
    if not isinstance(document, dict):
        msg = "the platform's configuration is not a mapping"
        raise ConfigurationError(msg, hint="Upgrade the platform release.")
    return document
