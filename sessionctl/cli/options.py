"""Options that several commands share."""

from __future__ import annotations

from enum import StrEnum
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from datetime import timedelta


class Output(StrEnum):
    """How an answer is printed."""

    TABLE = "table"
    JSON = "json"
    YAML = "yaml"


def _complete_session(incomplete: str) -> list[str]:
    from sessionctl.cli.completion import session_ids

    return session_ids(incomplete)


def _complete_message(ctx: typer.Context, incomplete: str) -> list[str]:
    from sessionctl.cli.completion import message_ids

    return message_ids(str(ctx.params.get("uuid") or ""), incomplete)


def duration(name: str, text: str) -> timedelta:
    """Read a duration of the command line; raises InvalidRequestError."""
    from sessionctl.errors import InvalidRequestError
    from sessionctl.settings import parse_duration

    try:
        return parse_duration(text)
    except ValueError as error:
        msg = f"{name}: {error}"
        raise InvalidRequestError(msg) from None


OutputOption = Annotated[Output, typer.Option("--output", "-o", help="How to print the answer.")]
SessionArgument = Annotated[
    str,
    typer.Argument(metavar="UUID", help="The session's id, as create printed it.", autocompletion=_complete_session),
]
MessageIdArgument = Annotated[
    str,
    typer.Argument(metavar="MESSAGE", help="The message's id, as messages shows it.", autocompletion=_complete_message),
]
WaitOption = Annotated[bool, typer.Option("--wait", help="Return when it is done, with progress on standard error.")]
TimeoutOption = Annotated[
    str, typer.Option("--timeout", metavar="DURATION", help="How long --wait waits, for example 30s or 5m.")
]
