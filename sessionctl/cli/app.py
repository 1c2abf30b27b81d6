"""The command tree."""

from __future__ import annotations

import gc
import os
from typing import Annotated

import typer

from sessionctl.cli import apikey, chat, insight, lifecycle, serve, show, upkeep
from sessionctl.cli.boundary import ErrorBoundary, flush
from sessionctl.cli.parameters import PlainCommand
from sessionctl.cli.run import GlobalOptions

app = typer.Typer(
    name="sessionctl",
    cls=ErrorBoundary,
    no_args_is_help=True,
    # Plain help: loading the formatter would cost more than everything else together.
    rich_markup_mode=None,
    pretty_exceptions_enable=False,
)


@app.callback()
def root(
    ctx: typer.Context,
    kubeconfig: Annotated[
        str | None, typer.Option(metavar="FILE", help="Kubeconfig to use instead of KUBECONFIG or ~/.kube/config.")
    ] = None,
    context: Annotated[str | None, typer.Option(metavar="NAME", help="Context of the kubeconfig to use.")] = None,
    platform_namespace: Annotated[
        str | None,
        typer.Option(
            metavar="NAME",
            help="Namespace of the platform release (SESSIONCTL_PLATFORM_NAMESPACE; default sessionctl).",
        ),
    ] = None,
    quiet: Annotated[bool, typer.Option("--quiet", "-q", help="No progress on standard error.")] = False,
) -> None:
    """Per-user AI workspaces on Kubernetes that sleep for free and wake on a message.

    A kubeconfig is all it needs: everything else is read from the platform release in the cluster.

    With SESSIONCTL_API_URL set, it calls the Session API instead, with the key in the file that SESSIONCTL_API_KEY_FILE
    names, or in SESSIONCTL_API_KEY. An option that names the cluster (--kubeconfig, --context, --platform-namespace)
    goes before it.

    Exit codes: 0 done, 1 failed, 2 bad input, 3 not found, 4 conflict, 5 forbidden, 6 a dependency failed, 7 too late,
    and of chat: 8 the reply was cut off, 9 the message was cancelled.

    Example:

      uuid=$(sessionctl create --user alice -o json | jq -r .uuid) && sessionctl wake --wait $uuid
    """
    ctx.obj = GlobalOptions(kubeconfig=kubeconfig, context=context, platform_namespace=platform_namespace, quiet=quiet)


app.command(cls=PlainCommand)(lifecycle.create)
app.command(cls=PlainCommand)(lifecycle.wake)
app.command(cls=PlainCommand)(show.status)
app.command("list", cls=PlainCommand)(show.list_sessions)
app.command(cls=PlainCommand)(insight.why)
app.command(cls=PlainCommand)(insight.events)
app.command(cls=PlainCommand)(chat.chat)
app.command(cls=PlainCommand)(insight.messages)
app.command(cls=PlainCommand)(chat.cancel)
app.command(cls=PlainCommand)(insight.access)
app.command(cls=PlainCommand)(lifecycle.sleep)
app.command(cls=PlainCommand)(lifecycle.delete)
app.command(cls=PlainCommand)(lifecycle.restore)
app.command(cls=PlainCommand)(show.template)
app.command(cls=PlainCommand)(upkeep.reconcile)
app.command(cls=PlainCommand)(upkeep.sweep)
app.command(cls=PlainCommand)(serve.serve)
app.add_typer(apikey.app, name="apikey")
app.command(cls=PlainCommand)(show.version)


def main() -> None:
    """Run the command line."""
    # No plugin of Pydantic is used, and looking for them reads the metadata of every installed package.
    os.environ.setdefault("PYDANTIC_DISABLE_PLUGINS", "__all__")
    try:
        app()
    finally:
        flush()
        # The process ends now: a last search for garbage among all loaded modules would take a tenth of a second.
        gc.freeze()
