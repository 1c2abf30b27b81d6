"""chat and cancel: what is said to a session's agent."""

from __future__ import annotations

import sys
from typing import TYPE_CHECKING, Annotated, Final

import typer

from sessionctl.cli.options import MessageIdArgument, Output, OutputOption, SessionArgument, duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable
    from datetime import timedelta

    from sessionctl.cli.backend import Backend
    from sessionctl.cli.exchange import Exchange
    from sessionctl.models import SessionId
    from sessionctl.wire import CancelledChat, ChatReply, QueuedChat

INTERRUPTED: Final = 130
EXIT_CODES: Final = {"done": 0, "failed": 1, "interrupted": 8, "cancelled": 9}
"""How a message ended, as the command that waited for it says it."""
MOST_BYTES: Final = 16 << 20
"""Of standard input: whatever is longer is no message."""
PROMPT: Final = "> "


def chat(
    ctx: typer.Context,
    uuid: SessionArgument,
    message: Annotated[
        str | None,
        typer.Argument(metavar="MESSAGE", help="The message; - reads it from standard input.", show_default=False),
    ] = None,
    wait: Annotated[
        bool, typer.Option("--wait/--no-wait", help="Wait for the reply, or return when the message is stored.")
    ] = True,
    timeout: Annotated[
        str | None,
        typer.Option(
            "--timeout", metavar="DURATION", help="How long to wait for the end, for example 5m (default as it takes)."
        ),
    ] = None,
    key: Annotated[
        str | None,
        typer.Option("--key", metavar="TEXT", help="Idempotency key: the same call with it again is the same message."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Send a message to a session's agent, waking the session, and print the reply as it comes.

    Without MESSAGE it is read from standard input, or, on a terminal, asked for again and again: Ctrl-C cancels the
    reply under way, Ctrl-D ends. JSON and YAML are printed when the reply is complete.

    Exit codes, beside those of every command: 1 the agent failed, 8 it was cut off midway, 9 it was cancelled.

    Examples:

      sessionctl chat 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 "What is in this folder?"

      sessionctl chat 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11

      git diff | sessionctl chat -o json 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 | jq -r .reply
    """
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)
    patience = duration("--timeout", timeout) if timeout is not None else None
    if message is None and sys.stdin is not None and sys.stdin.isatty():
        _converse(ctx, session_id, patience, output)
        return
    text = _read_input() if message is None or message == "-" else _argument(message)
    if not wait:
        _send(ctx, session_id, text, key, output)
        return

    async def work(backend: Backend) -> tuple[ChatReply, bool]:
        exchange = _exchange(ctx, backend, session_id, output)
        return await exchange.run(text, key, patience), exchange.interrupted

    reply, interrupted = _ask(ctx, work)
    _finish(reply, output)
    code = EXIT_CODES[reply.status]
    if interrupted and code:
        code = INTERRUPTED
    if code:
        raise typer.Exit(code)


def _ask(ctx: typer.Context, work: Callable[[Backend], Awaitable[tuple[ChatReply, bool]]]) -> tuple[ChatReply, bool]:
    from sessionctl.cli.run import ask

    try:
        return ask(ctx, work, lasting=True)
    except KeyboardInterrupt:
        print("left; the message goes on by itself if it was stored", file=sys.stderr)
        raise typer.Exit(INTERRUPTED) from None


def _argument(message: str) -> str:
    from sessionctl.errors import InvalidRequestError

    try:
        message.encode()
    except UnicodeEncodeError:
        raise InvalidRequestError("the message is not text in UTF-8", hint="Send it on standard input.") from None
    if not message:
        raise InvalidRequestError("the message is empty", hint="Without it, it is read from standard input.")
    return message


def _read_input() -> str:
    from sessionctl.errors import InvalidRequestError

    given = sys.stdin.buffer.read(MOST_BYTES + 1) if sys.stdin is not None else b""
    if len(given) > MOST_BYTES:
        raise InvalidRequestError(f"standard input has more than {MOST_BYTES >> 20} MiB", hint="Send less.")
    try:
        text = given.decode()
    except UnicodeDecodeError:
        raise InvalidRequestError("standard input is not text in UTF-8", hint="Convert it first.") from None
    # The end of its last line is not part of what somebody says.
    text = text.removesuffix("\n").removesuffix("\r")
    if not text:
        raise InvalidRequestError("the message is empty", hint="Give it as an argument, or on standard input.")
    return text


def _send(ctx: typer.Context, session_id: SessionId, text: str, key: str | None, output: Output) -> None:
    from sessionctl.cli.render import facts, show
    from sessionctl.cli.run import ask

    async def work(backend: Backend) -> QueuedChat:
        return await backend.send(session_id, text, key)

    answer = ask(ctx, work)
    show(answer, output, facts([("UUID", answer.uuid), ("STATUS", answer.status), ("MESSAGE", answer.message_id)]))


def _exchange(ctx: typer.Context, backend: Backend, session_id: SessionId, output: Output) -> Exchange:
    from sessionctl.cli.exchange import Exchange, writer
    from sessionctl.cli.run import progress_of

    show = writer() if output is Output.TABLE else _nothing
    return Exchange(backend, session_id, show=show, note=_note, progress=progress_of(ctx))


def _finish(reply: ChatReply, output: Output) -> None:
    from sessionctl.cli.exchange import sentence
    from sessionctl.cli.render import show

    if output is Output.TABLE:
        if reply.reply and not reply.reply.endswith("\n"):
            print(flush=True)
    else:
        show(reply, output, [])
    if (said := sentence(reply)) is not None:
        _note(said)


def _converse(ctx: typer.Context, session_id: SessionId, patience: timedelta | None, output: Output) -> None:
    from sessionctl.cli.boundary import one_line
    from sessionctl.cli.run import ask
    from sessionctl.errors import SessionctlError

    async def work(backend: Backend) -> None:
        exchange = _exchange(ctx, backend, session_id, output)
        # Nothing but this waits while somebody types.
        while (text := _prompt()) is not None:
            if not text.strip():
                continue
            try:
                _finish(await exchange.run(text, None, patience), output)
            except SessionctlError as error:
                _note(f"error: {one_line(error)}")
            except KeyboardInterrupt:
                _note("left; the message goes on by itself if it was stored")

    ask(ctx, work, lasting=True)


def _prompt() -> str | None:
    """Return the next line; None at the end of input."""
    import signal
    from contextlib import suppress

    with suppress(ImportError):
        import readline  # noqa: F401 - lines can be edited with it
    # asyncio has its own way with Ctrl-C, which would wait for the line.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    while True:
        try:
            if sys.stdout.isatty():
                return input(PROMPT)
            print(PROMPT, end="", file=sys.stderr, flush=True)
            return input()
        except EOFError:
            print(file=sys.stderr)
            return None
        except KeyboardInterrupt:
            _note("\nCtrl-D ends")


def _note(text: str) -> None:
    from sessionctl.cli.run import end_progress

    end_progress()
    print(text, file=sys.stderr, flush=True)


def _nothing(_: str) -> None:
    """A piece of a reply that is printed as a whole."""


def cancel(
    ctx: typer.Context, uuid: SessionArgument, message_id: MessageIdArgument, output: OutputOption = Output.TABLE
) -> None:
    """Cancel a message that waits or runs; what waits behind it goes on.

    Examples:

      sessionctl cancel 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 7d4b1c1e-1f0a-4c5e-9d59-4a4d9f1f2b55
    """
    from sessionctl.cli.render import facts, show
    from sessionctl.cli.run import ask
    from sessionctl.core.identity import parse_message_id, parse_session_id

    session_id, message = parse_session_id(uuid), parse_message_id(message_id)

    async def work(backend: Backend) -> CancelledChat:
        return await backend.cancel(session_id, message)

    answer = ask(ctx, work)
    show(answer, output, facts([("UUID", answer.uuid), ("MESSAGE", answer.message_id), ("STATUS", answer.status)]))
