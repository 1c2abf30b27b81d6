"""create, wake, sleep, delete, restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sessionctl.cli.options import Output, OutputOption, SessionArgument, TimeoutOption, WaitOption, duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sessionctl.cli.backend import Backend
    from sessionctl.wire import Action, CreatedSession


def create(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", "-u", help="Your product's id of the user; any text, kept as it is.")],
    tenant: Annotated[
        str | None,
        typer.Option(help="Tenant the session belongs to (default: default; through the API the key's, and no other)."),
    ] = None,
    profile: Annotated[str, typer.Option(help="Profile that gives size and image.")] = "default",
    uuid: Annotated[
        str | None,
        typer.Option("--uuid", metavar="UUID", help="Id to use; makes the call repeatable. Not through the API."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a session for a user: asleep, with its own id, volume and address.

    Examples:

      sessionctl create --user alice

      sessionctl create --user alice --profile large -o json | jq -r .uuid
    """
    from sessionctl.cli.backend import Wanted
    from sessionctl.cli.run import ask
    from sessionctl.core.identity import parse_name, parse_session_id, parse_user_id

    wanted = Wanted(
        user_id=parse_user_id(user),
        tenant=parse_name("tenant", tenant) if tenant is not None else None,
        profile=parse_name("profile", profile),
        session_id=parse_session_id(uuid) if uuid is not None else None,
    )

    async def work(backend: Backend) -> CreatedSession:
        return await backend.create(wanted)

    answer = ask(ctx, work, with_helm=True)

    from sessionctl.cli.render import facts, show

    rows = [("UUID", answer["uuid"]), ("USER", answer["user_id"]), ("STATUS", answer["status"]), ("URL", answer["url"])]
    show(answer, output, facts(rows))


def wake(
    ctx: typer.Context,
    uuid: SessionArgument,
    wait: WaitOption = False,
    timeout: TimeoutOption = "2m",
    output: OutputOption = Output.TABLE,
) -> None:
    """Wake a session; one that is awake is counted as used now.

    Examples:

      sessionctl wake 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11

      sessionctl wake --wait --timeout 30s 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11
    """
    from sessionctl.core.identity import parse_session_id

    session_id, patience = parse_session_id(uuid), duration("--timeout", timeout)

    async def work(backend: Backend) -> Action:
        return await backend.wake(session_id, patience if wait else None)

    _act(ctx, output, work)


def sleep(
    ctx: typer.Context,
    uuid: SessionArgument,
    force: Annotated[
        bool, typer.Option("--force", help="Cancel the messages that wait, each with its outcome.")
    ] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a session to sleep now, whatever its idle time; refused while messages wait.

    Examples:

      sessionctl sleep 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11

      sessionctl sleep --force 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11
    """
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(backend: Backend) -> Action:
        return await backend.sleep(session_id, force=force)

    _act(ctx, output, work)


def delete(
    ctx: typer.Context,
    uuid: SessionArgument,
    purge: Annotated[bool, typer.Option("--purge", help="Remove the volume too: the files are gone for good.")] = False,
    wait: WaitOption = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Delete a session; its files are kept for the retention time unless --purge is given.

    Examples:

      sessionctl delete 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11

      sessionctl delete --purge --wait 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11
    """
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(backend: Backend) -> Action:
        return await backend.delete(session_id, purge=purge, wait=wait)

    _act(ctx, output, work)


def restore(ctx: typer.Context, uuid: SessionArgument, output: OutputOption = Output.TABLE) -> None:
    """Bring a deleted session back within its retention time: same id, same files, asleep.

    Example:

      sessionctl restore 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11
    """
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(backend: Backend) -> Action:
        return await backend.restore(session_id)

    _act(ctx, output, work)


def _act(ctx: typer.Context, output: Output, work: Callable[[Backend], Awaitable[Action]]) -> None:
    from sessionctl.cli.render import facts, show
    from sessionctl.cli.run import ask

    answer = ask(ctx, work)
    show(answer, output, facts([("UUID", answer.uuid), ("STATUS", answer.status), ("NOTICE", answer.notice)]))
