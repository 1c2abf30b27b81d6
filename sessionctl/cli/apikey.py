"""apikey create, list, revoke."""

from __future__ import annotations

from typing import TYPE_CHECKING, Annotated

import typer

from sessionctl.cli.options import Output, OutputOption, duration
from sessionctl.cli.parameters import PlainCommand

if TYPE_CHECKING:
    from sessionctl.factory import Factory
    from sessionctl.models import ApiKey, Scope
    from sessionctl.wire import ApiKeyInfo

app = typer.Typer(no_args_is_help=True, rich_markup_mode=None)


@app.callback()
def root() -> None:
    """Make, list and revoke the keys that the Session API is called with.

    Example:

      sessionctl apikey create backend --tenant acme --scope read --scope write
    """


@app.command("create", cls=PlainCommand)
def create(
    ctx: typer.Context,
    name: Annotated[str, typer.Argument(metavar="NAME", help="Id of the key, for logs and to revoke it.")],
    tenant: Annotated[str, typer.Option(help="Tenant whose sessions the key sees.")] = "default",
    scope: Annotated[
        list[str] | None,
        typer.Option("--scope", help="What it may do: read, write, access; may be repeated (default read and write)."),
    ] = None,
    expires: Annotated[
        str | None, typer.Option("--expires", metavar="DURATION", help="When it ends, for example 90d (default never).")
    ] = None,
    output: OutputOption = Output.TABLE,
) -> None:
    """Make an API key and print it: it is stored nowhere and cannot be shown again.

    There is an error when a key of that name exists: nothing is replaced. Managers know the key a minute later at most.

    Examples:

      sessionctl apikey create backend --tenant acme --scope read --scope write --scope access

      sessionctl apikey create dashboard --tenant acme --scope read --expires 90d -o json | jq -r .key
    """
    from sessionctl.cli.render import facts, moment, show
    from sessionctl.cli.run import call
    from sessionctl.core.identity import parse_name
    from sessionctl.wire import CreatedApiKey

    key_id, owner = parse_name("key", name), parse_name("tenant", tenant)
    scopes = _scopes(scope)
    lifetime = duration("--expires", expires) if expires is not None else None

    async def work(factory: Factory) -> tuple[str, ApiKey]:
        return await factory.create_key_admin().create(key_id, owner, scopes, lifetime)

    text, made = call(ctx, work)
    answer = CreatedApiKey(key=text, **_info(made).model_dump())
    rows = facts(
        [
            ("KEY", text),
            ("ID", answer.id),
            ("TENANT", answer.tenant),
            ("SCOPES", " ".join(answer.scopes)),
            ("EXPIRES", moment(answer.expires_at)),
        ]
    )
    show(answer, output, rows)


@app.command("list", cls=PlainCommand)
def list_keys(ctx: typer.Context, output: OutputOption = Output.TABLE) -> None:
    """List the API keys; the keys themselves are stored nowhere.

    Example:

      sessionctl apikey list -o json
    """
    from sessionctl.cli.render import moment, show
    from sessionctl.cli.run import call
    from sessionctl.wire import ApiKeyList

    async def work(factory: Factory) -> ApiKeyList:
        keys, broken = await factory.create_key_admin().list_keys()
        return ApiKeyList(keys=tuple(map(_info, keys)), broken=tuple(broken))

    answer = call(ctx, work)
    rows = [["ID", "TENANT", "SCOPES", "EXPIRES"]]
    rows += [[key.id, key.tenant, " ".join(key.scopes), moment(key.expires_at) or "never"] for key in answer.keys]
    rows += [[key_id, "", "", "cannot be read"] for key_id in answer.broken]
    show(answer, output, rows)


@app.command("revoke", cls=PlainCommand)
def revoke(
    ctx: typer.Context, key_id: Annotated[str, typer.Argument(metavar="ID", help="Id of the key, as list shows it.")]
) -> None:
    """Revoke an API key: managers refuse it a minute later at most.

    Example:

      sessionctl apikey revoke dashboard
    """
    from sessionctl.cli.run import call

    async def work(factory: Factory) -> None:
        await factory.create_key_admin().revoke(key_id)

    call(ctx, work)


def _scopes(given: list[str] | None) -> list[Scope]:
    from sessionctl.errors import InvalidRequestError
    from sessionctl.models import Scope

    if not given:
        return [Scope.READ, Scope.WRITE]
    try:
        return [Scope(each) for each in given]
    except ValueError:
        raise InvalidRequestError("--scope takes read, write or access", hint="Repeat it for several.") from None


def _info(key: ApiKey) -> ApiKeyInfo:
    from sessionctl.wire import ApiKeyInfo

    return ApiKeyInfo(id=key.key_id, tenant=key.tenant, scopes=tuple(sorted(key.scopes)), expires_at=key.expires_at)
