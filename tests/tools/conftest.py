"""What the tests of the tools share."""

from __future__ import annotations

import os
import shutil
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest

from tests.tools.scripts import Script
from tools.cache import cache_root
from tools.images.recipes import SOURCES, source_files
from tools.pins import ROOT


@pytest.fixture
def script() -> Iterator[Callable[..., Script]]:
    """Start scripts; whatever a failed test leaves of them is killed by pid."""
    started: list[Script] = []

    def start(text: str, *wrapper: str) -> Script:
        started.append(Script(f"mark-{uuid.uuid4().hex}", text, list(wrapper)))
        return started[-1]

    yield start
    for each in started:
        for pid in each.left():
            os.kill(pid, 9)
        if each.process.stdout is not None:
            each.process.stdout.close()
        each.process.wait()


@pytest.fixture
def nobody(tmp_path_factory: pytest.TempPathFactory) -> tuple[list[str], Path]:
    """Return a command prefix that gives up root, and a directory of that user."""
    directory = tmp_path_factory.mktemp("nobody")
    if os.getuid() != 0:
        return [], directory
    for above in (directory, *directory.parents[:3]):
        if above.is_relative_to("/tmp") and above != Path("/tmp"):
            above.chmod(0o755)
    os.chown(directory, 65534, 65534)
    # Reading everything is left to it, because the checkout, Python and the tool cache may lie in root's home.
    caps = [
        "--inh-caps=-all,+dac_read_search",
        "--ambient-caps=+dac_read_search",
        "--bounding-set=-all,+dac_read_search",
    ]
    ids = ["setpriv", "--reuid=65534", "--regid=65534", "--clear-groups"]
    return [*ids, *caps, "env", f"HOME={directory}", f"SESSIONCTL_TOOLS_CACHE={cache_root()}"], directory


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """A copy of what images are made of, to be edited."""
    copy = tmp_path / "checkout"
    for source in (*SOURCES, "tools/localimages"):
        for file in source_files(ROOT / source):
            target = copy / file.relative_to(ROOT)
            target.parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(file, target)
    return copy
