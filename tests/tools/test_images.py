"""The container images as a node gets them: contents, rights, and programs on a read-only root."""

from __future__ import annotations

import json
import os
import re
import shutil
import signal
import socket
import subprocess
import tomllib
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionctl import __version__
from tests.support.images import Archive, Root, set_id_files
from tests.tools.scripts import wait_until
from tools.errors import ToolError
from tools.images import NAMES, TOOLS, ensure_images, reference
from tools.images.editor import NODE_VERSION
from tools.images.entries import folder
from tools.images.recipes import recipe
from tools.pins import ROOT
from tools.toolchain import Tools, ensure

# The first build of all takes minutes.
pytestmark = pytest.mark.timeout(1800)

OURS = ("workspace", "manager")
_SITE = "opt/sessionctl/lib/python3.11/site-packages/"
_PINNED = dict(line.split("==") for line in (ROOT / "constraints.txt").read_text().split())


@pytest.fixture(scope="session")
def image_tools() -> Tools:
    if os.geteuid() != 0 and not os.environ.get("CI"):
        pytest.skip("images are built as root")
    return ensure(set(TOOLS.values()))


@pytest.fixture(scope="session")
def archives(image_tools: Tools) -> dict[str, Archive]:
    try:
        return {name: Archive(file) for name, file in ensure_images(NAMES, image_tools).items()}
    except ToolError as error:
        # On a laptop without Debian's packages the other tests still mean something; in CI nothing may be left out.
        if os.environ.get("CI"):
            raise
        pytest.skip(str(error))


@pytest.fixture(scope="session")
def roots(archives: dict[str, Archive], tmp_path_factory: pytest.TempPathFactory) -> Iterator[dict[str, Root]]:
    folder = tmp_path_factory.mktemp("images")
    # Unpacked by root outside of what pytest keeps of earlier runs: a gigabyte.
    yield {name: archive.unpack(folder / name) for name, archive in archives.items()}
    shutil.rmtree(folder)


