"""Entry point: signals first, then the configuration, then the server."""

from __future__ import annotations

import gc
import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from sessionctl.agent.settings import HELP, load_settings
from sessionctl.errors import ConfigurationError, SessionctlError

if TYPE_CHECKING:
    from types import FrameType

BAD_INPUT: Final = 2
FAILED: Final = 1


def main() -> None:
    """Run the agent until SIGTERM; exit code 0 after it, 2 for a wrong setting, 1 when the workspace cannot be used."""
    if sys.argv[1:2] == ["hold"]:
        from sessionctl.agent.hold import hold

        hold(sys.argv[2:], os.environ)
    # The first process of a container is not ended by a signal it has no handler for, and loading takes a while.
    signal.signal(signal.SIGTERM, _leave)
    # Nothing that is loaded becomes garbage. It is looked for again once the agent is ready.
    gc.disable()
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    if arguments := sys.argv[1:]:
        print(HELP, file=sys.stdout if arguments == ["--help"] else sys.stderr)
        sys.exit(0 if arguments == ["--help"] else BAD_INPUT)
    try:
        settings = load_settings(os.environ)
        from sessionctl.agent.serve import run  # a wrong setting is told without loading a server

        run(settings)
    except SessionctlError as error:
        _report(error)
        sys.exit(BAD_INPUT if isinstance(error, ConfigurationError) else FAILED)
    finally:
        gc.freeze()  # a last search would take a tenth of the time to exit


def _report(error: SessionctlError) -> None:
    text = error.message if error.hint is None else f"{error.message.rstrip('.')}. {error.hint}"
    line = "".join(character if character.isprintable() else " " for character in text)
    print(f"error: {line}", file=sys.stderr)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)
