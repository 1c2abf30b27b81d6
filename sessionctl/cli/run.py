"""From a synchronous command to core: options from the context, one event loop, progress on standard error."""

from __future__ import annotations

import gc
import os
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING, TypeVar

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from typer import Context

    from sessionctl.cli.backend import Backend
    from sessionctl.factory import Factory, Reach

Answer = TypeVar("Answer")


@dataclass(frozen=True)
class GlobalOptions:
    """The options before the command; None where the default applies."""

    kubeconfig: str | None = None
    context: str | None = None
    platform_namespace: str | None = None
    quiet: bool = False


def global_options(ctx: Context | None) -> GlobalOptions:
    """Return what the root command read."""
    found = ctx.find_root().obj if ctx is not None else None
    return found if isinstance(found, GlobalOptions) else GlobalOptions()


def call(
    ctx: Context | None, work: Callable[[Factory], Awaitable[Answer]], *, with_helm: bool = False, lasting: bool = False
) -> Answer:
    """Open the platform, run ``work`` on it and return its answer; ``lasting`` work may run long and hold much.

    Raises InvalidRequestError where commands go to the Session API, which does not offer this one.
    """
    from sessionctl.cli.target import api_url, refuse_api

    if api_url(global_options(ctx)) is not None:
        raise refuse_api(ctx.command_path if ctx is not None else "this")
    return _call_direct(ctx, work, with_helm=with_helm, lasting=lasting)


def ask(
    ctx: Context | None, work: Callable[[Backend], Awaitable[Answer]], *, with_helm: bool = False, lasting: bool = False
) -> Answer:
    """As ``call``, for what the Session API offers too: ``work`` is done through it if its URL is set."""
    from sessionctl.cli.target import api_url

    url = api_url(global_options(ctx))
    if url is not None:
        return _call_remote(ctx, url, work, lasting=lasting)

    async def direct(factory: Factory) -> Answer:
        from sessionctl.cli.direct import DirectBackend

        return await work(DirectBackend(factory))

    return _call_direct(ctx, direct, with_helm=with_helm, lasting=lasting)


def _call_remote(
    ctx: Context | None, url: str, work: Callable[[Backend], Awaitable[Answer]], *, lasting: bool
) -> Answer:
    if not lasting:
        # As for a direct call.
        gc.disable()
    import asyncio

    from sessionctl.cli.remote import PATIENCE, RemoteBackend
    from sessionctl.cli.target import read_key
    from sessionctl.client import SessionClient

    progress = progress_of(ctx)

    async def run() -> Answer:
        async with SessionClient(url, read_key(), patience=PATIENCE, report=progress) as client:
            return await work(RemoteBackend(client, progress))

    try:
        return asyncio.run(run())
    finally:
        end_progress()


def _call_direct(
    ctx: Context | None, work: Callable[[Factory], Awaitable[Answer]], *, with_helm: bool, lasting: bool
) -> Answer:
    # A command is over before there is garbage worth collecting, and looking for it costs a tenth of the command.
    gc.disable()
    import asyncio

    from sessionctl.factory import DirectOptions, open_factory

    given = global_options(ctx)
    options = DirectOptions(
        kubeconfig=given.kubeconfig,
        context=given.context,
        platform_namespace=given.platform_namespace or os.environ.get("SESSIONCTL_PLATFORM_NAMESPACE", "sessionctl"),
        helm=os.environ.get("SESSIONCTL_HELM", "helm"),
        reach=_reach(),
    )

    async def run() -> Answer:
        async with open_factory(options, progress_of(ctx), with_helm=with_helm) as factory:
            if lasting:
                gc.enable()
            return await work(factory)

    try:
        return asyncio.run(run())
    finally:
        end_progress()


def progress_of(ctx: Context | None) -> Callable[[str], None]:
    """Return what is told of each step: standard error, or nobody."""
    return _ignore if global_options(ctx).quiet else show_progress


def _reach() -> Reach:
    from sessionctl.errors import InvalidRequestError
    from sessionctl.factory import Reach

    given = os.environ.get("SESSIONCTL_REACH", Reach.AUTO)
    try:
        return Reach(given)
    except ValueError:
        msg = f"SESSIONCTL_REACH is {given[:80]!r}"
        raise InvalidRequestError(msg, hint=f"Set it to {', '.join(Reach)}, or not at all.") from None


def show_progress(step: str) -> None:
    """Print a step on standard error: overwritten on a terminal, a line each elsewhere."""
    if sys.stderr.isatty():
        print(f"\r\033[K{step} ...", end="", file=sys.stderr, flush=True)
    else:
        print(f"{step} ...", file=sys.stderr, flush=True)


def end_progress() -> None:
    """Clear the line of the last step on a terminal."""
    if sys.stderr.isatty():
        print("\r\033[K", end="", file=sys.stderr, flush=True)


def _ignore(_: str) -> None:
    """Progress that nobody wants."""
