"""status, list, template, version."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sessionctl.cli.options import Output, OutputOption, SessionArgument

if TYPE_CHECKING:
    from sessionctl.cli.backend import Backend
    from sessionctl.factory import Factory
    from sessionctl.wire import SessionList, SessionReport, VersionInfo

NO_TOKEN = "0" * 64


def status(ctx: typer.Context, uuid: SessionArgument, output: OutputOption = Output.TABLE) -> None:
    """Show one session: its state, its replicas, what waits in its queue.

    Examples:

      sessionctl status 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11

      sessionctl status -o json 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 | jq -r .session.status
    """
    from sessionctl.cli.render import facts, moment, show
    from sessionctl.cli.run import ask
    from sessionctl.core.identity import parse_session_id

    session_id = parse_session_id(uuid)

    async def work(backend: Backend) -> SessionReport:
        return await backend.status(session_id)

    answer = ask(ctx, work)
    session = answer.session
    rows = facts(
        [
            ("UUID", answer.uuid),
            ("USER", session.user_id),
            ("STATUS", session.status),
            ("REASON", session.reason),
            ("REPLICAS", f"{answer.ready_replicas}/{answer.replicas}"),
            ("QUEUE", "unknown" if answer.queue_length is None else str(answer.queue_length)),
            ("LAST ACTIVE", moment(session.last_active)),
            ("CREATED", moment(session.created_at)),
            ("RESTORABLE UNTIL", moment(session.restorable_until)),
            ("TENANT", session.tenant),
            ("PROFILE", session.profile),
            ("URL", session.url),
            *(("NOTICE", notice) for notice in answer.notices),
        ]
    )
    show(answer, output, rows)


def list_sessions(
    ctx: typer.Context,
    user: Annotated[str | None, typer.Option("--user", "-u", help="Only sessions of this user.")] = None,
    tenant: Annotated[
        str | None, typer.Option(help="Only sessions of this tenant; through the API the key's, and no other.")
    ] = None,
    state: Annotated[
        str | None,
        typer.Option("--status", help="Only this state: created, waking, active, sleeping, failed, deleting, deleted."),
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """List sessions, oldest first; deleted ones that can be restored with --status deleted.

    Examples:

      sessionctl list

      sessionctl list --user alice --status sleeping -o json
    """
    from sessionctl.cli.render import moment, show
    from sessionctl.cli.run import ask
    from sessionctl.errors import InvalidRequestError
    from sessionctl.models import SessionStatus

    if state is not None and state not in set(SessionStatus):
        msg = f"{state!r} is not a state"
        raise InvalidRequestError(msg, hint=f"States: {', '.join(SessionStatus)}")
    wanted = SessionStatus(state) if state is not None else None

    async def work(backend: Backend) -> SessionList:
        return await backend.list(user_id=user, tenant=tenant, status=wanted)

    answer = ask(ctx, work)
    rows = [["UUID", "USER", "STATUS", "REPLICAS", "CREATED"]]
    rows += [
        [
            row.uuid,
            row.session.user_id,
            row.session.status,
            f"{row.ready_replicas}/{row.replicas}",
            moment(row.session.created_at) or "",
        ]
        for row in answer.sessions
    ]
    show(answer, output, rows)


def template(
    ctx: typer.Context,
    user: Annotated[str, typer.Option("--user", "-u", help="User id to render for.")] = "someone",
    tenant: Annotated[str, typer.Option(help="Tenant to render for.")] = "default",
    profile: Annotated[str, typer.Option(help="Profile to render.")] = "default",
    output: OutputOption = Output.YAML,
) -> None:
    """Show the chart values that create would use, with zeros for the agent's token.

    Examples:

      sessionctl template --profile large

      sessionctl template --profile large | helm template 3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11 charts/user-session -f -
    """
    from sessionctl.cli.render import show
    from sessionctl.cli.run import call
    from sessionctl.core.identity import new_session_id, parse_name, parse_user_id
    from sessionctl.core.values import merge
    from sessionctl.models import Owner
    from sessionctl.wire import RenderedValues

    user_id, tenant, profile = parse_user_id(user), parse_name("tenant", tenant), parse_name("profile", profile)

    async def work(factory: Factory) -> RenderedValues:
        releases = await factory.create_release_service()
        owner = Owner(user_id, tenant, profile, factory.clock.now())
        return RenderedValues(merge(releases.values_for(new_session_id(), owner), {"agent": {"token": NO_TOKEN}}))

    answer = call(ctx, work)
    show(answer, Output.YAML if output is Output.TABLE else output, [])


def version(
    ctx: typer.Context,
    client: Annotated[bool, typer.Option("--client", help="Do not ask the cluster.")] = False,
    output: OutputOption = Output.TABLE,
) -> None:
    """Show the versions of sessionctl, its session chart, Helm and the platform release; through the API not Helm's.

    Examples:

      sessionctl version

      sessionctl version --client -o json
    """
    from sessionctl import __version__
    from sessionctl.cli.render import facts, show
    from sessionctl.cli.run import ask
    from sessionctl.wire import VersionInfo

    async def work(backend: Backend) -> VersionInfo:
        return await backend.version()

    answer = VersionInfo(sessionctl=__version__, helm=None, platform=None) if client else ask(ctx, work)
    rows = facts([("SESSIONCTL", answer.sessionctl), ("HELM", answer.helm), ("PLATFORM", answer.platform)])
    show(answer, output, rows)
