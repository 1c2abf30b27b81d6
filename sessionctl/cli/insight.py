"""why, events, messages, access: what a session does, and the way into it."""

from __future__ import annotations

import json
import sys
from contextlib import aclosing
from typing import TYPE_CHECKING, Annotated

import typer

from sessionctl.cli.options import Output, OutputOption, SessionArgument

if TYPE_CHECKING:
    from sessionctl.cli.backend import Backend
    from sessionctl.wire import Access, Conversation, Event, Why

INTERRUPTED = 130
WIDEST_EVENT = 18
MOST_OF_A_MESSAGE = 60
PAGE = 100


def why(ctx: typer.Context, uuid: SessionArgument, output: OutputOption = Output.TABLE) -> None:
    """Show what holds a session awake, when it will sleep, why it does not start, and its limits.

    Example:

      sessionctl why 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11
    """
    from sessionctl.cli.render import facts, moment, show
    from sessionctl.cli.run import ask
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(backend: Backend) -> Why:
        return await backend.why(session_id)

    answer = ask(ctx, work)
    rows = [
        ("UUID", answer.uuid),
        ("STATUS", answer.status),
        ("REASON", answer.reason),
        ("AWAKE", "yes" if answer.awake else "no"),
    ]
    rows += [
        ("HELD BY", f"{holder.kind}: {holder.detail}" + (f" (until {moment(holder.until)})" if holder.until else ""))
        for holder in answer.held_by
    ]
    rows += [
        ("SLEEPS AT", moment(answer.sleeps_at)),
        ("EXPIRES AT", moment(answer.expires_at)),
        ("GONE FOR GOOD AT", moment(answer.deleted_for_good_at)),
        *(("LIMIT", limit) for limit in answer.limits),
    ]
    show(answer, output, facts(rows))


def events(
    ctx: typer.Context,
    uuid: SessionArgument,
    follow: Annotated[bool, typer.Option("--follow", "-f", help="Go on with what happens, until stopped.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show what happened to a session, a line each, oldest first; as JSON, an object a line.

    Examples:

      sessionctl events 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11

      sessionctl events --follow -o json 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 | jq -r .event
    """
    from sessionctl.cli.run import ask
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(backend: Backend) -> None:
        async with aclosing(backend.events(session_id, follow=follow)) as happened:
            async for event in happened:
                print(_line(event, output), flush=True)

    try:
        ask(ctx, work, lasting=follow)
    except KeyboardInterrupt:
        # It is how following ends.
        raise typer.Exit(INTERRUPTED) from None


def _line(event: Event, output: Output) -> str:
    match output:
        case Output.JSON:
            return json.dumps(event.model_dump(mode="json"), ensure_ascii=False)
        case Output.YAML:
            import yaml

            text = yaml.safe_dump(event.model_dump(mode="json"), sort_keys=False, allow_unicode=True)
            return f"---\n{text}".rstrip("\n")
        case Output.TABLE:
            from sessionctl.cli.render import moment, table

            about = [event.detail] if event.detail else []
            about += [f"message {event.message_id}"] if event.message_id else []
            about += [event.outcome] if event.outcome else []
            about += [f"attempt {event.attempt}"] if event.attempt and event.attempt > 1 else []
            about += [_short(event.text)] if event.text else []
            return table([[moment(event.at) or "", event.event.ljust(WIDEST_EVENT), ", ".join(about)]])


def messages(
    ctx: typer.Context,
    uuid: SessionArgument,
    limit: Annotated[int, typer.Option("--limit", "-n", metavar="NUMBER", help="How many of the newest.")] = 100,
    before: Annotated[
        str | None, typer.Option("--before", metavar="ID", help="Only what came before this message.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show a session's conversation, oldest first, without waking it: asleep, as much of it as Redis holds.

    Examples:

      sessionctl messages 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11

      sessionctl messages -n 1 -o json 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 | jq -r .messages[].reply
    """
    from sessionctl.cli.render import show
    from sessionctl.cli.run import ask, global_options
    from sessionctl.core.identity import parse_message_id, parse_session_id
    from sessionctl.errors import InvalidRequestError

    session_id = parse_session_id(uuid)
    if limit < 1:
        raise InvalidRequestError("--limit takes 1 or more", hint="Leave it out for the newest 100.")
    first = parse_message_id(before) if before is not None else None

    async def work(backend: Backend) -> Conversation:
        page = whole = await backend.messages(session_id, first, min(limit, PAGE))
        while page.cursor is not None and len(whole.messages) < limit:
            page = await backend.messages(session_id, page.cursor, min(limit - len(whole.messages), PAGE))
            joined = {"messages": page.messages + whole.messages, "cursor": page.cursor}
            whole = whole.model_copy(update=joined | {"partial": whole.partial or page.partial})
        return whole

    answer = ask(ctx, work)
    if answer.partial and output is Output.TABLE and not global_options(ctx).quiet:
        print("only what Redis holds is shown: the workspace sleeps, or does not answer", file=sys.stderr)
    rows = [["ID", "STATUS", "MESSAGE", "REPLY"]]
    rows += [[each.message_id, each.status, _short(each.message), _short(each.reply or "")] for each in answer.messages]
    show(answer, output, rows)


def _short(text: str) -> str:
    line = " ".join(text.split())
    return line if len(line) <= MOST_OF_A_MESSAGE else line[: MOST_OF_A_MESSAGE - 1] + "…"


def access(ctx: typer.Context, uuid: SessionArgument, output: OutputOption = Output.TABLE) -> None:
    """Make a one-time address of a session's editor, and a token for this session alone; through the API only.

    Example:

      sessionctl access 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 -o json | jq -r .url
    """
    from sessionctl.cli.render import facts, moment, show
    from sessionctl.cli.run import ask
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(backend: Backend) -> Access:
        return await backend.access(session_id)

    answer = ask(ctx, work)
    rows = facts(
        [
            ("URL", answer.url),
            ("URL UNTIL", moment(answer.url_expires_at)),
            ("TOKEN", answer.token),
            ("TOKEN UNTIL", moment(answer.expires_at)),
            ("SCOPES", " ".join(answer.scopes)),
        ]
    )
    show(answer, output, rows)