@pytest.fixture
def free_ports() -> tuple[int, int]:
    """Two ports that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as one, socket.create_server(("127.0.0.1", 0)) as other:
        return one.getsockname()[1], other.getsockname()[1]


@pytest.mark.parametrize("name", NAMES)
def test_an_archive_has_one_image_under_its_name(archives: dict[str, Archive], name: str) -> None:
    assert archives[name].manifest["RepoTags"] == [reference(name)]


@pytest.mark.parametrize("name", OURS)
def test_labels_tell_what_it_is(archives: dict[str, Archive], name: str) -> None:
    labels = archives[name].configuration["Labels"]
    said = {key.rpartition(".")[2]: value for key, value in labels.items() if key.startswith("org.opencontainers.")}
    assert said.pop("title") == f"sessionctl {name}"
    assert said.pop("description")
    assert said == {"licenses": "Apache-2.0", "version": __version__, "revision": "unknown"}


@pytest.mark.parametrize(
    ("name", "user"),
    [("workspace", "1000:1000"), ("manager", "65532:65532"), ("redis", "999:999"), ("pause", "65535:65535")],
)
def test_it_runs_as_a_user_without_rights(archives: dict[str, Archive], name: str, user: str) -> None:
    assert archives[name].configuration["User"] == user
    assert not set_id_files(archives[name].members())


@pytest.mark.parametrize("name", NAMES)
def test_it_holds_nothing_of_the_checkout_or_the_machine(archives: dict[str, Archive], name: str) -> None:
    members = archives[name].members()
    unwanted = re.compile(
        r"(^|/)(\.git|tests?/.*\.py$|wheels|pip\.conf|\.venv|\.netrc|id_rsa)(/|$)|^(build|root/\.cache)/"
    )
    ours = [path for path in members if not path.startswith(("usr/lib/python3", "usr/share/", _SITE))]
    assert not [path for path in ours if unwanted.search(path)]
    for path in ("etc/hostname", "etc/resolv.conf", "etc/hosts", "etc/machine-id"):
        assert path not in members or members[path].size == 0
    assert not [path for path in members if path.startswith(("var/lib/apt/lists/", "var/cache/apt/", "var/log/apt/"))]


@pytest.mark.parametrize("name", OURS)
def test_every_package_is_the_pinned_one(archives: dict[str, Archive], name: str) -> None:
    pattern = re.compile(rf"^{_SITE}([^/]+)-([^/-]+)\.dist-info/METADATA$")
    found = [match.groups() for path in archives[name].members() if (match := pattern.match(path))]
    pins = {_canonical(package): version for package, version in _PINNED.items()} | {"sessionctl": __version__}
    assert ("sessionctl", __version__) in found
    assert [each for each in found if pins.get(_canonical(each[0])) != each[1]] == []


@pytest.mark.parametrize("name", OURS)
def test_every_module_is_compiled(archives: dict[str, Archive], name: str) -> None:
    members = archives[name].members()
    modules = [Path(path) for path in members if path.startswith(_SITE) and path.endswith(".py")]
    missing = [each for each in modules if f"{each.parent}/__pycache__/{each.stem}.cpython-311.pyc" not in members]
    assert len(modules) > 300
    assert missing == []


def test_the_agent_starts(archives: dict[str, Archive], roots: dict[str, Root]) -> None:
    assert archives["workspace"].configuration["Entrypoint"] == ["tini", "--", "sessionctl-agent"]
    imports = "import h11, pydantic, starlette, uvicorn, sessionctl.wire; print(sessionctl.__version__)"
    assert roots["workspace"].run("/opt/sessionctl/bin/python3", "-c", imports) == f"{__version__}\n"
    if "sessionctl-agent" in tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]["scripts"]:
        assert "usage" in roots["workspace"].run("tini", "--", "sessionctl-agent", "--help").lower()


def test_the_editor_is_the_pinned_one_and_keeps_nothing_of_its_build(
    archives: dict[str, Archive], roots: dict[str, Root]
) -> None:
    pinned = json.loads((ROOT / "images/workspace/code-server/package.json").read_text())["dependencies"]["code-server"]
    node = ("/opt/editor/bin/node", "/opt/editor/node_modules/code-server/out/node/entry.js")
    assert roots["workspace"].run(node[0], "--version") == f"v{NODE_VERSION}\n"
    assert roots["workspace"].run(*node, "--version").startswith(f"{pinned} ")
    files = [path for path, member in archives["workspace"].members().items() if member.isfile()]
    of_editor = [path for path in files if path.startswith("opt/editor/")]
    assert [path for path in of_editor if path.endswith((".map", ".o", ".a", ".gypi"))] == []
    assert [path for path in of_editor if path.endswith(".node")]


def test_the_editor_answers_and_ends(roots: dict[str, Root], free_ports: tuple[int, int]) -> None:
    script = """
        cd /workspace && SESSIONCTL_EDITOR_PORT=PORT SESSIONCTL_EDITOR_CONTROL_PORT=CONTROL tini -- sessionctl-editor \
            2>/tmp/log & editor=$!
        until curl -sf http://127.0.0.1:PORT/healthz >/dev/null; do kill -0 $editor || cat /tmp/log; sleep 0.05; done
        curl -s -o /dev/null -w '%{redirect_url}\n' http://127.0.0.1:PORT/
        curl -s -o /tmp/page -w '%{http_code}\n' 'http://127.0.0.1:PORT/?folder=/workspace'
        grep -o -m 1 '<title>' /tmp/page; kill -TERM $editor; wait $editor; echo $?; ls -A /workspace
    """
    port, control = free_ports
    said = roots["workspace"].run("sh", "-c", script.replace("PORT", str(port)).replace("CONTROL", str(control)))
    assert said.splitlines()[:2] == [f"http://127.0.0.1:{port}/?folder=/workspace", "200"]


def test_the_extension_tells_of_people_only(roots: dict[str, Root]) -> None:
    cases = Path(__file__).with_name("extension_cases.js").read_text()
    said = roots["workspace"].run("/opt/editor/bin/node", "-e", cases).splitlines()
    assert len(said) == len(re.findall(r'^  (?:async )?"', cases, re.MULTILINE))
    assert all(line.startswith("ok ") for line in said)


def test_a_workspace_has_a_shell_with_the_usual_tools(roots: dict[str, Root]) -> None:
    script = """
        id -un; pwd; echo $$; touch file; git init -q project; git -C project status --short --branch
        curl --version | head -n 1 | cut -d' ' -f1; less --version | head -n 1 | cut -d' ' -f1; ps -o comm= -p $$
        touch /etc/x 2>/dev/null || echo read-only; test -s /etc/ssl/certs/ca-certificates.crt && echo trusts
    """
    said = roots["workspace"].run("sh", "-c", f"cd && {script.strip()}").splitlines()
    assert said[:3] == ["workspace", "/workspace", "1"]
    assert said[3].startswith("## No commits yet")
    assert said[4:] == ["curl", "less", "sh", "read-only", "trusts"]


def test_the_manager_calls_helm(archives: dict[str, Archive], roots: dict[str, Root]) -> None:
    root = roots["manager"]
    assert archives["manager"].configuration["Entrypoint"] == ["sessionctl"]
    assert "Usage: sessionctl" in root.run("sessionctl", "--help")
    assert root.run("helm", "version", "--template", "{{.Version}}").startswith("v4.")
    assert "replicas" in root.run(
        "sh", "-c", "cat /opt/sessionctl/lib/python3*/site-packages/sessionctl/charts/*/templates/*"
    )
    # Imported only for kubeconfigs with plugins: nothing else here would notice.
    root.run("/opt/sessionctl/bin/python3", "-c", "from kubernetes.config import load_kube_config")


def test_redis_serves_what_the_platform_chart_asks_of_it(roots: dict[str, Root]) -> None:
    script = """
        printf 'port 0\\nunixsocket /data/socket\\ndir /data\\nappendonly yes\\nappendfsync always\\n' >/tmp/redis.conf
        redis-server /tmp/redis.conf >/data/log &
        until [ "$(redis-cli -s /data/socket ping 2>&1)" = PONG ]; do sleep 0.05; done
        redis-cli -s /data/socket set key value; redis-cli -s /data/socket info server | grep redis_version
        redis-cli -s /data/socket shutdown nosave; wait; id -u
    """
    said = roots["redis"].run("sh", "-c", script, writable=("/tmp", "/data")).split()
    assert (said[0], said[1][:16], said[-1]) == ("OK", "redis_version:7.", "999")


def test_coredns_and_pause_are_single_static_binaries(archives: dict[str, Archive], roots: dict[str, Root]) -> None:
    assert [path for path, member in archives["coredns"].members().items() if member.isfile()] == ["coredns"]
    assert [path for path, member in archives["pause"].members().items() if member.isfile()] == ["pause"]
    coredns = ["chroot", str(roots["coredns"].folder), "/coredns", "-version"]
    assert "CoreDNS-1." in subprocess.run(coredns, capture_output=True, text=True, check=True).stdout
    pause = subprocess.Popen(["chroot", roots["pause"].folder, "/pause"])
    # Caught from the start of main on; sent earlier, the signal would end it with another status.
    wait_until(lambda: _catches(pause.pid, signal.SIGTERM))
    pause.terminate()
    assert pause.wait(10) == 0


def test_an_unchanged_image_starts_no_program(
    archives: dict[str, Archive], image_tools: Tools, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("PATH", str(tmp_path))
    said: list[str] = []
    # The mirrors were asked for once in this process; the digest of what they are is remembered.
    assert ensure_images(NAMES, image_tools, said.append) == {name: archive.file for name, archive in archives.items()}
    assert said == []


def test_an_edit_changes_the_last_layer_only(archives: dict[str, Archive], image_tools: Tools, checkout: Path) -> None:
    with (checkout / "sessionctl/labels.py").open("a") as file:
        file.write(f"# {checkout}\n")
    edited = Archive(ensure_images(["workspace"], image_tools, lambda _: None, checkout)["workspace"])
    assert edited.layers[:-1] == archives["workspace"].layers[:-1]
    assert edited.layers[-1] != archives["workspace"].layers[-1]
    assert edited.configuration == archives["workspace"].configuration
    edited.file.unlink()


def test_a_build_that_fails_is_one_line_and_leaves_no_archive(image_tools: Tools, checkout: Path) -> None:
    with (checkout / "tools/localimages/pause/Dockerfile").open("a") as file:
        file.write("COPY missing /\n")
    with pytest.raises(ToolError, match=r"building image localhost/sessionctl/pause:dev failed .*missing") as caught:
        ensure_images(["pause"], image_tools, lambda _: None, checkout)
    assert len(str(caught.value).splitlines()) == 1
    assert not (folder() / f"pause-{recipe('pause', image_tools, checkout).key}.tar").exists()


def _catches(pid: int, signum: int) -> bool:
    status = Path(f"/proc/{pid}/status").read_text()
    mask = re.search(r"^SigCgt:\s*(\w+)", status, re.MULTILINE)
    return mask is not None and bool(int(mask[1], 16) >> (signum - 1) & 1)


def _canonical(package: str) -> str:
    return re.sub(r"[-_.]+", "-", package).lower()
