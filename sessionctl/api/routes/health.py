"""healthz, readyz, metrics: for whoever runs the manager. No credential, and nothing of any session."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable
from http import HTTPStatus
from typing import Annotated, Final, Literal

from fastapi import APIRouter, Query, Response

from sessionctl.api.guard import Given, answers
from sessionctl.api.services import Services
from sessionctl.errors import InvalidRequestError, SessionctlError
from sessionctl.models import Dependency, SessionId
from sessionctl.wire import Health

PATIENCE_SECONDS: Final = 1.0
NO_SESSION: Final = SessionId("00000000-0000-4000-8000-000000000000")

router = APIRouter(tags=["operation"])


@router.get("/healthz", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def healthz() -> Response:
    """Answer as long as the process does."""
    return Response("ok\n", media_type="text/plain")


@router.get(
    "/readyz",
    response_model_exclude_none=True,
    responses=answers(InvalidRequestError) | {503: {"model": Health, "description": "starting or draining"}},
)
async def readyz(
    services: Given,
    response: Response,
    verbose: Annotated[
        Literal["", "true", "false", "1", "0"] | None, Query(description="Ask the dependencies too.")
    ] = None,
) -> Health:
    """Say whether requests should be sent here: synced once, and not draining."""
    life = services.life
    status: Literal["starting", "ready", "draining"] = "ready"
    if life.draining.is_set():
        status = "draining"
    elif not life.synced.is_set():
        status = "starting"
    if status != "ready":
        response.status_code = HTTPStatus.SERVICE_UNAVAILABLE
    asked = verbose in {"", "true", "1"}
    return Health(status=status, dependencies=await _dependencies(services) if asked else None)


async def _dependencies(services: Services) -> dict[str, bool]:
    redis, cluster = await asyncio.gather(
        _answers(services.store.get_epoch()), _answers(services.live.find_workspace(NO_SESSION))
    )
    return {
        Dependency.REDIS: redis,
        Dependency.CLUSTER: cluster,
        Dependency.WATCH: services.life.synced.is_set() and services.view.stale_for() is None,
    }


async def _answers(call: Awaitable[object]) -> bool:
    try:
        async with asyncio.timeout(PATIENCE_SECONDS):
            await call
    except (SessionctlError, TimeoutError):
        return False
    return True


@router.get("/metrics", response_class=Response, responses={200: {"content": {"text/plain": {}}}})
async def metrics(services: Given) -> Response:
    """Return the metrics in the format of Prometheus."""
    body, content_type = services.metrics.render()
    return Response(body, headers={"Content-Type": content_type})
