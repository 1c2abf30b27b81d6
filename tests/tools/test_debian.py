"""Packages of Debian: what is asked for, and what is said when it cannot be had. apt and dpkg are stand-ins."""

from __future__ import annotations

from pathlib import Path

import pytest

from tools.debian import ensure_packages
from tools.errors import ToolError
from tools.progress import Progress

_SILENT = Progress(lambda _: None)


class Machine:
    """A machine whose packages are files, one a package."""

    def __init__(self, folder: Path) -> None:
        self._folder = folder
        (folder / "installed").mkdir()
        (folder / "calls").touch()
        self._program("dpkg-query", f'for last; do :; done; cat "{folder}/installed/$last" 2>/dev/null')
        self.apt("")

    def apt(self, before: str) -> None:
        """Make an apt-get that installs whatever it is asked for, after some shell."""
        install = (
            f'for each; do case $each in -*) ;; *) printf installed >"{self._folder}/installed/$each";; esac; done'
        )
        self._program("apt-get", f'echo "$@" >>"{self._folder}/calls"\n{before}\n{install}')

    def calls(self) -> list[str]:
        """List what apt-get was asked."""
        return (self._folder / "calls").read_text().splitlines()

    def remove(self, program: str) -> None:
        (self._folder / program).unlink()

    def install(self, package: str, status: str) -> None:
        (self._folder / "installed" / package).write_text(status)

    def _program(self, name: str, text: str) -> None:
        (self._folder / name).write_text(f"#!/bin/sh\n{text}\n")
        (self._folder / name).chmod(0o755)


@pytest.fixture
def machine(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Machine:
    monkeypatch.setenv("PATH", f"{tmp_path}:/usr/bin:/bin")
    monkeypatch.setattr("os.geteuid", lambda: 0)
    return Machine(tmp_path)


def test_only_what_is_missing_is_installed_and_without_what_is_merely_recommended(machine: Machine) -> None:
    machine.install("here", "installed")
    machine.install("removed", "config-files")
    ensure_packages(["here", "removed", "missing"], _SILENT)
    (call,) = machine.calls()
    assert call.endswith("install --no-install-recommends removed missing")
    ensure_packages(["here", "removed", "missing"], _SILENT)
    assert len(machine.calls()) == 1


def test_stale_package_lists_are_updated(machine: Machine, tmp_path: Path) -> None:
    machine.apt(f'case "$*" in *update) touch {tmp_path}/fresh;; esac; test -e {tmp_path}/fresh || exit 100')
    ensure_packages(["missing"], _SILENT)
    assert [call.split()[4] for call in machine.calls()] == ["install", "update", "install"]


def test_without_root_the_command_is_said(machine: Machine, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(
        ToolError, match=r"missing \(one two\): as root: apt-get install --no-install-recommends one two$"
    ):
        ensure_packages(["one", "two"], _SILENT)
    assert machine.calls() == []


def test_a_failed_installation_is_one_line_with_its_reason(machine: Machine) -> None:
    machine.apt("echo noise >&2; echo E: no such package >&2; exit 100")
    with pytest.raises(ToolError, match=r"apt-get cannot install missing \(E: no such package\): check the") as caught:
        ensure_packages(["missing"], _SILENT)
    assert len(str(caught.value).splitlines()) == 1


def test_another_distribution_is_told_what_is_missing(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match=r"Debian packages are missing \(one\): install what they hold"):
        ensure_packages(["one"], _SILENT)
