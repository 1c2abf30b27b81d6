"""`python -m tools.docs [--check]`: write docs/reference/cli.md from the command line's own help."""

from __future__ import annotations

import argparse
import sys
from typing import TYPE_CHECKING, Any

import typer.main
from typer.core import TyperGroup

from sessionctl.cli.app import app
from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator

    from typer._click import Context

PAGE = ROOT / "docs" / "reference" / "cli.md"
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


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.docs", description=__doc__)
    parser.add_argument("--check", action="store_true", help="only say whether the page is current")
    arguments = parser.parse_args()
    text = render()
    if arguments.check:
        if PAGE.is_file() and PAGE.read_text() == text:
            return 0
        sys.stderr.write(f"error: {PAGE.relative_to(ROOT)} is not current; run: python -m tools.docs\n")
        return 1
    PAGE.parent.mkdir(parents=True, exist_ok=True)
    PAGE.write_text(text)
    return 0


if __name__ == "__main__":
    sys.exit(main())
