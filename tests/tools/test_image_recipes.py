"""What the image builds are given: pins, the build context, and keys. Nothing is built here."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

import pytest

from sessionctl import __version__
from tools.errors import ToolError
from tools.golang import GO_VERSION
from tools.images import NAMES, debian, ensure_images
from tools.images.buildah import Buildah
from tools.images.editor import NODE_VERSION, PACKAGES
from tools.images.recipes import SOURCES, recipe
from tools.pins import ROOT
from tools.toolchain import Tools

OURS = sorted(ROOT.glob("images/*/Dockerfile"))
DOCKERFILES = [*OURS, *sorted(ROOT.glob("tools/localimages/*/Dockerfile"))]
_BINARIES = ("helm", "coredns")


@pytest.fixture(autouse=True)
def mirrors(monkeypatch: pytest.MonkeyPatch) -> None:
    """A machine need not be a Debian to tell what an image depends on."""
    monkeypatch.setattr(debian, "recipe", lambda: "deb mirror suite main")


@pytest.fixture
def tools(tmp_path: Path) -> Tools:
    binaries = {name: tmp_path / "tools" / f"{name}-1.0-key" / "bin" / name for name in _BINARIES}
    for file in binaries.values():
        file.parent.mkdir(parents=True)
        file.write_text("binary")
    return Tools(binaries, {})


def _instructions(dockerfile: Path, name: str) -> list[str]:
    text = dockerfile.read_text().replace("\\\n", " ")
    return [line.partition(" ")[2].strip() for line in text.splitlines() if line.startswith(f"{name} ")]


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.parent.name)
def test_a_base_is_an_exact_version(dockerfile: Path) -> None:
    arguments = dict(each.split("=") for each in _instructions(dockerfile, "ARG") if "=" in each)
    stages: set[str] = set()
    for instruction in _instructions(dockerfile, "FROM"):
        base, _, stage = instruction.partition(" AS ")
        variable = re.fullmatch(r"\$\{(\w+)\}", base)
        # Without a default the caller has to say it.
        base = arguments.get(variable[1], "scratch") if variable else base
        if base not in {"scratch", *stages}:
            assert re.fullmatch(r"[a-z]+:\d+\.\d+\.\d+-[a-z-]+", base), base
        stages.add(stage)


@pytest.mark.parametrize("dockerfile", DOCKERFILES, ids=lambda file: file.parent.name)
def test_nothing_comes_from_an_address(dockerfile: Path) -> None:
    text = dockerfile.read_text()
    assert "://" not in text
    assert not re.search(r"(curl|wget) +-|:latest|--mount|<<", text)
    assert _instructions(dockerfile, "ADD") == (["rootfs.tar /"] if dockerfile.parent.name == "debian" else [])


@pytest.mark.parametrize("dockerfile", OURS, ids=lambda file: file.parent.name)
def test_it_ends_as_a_user_by_number(dockerfile: Path) -> None:
    """A cluster cannot tell that a user by name is not root."""
    assert re.fullmatch(r"[1-9]\d*:[1-9]\d*", _instructions(dockerfile, "USER")[-1])


@pytest.mark.parametrize("dockerfile", OURS, ids=lambda file: file.parent.name)
def test_versions_are_those_of_the_checkout(dockerfile: Path) -> None:
    arguments = dict(each.split("=") for each in _instructions(dockerfile, "ARG") if "=" in each)
    assert arguments["VERSION"] == __version__
    assert arguments["BASE"].endswith(f"-slim-{debian.SUITE}")
    if "GO" in arguments:
        assert arguments["GO"] == f"golang:{GO_VERSION}-{debian.SUITE}"
    if "NODE" in arguments:
        assert arguments["NODE"] == f"node:{NODE_VERSION}-{debian.SUITE}"


def test_both_stand_on_the_same_base() -> None:
    assert len({_instructions(dockerfile, "ARG")[0] for dockerfile in OURS}) == 1


@pytest.mark.parametrize("name", ["workspace", "manager"])
def test_what_an_image_installs_is_pinned(name: str) -> None:
    pinned = {_canonical(line.partition("==")[0]) for line in (ROOT / "constraints.txt").read_text().split()}
    assert _requirements(name) <= pinned


def test_the_manager_gets_every_dependency() -> None:
    dependencies = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["dependencies"]
    assert {_canonical(re.split(r"[\[<>=;]", each)[0]) for each in dependencies} <= _requirements("manager")


def test_the_editor_is_compiled_with_the_same_packages_everywhere() -> None:
    (install, _) = _instructions(ROOT / "images/workspace/Dockerfile", "RUN")[:2]
    named = set(re.findall(r"\blib\S+-dev\b|\bpkg-config\b", install))
    # The image node has a compiler.
    assert set(PACKAGES) - {"g++", "make"} == named


def test_the_editor_and_all_below_it_are_pinned_with_their_digests() -> None:
    folder = ROOT / "images/workspace/code-server"
    wanted = json.loads((folder / "package.json").read_text())["dependencies"]
    packages = json.loads((folder / "package-lock.json").read_text())["packages"]
    assert packages[""]["dependencies"] == wanted
    assert all(re.fullmatch(r"\d+\.\d+\.\d+", version) for version in wanted.values())
    assert len(packages) > 100
    assert [name for name, package in packages.items() if name and "integrity" not in package] == []
    # Where a registry is, is the business of the machine.
    assert [name for name, package in packages.items() if "resolved" in package] == []


def test_other_builders_get_the_same_files() -> None:
    lines = (ROOT / ".dockerignore").read_text().splitlines()
    assert lines[1] == "*"
    let_in = {line[1:] for line in lines if line.startswith("!")}
    assert let_in == {*SOURCES, "tools/helm/go.mod", "tools/helm/go.sum"}
    assert {"**/__pycache__", "**/*.pyc"} <= set(lines)


@pytest.mark.parametrize(
    ("path", "changed"),
    [
        ("sessionctl/errors.py", {"workspace", "manager"}),
        ("charts/user-session/values.yaml", {"workspace", "manager"}),
        ("constraints.txt", {"workspace", "manager"}),
        ("images/manager/requirements.txt", {"manager"}),
        ("images/workspace/Dockerfile", {"workspace"}),
        ("images/workspace/code-server/package-lock.json", {"workspace"}),
        ("images/workspace/code-server/install.sh", {"workspace"}),
        ("images/workspace/extension/extension.js", {"workspace"}),
        ("tools/localimages/python/Dockerfile", {"workspace", "manager"}),
        ("tools/localimages/debian/Dockerfile", {"redis", "nginx", "workspace", "manager"}),
        ("tools/localimages/pause/main.go", {"pause"}),
        ("tools/localimages/nginx/Dockerfile", {"nginx"}),
        ("sessionctl/__pycache__/errors.cpython-311.pyc", set()),
        ("images/wheels/left_by_hand.whl", set()),
        ("images/manager/helm", set()),
        ("images/workspace/editor/bin/node", set()),
    ],
)
def test_an_edit_changes_the_images_it_is_in(tools: Tools, checkout: Path, path: str, changed: set[str]) -> None:
    before = {name: recipe(name, tools, checkout).key for name in NAMES}
    (checkout / path).parent.mkdir(parents=True, exist_ok=True)
    with (checkout / path).open("a") as file:
        file.write("\n")
    after = {name: recipe(name, tools, checkout).key for name in NAMES}
    assert {name for name in NAMES if before[name] != after[name]} == changed


def test_another_helm_is_another_manager(tools: Tools, checkout: Path) -> None:
    before = {name: recipe(name, tools, checkout).key for name in NAMES}
    tools.binary("helm").write_text("another")
    assert {name for name in NAMES if before[name] != recipe(name, tools, checkout).key} == {"manager"}


def test_equal_checkouts_make_equal_images(tools: Tools, checkout: Path) -> None:
    assert recipe("workspace", tools, checkout).key == recipe("workspace", tools).key


def test_the_layers_of_many_builds_are_removed_together(tmp_path: Path) -> None:
    buildah = Buildah(tmp_path / "buildah")
    assert not buildah.reset_if_overgrown()
    for number in range(300):
        assert not buildah.reset_if_overgrown()
        (buildah.storage / "root" / "overlay-images" / str(number)).mkdir(parents=True)
    assert buildah.reset_if_overgrown()
    assert not buildah.storage.exists()


def test_an_unknown_image_is_said(tools: Tools) -> None:
    with pytest.raises(ToolError, match="no image called nothing: known are pause"):
        ensure_images(["nothing"], tools)
    with pytest.raises(ToolError, match="no tool called helm"):
        ensure_images(["manager"], Tools({}, {}))


def test_without_root_it_is_said(tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SESSIONCTL_TOOLS_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr("os.geteuid", lambda: 1000)
    with pytest.raises(ToolError, match="images are built as root: run this as root") as caught:
        ensure_images(["pause"], tools, lambda _: None)
    assert len(str(caught.value).splitlines()) == 1


def _requirements(name: str) -> set[str]:
    lines = (ROOT / "images" / name / "requirements.txt").read_text().splitlines()
    return {_canonical(re.split(r"[\[;]", line)[0]) for line in lines if not line.startswith("#")}


def _canonical(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).strip().lower()
