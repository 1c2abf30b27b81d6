"""Help: every command has examples that work, and none of it is slow."""

from __future__ import annotations

import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

import pytest
import typer.main
from typer.core import TyperGroup

from sessionctl.cli.app import app
from tests.support.sessionctl_cli import PROGRAM
from tools import docs

GROUP = typer.main.get_command(app)
assert isinstance(GROUP, TyperGroup)
COMMANDS = sorted(GROUP.commands)


def leaves(group: TyperGroup, *before: str) -> Iterator[tuple[str, ...]]:
    """Yield the words of every command that does something itself."""
    for name, command in group.commands.items():
        if isinstance(command, TyperGroup):
            yield from leaves(command, *before, name)
        else:
            yield (*before, name)


LEAVES = sorted(leaves(GROUP))
# What takes long to import, and what --help has no use for.
HEAVY = {"kubernetes", "redis", "pydantic", "yaml", "jinja2", "asyncio", "sessionctl.factory", "rich"}
HEAVY |= {"httpx", "fastapi", "starlette", "uvicorn", "prometheus_client"}


def run(*argv: str) -> subprocess.CompletedProcess[str]:
    environment = {**os.environ, "COLUMNS": "100", "KUBECONFIG": "/nonexistent/kubeconfig"}
    return subprocess.run(argv, capture_output=True, text=True, check=False, env=environment)


def imported(*argv: str) -> set[str]:
    """Return the modules that a call imports."""
    done = run(sys.executable, "-X", "importtime", "-m", "sessionctl", *argv)
    assert done.returncode == 0, done.stderr
    return {line.rpartition("|")[2].strip() for line in done.stderr.splitlines() if line.startswith("import time:")}


def examples(words: Iterable[str]) -> list[str]:
    paragraphs = run(PROGRAM, *words, "--help").stdout.split("\n\n")
    # A long one goes on in the next line.
    return [" ".join(paragraph.split()) for paragraph in paragraphs if paragraph.startswith("    sessionctl ")]


def test_the_commands_are_those_that_operators_were_promised() -> None:
    promised = {"create", "wake", "status", "list", "sleep", "delete", "restore", "template", "reconcile", "sweep"}
    promised |= {"why", "events", "chat", "messages", "cancel", "access", "serve", "apikey"}
    assert promised | {"version"} == set(COMMANDS)


@pytest.mark.parametrize("words", LEAVES, ids=" ".join)
def test_every_command_has_an_example_that_it_understands(words: tuple[str, ...]) -> None:
    found = examples(words)
    assert found
    for example in found:
        argv = shlex.split(example.partition("|")[0])[1:]
        assert tuple(argv[: len(words)]) == words
        command: Any = GROUP
        for word in words:
            command = command.commands[word]
        # Parses as far as a call would before it does anything.
        command.make_context(words[-1], argv[len(words) :])


@pytest.mark.parametrize("argv", [["--help"], *([command, "--help"] for command in COMMANDS)], ids=" ".join)
def test_help_imports_nothing_heavy(argv: list[str]) -> None:
    modules = imported(*argv)
    assert "sessionctl.cli.app" in modules
    assert not {name for name in modules if name in HEAVY or name.partition(".")[0] in HEAVY}


def test_a_call_without_a_command_shows_the_help_and_fails() -> None:
    done = run(PROGRAM)
    assert done.returncode == 2
    assert "Usage: sessionctl" in done.stdout + done.stderr


def test_an_unknown_option_and_a_missing_argument_are_bad_input() -> None:
    assert run(PROGRAM, "list", "--colour").returncode == 2
    assert run(PROGRAM, "status").returncode == 2
    assert run(PROGRAM, "create").returncode == 2


def test_the_help_of_the_root_names_every_exit_code() -> None:
    text = " ".join(run(PROGRAM, "--help").stdout.split())
    found = re.search(r"Exit codes: (.*?)\. ", text)
    assert found
    assert re.findall(r"\d", found[1]) == list("0123456789")


def test_the_reference_is_what_the_help_says() -> None:
    assert docs.PAGE.read_text() == docs.render(), "run: python -m tools.docs"


def test_the_check_of_the_reference_fails_on_another_page(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    page = tmp_path / "cli.md"
    page.write_text(docs.render().replace("sleep", "doze"))
    monkeypatch.setattr(docs, "PAGE", page)
    monkeypatch.setattr(docs, "ROOT", tmp_path)
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    assert docs.main() == 1
    monkeypatch.setattr(sys, "argv", ["docs"])
    assert docs.main() == 0
    monkeypatch.setattr(sys, "argv", ["docs", "--check"])
    assert docs.main() == 0


def test_shell_completion_is_offered_and_silent_without_a_cluster() -> None:
    environment = {
        **os.environ,
        "KUBECONFIG": "/nonexistent/kubeconfig",
        "_SESSIONCTL_COMPLETE": "complete_bash",
        "COMP_WORDS": "sessionctl status ",
        "COMP_CWORD": "2",
    }
    done = subprocess.run([PROGRAM], capture_output=True, text=True, check=False, env=environment)
    assert (done.stdout.strip(), done.stderr) == ("", "")
    environment |= {"COMP_WORDS": "sessionctl re", "COMP_CWORD": "1"}
    done = subprocess.run([PROGRAM], capture_output=True, text=True, check=False, env=environment)
    assert done.stdout.split() == ["restore", "reconcile"]
