"""Where errors become one line on standard error and an exit code."""

from __future__ import annotations

import os
import sys
from typing import TYPE_CHECKING, Any, Final

import typer
from typer.core import TyperGroup

from sessionctl.cli.parameters import read_plainly
from sessionctl.errors import (
    ConflictError,
    DeadlineExceededError,
    DependencyError,
    ForbiddenError,
    InvalidRequestError,
    NotFoundError,
    RateLimitedError,
    SessionctlError,
)

if TYPE_CHECKING:
    from typer._click import Context  # the class Typer vendors; its public name is a subclass

INTERRUPTED: Final = 130
EXIT_CODES: Final[dict[type[SessionctlError], int]] = {
    InvalidRequestError: 2,
    NotFoundError: 3,
    ConflictError: 4,
    ForbiddenError: 5,
    RateLimitedError: 5,
    DependencyError: 6,
    DeadlineExceededError: 7,
    SessionctlError: 1,
}
"""A subclass has the exit code of its nearest ancestor here; 1 is a bug or a failed repair."""


def exit_code(error: SessionctlError) -> int:
    """Return the exit code of an error's kind."""
    return next(EXIT_CODES[kind] for kind in type(error).__mro__ if kind in EXIT_CODES)


def one_line(error: SessionctlError) -> str:
    """Return the cause and the next step on one line, without control characters."""
    text = error.message if error.hint is None else f"{error.message.rstrip('.')}. {error.hint}"
    return "".join(character if character.isprintable() else " " for character in text)


def flush() -> None:
    """Hand over what was printed; a reader that went away, as of `sessionctl list | head`, is not an error of ours."""
    try:
        sys.stdout.flush()
    except BrokenPipeError:
        # Python would try once more when it ends, and complain.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())


class ErrorBoundary(TyperGroup):
    """Turns sessionctl's own errors into exit codes; anything else is a bug and keeps its traceback."""

    def parse_args(self, ctx: Context, args: list[str]) -> list[str]:
        """Read the options before the command."""
        read_plainly(self.get_params(ctx))
        return super().parse_args(ctx, args)

    def invoke(self, ctx: Context) -> Any:  # noqa: ANN401 - Click's signature
        """Run the command."""
        try:
            return super().invoke(ctx)
        except SessionctlError as error:
            print(f"error: {one_line(error)}", file=sys.stderr)
            raise typer.Exit(exit_code(error)) from error
        except KeyboardInterrupt:
            print("interrupted; sessionctl reconcile tidies up what was cut off", file=sys.stderr)
            raise typer.Exit(INTERRUPTED) from None
        except BrokenPipeError:
            # The reader of a pipe went away, as `sessionctl list | head` does: not an error of ours.
            sys.stderr.close()
            raise typer.Exit(0) from None
