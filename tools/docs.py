"""`python -m tools.docs [--check]`: write what is generated in docs/reference from the code itself."""

from __future__ import annotations

import argparse
import json
import sys
from typing import TYPE_CHECKING, Any

import typer.main
from typer.core import TyperGroup

from sessionctl.adapters.metrics import NoMetrics
from sessionctl.agent import openapi
from sessionctl.api.app import build
from sessionctl.cli.app import app
from sessionctl.settings import ApiSettings
from tools import metrics_page
from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer._click import Context

PAGE = ROOT / "docs" / "reference" / "cli.md"
OPENAPI = ROOT / "docs" / "reference" / "openapi.json"
AGENT_OPENAPI = ROOT / "docs" / "reference" / "agent-openapi.json"
_WIDTH = 100
_HEAD = """\
# The command line

Written by `python -m tools.docs` from `sessionctl --help` and the help of each command; do not edit.
"""


def render() -> str:
    """Return the page."""
    parts = [_HEAD]
    for name, text in _helps():
        parts.append(f"## {name}\n\n```text\n{text}\n```\n")
    return "\n".join(parts)


def _helps() -> Iterator[tuple[str, str]]:
    # A fixed width: the page must not depend on anybody's terminal.
    settings: dict[str, Any] = {"terminal_width": _WIDTH, "max_content_width": _WIDTH, "resilient_parsing": True}
    group = typer.main.get_command(app)
    assert isinstance(group, TyperGroup)
    root = group.make_context("sessionctl", [], **settings)
    yield "sessionctl", _plain(group.get_help(root))
    yield from _below(group, root, settings)


def _below(group: TyperGroup, parent: Context, settings: dict[str, Any]) -> Iterator[tuple[str, str]]:
    for name, command in group.commands.items():
        context = command.make_context(name, [], parent=parent, **settings)
        yield context.command_path, _plain(command.get_help(context))
        if isinstance(command, TyperGroup):
            yield from _below(command, context, settings)


def _plain(text: str) -> str:
    return "\n".join(line.rstrip() for line in text.splitlines()).strip("\n")


def render_api() -> str:
    """Return the OpenAPI document of the Session API."""
    return json.dumps(build(ApiSettings(), NoMetrics()).openapi(), indent=2, sort_keys=True) + "\n"


def render_agent() -> str:
    """Return the OpenAPI document of the agent."""
    return json.dumps(openapi.document(), indent=2, sort_keys=True) + "\n"


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the pages are current")
    arguments = parser.parse_args()
    pages = {PAGE: render(), metrics_page.PAGE: metrics_page.render(), OPENAPI: render_api()} | {
        AGENT_OPENAPI: render_agent()
    }
    stale = [page for page, text in pages.items() if not page.is_file() or page.read_text() != text]
    for page in stale:
        if arguments.check:
            sys.stderr.write(f"error: {page.relative_to(ROOT)} is not current; run: python -m tools.docs\n")
        else:
            page.parent.mkdir(parents=True, exist_ok=True)
            page.write_text(pages[page])
    return 1 if arguments.check and stale else 0


if __name__ == "__main__":
    sys.exit(main())
