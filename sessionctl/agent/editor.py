"""Entry point of the editor's container: ``sessionctl-editor``."""

from __future__ import annotations

import os
import signal
import sys
from typing import TYPE_CHECKING, Final, NoReturn

from sessionctl.agent.editor_settings import HELP, load_editor_settings
from sessionctl.errors import ConfigurationError, SessionctlError

if TYPE_CHECKING:
    from types import FrameType

BAD_INPUT: Final = 2
FAILED: Final = 1


def main() -> None:
    """Run the editor until SIGTERM; exit code 0 after it, 2 for a wrong setting."""
    # The first process of a container is not ended by a signal it has no handler for, and loading takes a while.
    signal.signal(signal.SIGTERM, _leave)
    if arguments := sys.argv[1:]:
        print(HELP, file=sys.stdout if arguments == ["--help"] else sys.stderr)
        sys.exit(0 if arguments == ["--help"] else BAD_INPUT)
    try:
        settings = load_editor_settings(os.environ)
        from sessionctl.agent.editor_life import run  # a wrong setting is told without loading more

        run(settings)
    except SessionctlError as error:
        print(f"error: {error.message}", file=sys.stderr)
        sys.exit(BAD_INPUT if isinstance(error, ConfigurationError) else FAILED)


def _leave(_signal: int, _frame: FrameType | None) -> NoReturn:
    sys.exit(0)


if __name__ == "__main__":
    main()
