"""create, wake, sleep, delete, restore."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated, Literal

import typer

from sessionctl.cli.options import Output, OutputOption, SessionArgument, TimeoutOption, WaitOption, duration

if TYPE_CHECKING:
    from collections.abc import Awaitable, Callable

    from sessionctl.factory import Factory
    from sessionctl.models import SessionId
    from sessionctl.wire import CreatedSession

Verb = Literal["wake", "sleep", "delete", "restore"]


def create(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", "-u", help="Your product's id of the user; any text, kept as it is.")],
    tenant: Annotated[str, typer.Option(help="Tenant the session belongs to.")] = "default",
    profile: Annotated[str, typer.Option(help="Profile that gives size and image.")] = "default",
    uuid: Annotated[
        str | None, typer.Option("--uuid", metavar="UUID", help="Id to use; makes the call repeatable.")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Create a session for a user: asleep, with its own id, volume and address.

    Examples:

      sessionctl create --user alice

      sessionctl create --user alice --profile large -o json | jq -r .uuid
    """
    import asyncio
    from importlib import import_module

    from sessionctl.cli.run import call
    from sessionctl.core.identity import parse_name, parse_session_id, parse_user_id
    from sessionctl.core.sessions import MadeSession, NewSession

    request = NewSession(
        user_id=parse_user_id(user),
        tenant=parse_name("tenant", tenant),
        profile=parse_name("profile", profile),
        session_id=parse_session_id(uuid) if uuid is not None else None,
    )

    async def work(factory: Factory) -> tuple[MadeSession, str]:
        service = await factory.create_session_service()
        # What prints the answer is loaded while Helm works.
        made, _ = await asyncio.gather(
            service.create(request), asyncio.to_thread(import_module, "sessionctl.cli.render")
        )
        return made, factory.settings.sessions.domain

    made, domain = call(ctx, work, with_helm=True)

    from sessionctl.cli.render import facts, show
    from sessionctl.labels import session_url
    from sessionctl.models import SessionStatus

    answer: CreatedSession = {
        "uuid": made.session_id,
        "user_id": made.owner.user_id,
        "status": str(SessionStatus.CREATED),
        "created_at": made.owner.created_at.isoformat().replace("+00:00", "Z"),
        "url": session_url(made.session_id, domain),
    }
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

    async def work(factory: Factory) -> tuple[str, str | None]:
        notice = await factory.demand.wake(session_id)
        if not wait:
            return "queued", notice
        factory.progress("waiting for the pod")
        await factory.create_waiter().wait_awake(session_id, patience)
        return "active", notice

    _act(ctx, "wake", session_id, output, work)


def sleep(
    ctx: typer.Context,
    uuid: SessionArgument,
    output: OutputOption = Output.TABLE,
) -> None:
    """Put a session to sleep now, whatever its idle time; refused while messages wait.

    Example:

      sessionctl sleep 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11
    """
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(factory: Factory) -> tuple[str, str | None]:
        await factory.demand.sleep(session_id)
        return "sleeping", None

    _act(ctx, "sleep", session_id, output, work)


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

    async def work(factory: Factory) -> tuple[str, str | None]:
        service = await factory.create_session_service()
        kept = await service.delete(session_id, purge=purge)
        if wait:
            factory.progress("waiting until it is gone")
            await factory.create_waiter().wait_removed(session_id, with_volume=purge)
        return "deleted" if kept is not None else "purged", None

    _act(ctx, "delete", session_id, output, work)


def restore(ctx: typer.Context, uuid: SessionArgument, output: OutputOption = Output.TABLE) -> None:
    """Bring a deleted session back within its retention time: same id, same files, asleep.

    Example:

      sessionctl restore 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11
    """
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(factory: Factory) -> tuple[str, str | None]:
        await (await factory.create_session_service()).restore(session_id)
        return "restored", None

    _act(ctx, "restore", session_id, output, work)


def _act(
    ctx: typer.Context,
    action: Verb,
    session_id: SessionId,
    output: Output,
    work: Callable[[Factory], Awaitable[tuple[str, str | None]]],
) -> None:
    from sessionctl.cli.render import facts, show
    from sessionctl.cli.run import call
    from sessionctl.wire import Action

    status, notice = call(ctx, work)
    answer = Action(uuid=session_id, action=action, status=status, notice=notice)
    show(answer, output, facts([("UUID", session_id), ("STATUS", status), ("NOTICE", notice)]))
