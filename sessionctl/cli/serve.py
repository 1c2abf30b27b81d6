"""serve: the session manager as a process."""

from __future__ import annotations

import os
import signal
import sys
import time
from typing import TYPE_CHECKING, Annotated

import typer

from sessionctl.cli.options import duration

if TYPE_CHECKING:
    from types import FrameType

    from sessionctl.factory import Factory

KEYS_VARIABLE = "SESSIONCTL_API_KEYS"
FIRST_PAUSE_SECONDS = 0.5
LONGEST_PAUSE_SECONDS = 5.0


def serve(
    ctx: typer.Context,
    host: Annotated[str | None, typer.Option(metavar="ADDRESS", help="Address to listen on (default all).")] = None,
    port: Annotated[int, typer.Option(metavar="NUMBER", help="Port to listen on; 0 takes a free one.")] = 8000,
    api_keys: Annotated[
        str | None,
        typer.Option("--api-keys", metavar="DIR", help=f"Directory with a file per API key ({KEYS_VARIABLE})."),
    ] = None,
    drain: Annotated[
        str | None,
        typer.Option("--drain", metavar="DURATION", help="How long to go on answering after SIGTERM (api.drain)."),
    ] = None,
) -> None:
    """Serve the Session API, and keep sessions as they should be, until SIGTERM; a second one ends it at once.

    Any number of these may run at once, and any of them may be killed at any time.

    Example:

      sessionctl serve --api-keys /etc/sessionctl/api-keys
    """
    from sessionctl.cli.boundary import one_line
    from sessionctl.cli.run import call
    from sessionctl.errors import DependencyError, ForbiddenError, InvalidRequestError

    directory = api_keys or os.environ.get(KEYS_VARIABLE)
    if not directory:
        raise InvalidRequestError("no directory with API keys", hint=f"Give --api-keys, or set {KEYS_VARIABLE}.")
    given = duration("--drain", drain) if drain is not None else None
    # The first process of a container is not ended by a signal it has no handler for, and starting takes a while.
    signal.signal(signal.SIGTERM, _leave)

    async def work(factory: Factory) -> None:
        from sessionctl.api.process import Address, run
        from sessionctl.cli.logs import log_to_stderr

        log_to_stderr(factory.settings.logging.level)
        patience = given if given is not None else factory.settings.api.drain
        await run(factory, Address(host, port), directory, patience)

    pause = FIRST_PAUSE_SECONDS
    while True:
        try:
            call(ctx, work, lasting=True)
        except (DependencyError, ForbiddenError) as error:
            # Not the end of the process: whoever restarts it waits longer and longer, and an API server that has just
            # started refuses everybody until it has read its roles.
            print(f"not started yet: {one_line(error)}", file=sys.stderr, flush=True)
            time.sleep(pause)
            pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        else:
            return


def _leave(_signal: int, _frame: FrameType | None) -> None:
    sys.exit(0)
