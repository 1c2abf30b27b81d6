"""Builds the pinned tools that are missing, into a cache that every checkout shares.

An entry of the cache is keyed by go.mod, go.sum, the build flags and the version of Go; it is complete or absent.
Only the standard library is used: this runs before anything is installed.
"""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
import time
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from tools.cache import cache_root, locked
from tools.debian import UNPACKED, ensure_packages, ensure_unpacked
from tools.errors import ToolError
from tools.golang import Go, find_go, install_go
from tools.pins import ALL_TOOLS, GO_TOOLS, GoTool
from tools.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Sequence

_BUILD_FLAGS = ("-trimpath", "-buildvcs=false", "-mod=readonly")
_NETWORK_SIGNS = ("dial tcp", "no such host", "i/o timeout", "connection refused", "TLS handshake", "proxyconnect")
_NETWORK_STEP = "check the network (or the GOPROXY setting of `go env`), then run `make tools` again"


@dataclass(frozen=True)
class Tools:
    """What `ensure` found or built.

    Attributes:
        binaries: Name of a binary -> its file.
        data: (tool, folder) -> folder with the files that the tool needs at run time.
        longest: Name and seconds of the longest build of this call, None when nothing was built.
    """

    binaries: dict[str, Path]
    data: dict[tuple[str, str], Path]
    longest: tuple[str, float] | None = None

    def binary(self, name: str) -> Path:
        """Return the file of a binary.

        Raises:
            ToolError: It is not among the tools that were asked for.
        """
        if name not in self.binaries:
            known = ", ".join(sorted(self.binaries))
            raise ToolError(f"there is no tool called {name}", f"known are {known}")
        return self.binaries[name]

    def path(self) -> str:
        """Return a PATH that finds these tools first."""
        folders = dict.fromkeys(str(file.parent) for file in self.binaries.values())
        return os.pathsep.join([*folders, os.environ.get("PATH", os.defpath)])


def cache_key(tool: GoTool) -> str:
    """Return the digest of everything but Go itself that decides what the binaries contain."""
    digest = hashlib.sha256()
    for name in ("go.mod", "go.sum"):
        digest.update((tool.folder / name).read_bytes() + b"\0")
    recipe = [_BUILD_FLAGS, tool.linker_flags(), tool.binaries, tool.data, os.uname().machine, *tool.static_c]
    digest.update(json.dumps(recipe, sort_keys=True).encode())
    return digest.hexdigest()[:12]


def ensure(
    names: Iterable[str] = ALL_TOOLS,
    say: Callable[[str], None] | None = None,
    go_tools: Sequence[GoTool] = GO_TOOLS,
) -> Tools:
    """Return the tools, after building what the cache lacks.

    Args:
        names: Folders under tools/, and names of `tools.debian.UNPACKED`.
        say: Takes the progress lines; standard error without it.
        go_tools: What the names stand for.

    Raises:
        ToolError: Go, a Debian package, the network or disk space is missing, or a build failed.
    """
    wanted = set(names)
    cache = cache_root()
    progress = Progress(say)
    binaries: dict[str, Path] = {}
    data: dict[tuple[str, str], Path] = {}
    tools = [tool for tool in go_tools if tool.name in wanted]
    go = find_go(cache) if tools else None
    entries = {tool.name: _find_entry(cache, tool, go) for tool in tools}
    missing = [tool for tool in tools if entries[tool.name] is None]
    if missing and go is None:
        go = install_go(cache, progress)
    times: dict[str, float] = {}
    for number, tool in enumerate(missing, 1):
        if go is not None:
            label = f"{tool.name} {tool.version()} ({number}/{len(missing)})"
            entries[tool.name], times[tool.name] = _build(cache, tool, go, label, progress)
    for tool in tools:
        entry = entries[tool.name]
        if entry is not None:
            binaries |= {name: entry / "bin" / name for name in tool.binaries}
            data |= {(tool.name, folder): entry / folder for folder in tool.data}
    for name, unpacked in UNPACKED.items():
        if name in wanted:
            binaries |= ensure_unpacked(unpacked, cache, progress)
    built = {name: seconds for name, seconds in times.items() if seconds > 0}
    longest = max(built.items(), key=lambda item: item[1]) if built else None
    if longest:
        total = sum(built.values())
        progress.line(
            f"tools: {len(built)} built in {total:.0f} s, the longest was {longest[0]} with {longest[1]:.0f} s"
        )
    return Tools(binaries, data, longest)


def _entry(cache: Path, tool: GoTool, go_version: str) -> Path:
    return cache / f"{tool.name}-{tool.version()}-{cache_key(tool)}-{go_version}"


def _find_entry(cache: Path, tool: GoTool, go: Go | None) -> Path | None:
    """Return the entry of these pins; without a Go on the machine, whatever Go it was built with."""
    if go is not None:
        entry = _entry(cache, tool, go.version)
        return entry if entry.is_dir() else None
    found = sorted(cache.glob(_entry(cache, tool, "go*").name), reverse=True)
    return found[0] if found else None


def _build(cache: Path, tool: GoTool, go: Go, label: str, progress: Progress) -> tuple[Path, float]:
    """Build an entry of the cache; return it and the seconds, 0 when somebody else was faster."""
    entry = _entry(cache, tool, go.version)
    with locked(cache, entry.name, lambda: progress.line(f"waiting for another build of {tool.name}")):
        if entry.is_dir():
            return entry, 0
        # Under the lock, so what lies there is of a build that was killed.
        draft = cache / "drafts" / entry.name
        shutil.rmtree(draft, ignore_errors=True)
        (draft / "bin").mkdir(parents=True)
        log = cache / "logs" / f"{entry.name}.log"
        log.parent.mkdir(exist_ok=True)
        ensure_packages(tool.packages, progress)
        started = time.monotonic()
        with progress.step(f"building {label}"), log.open("wb") as output:
            # Several at once: one is linked, on one core, while others are still compiled.
            names = list(tool.binaries)
            target = f"{draft / 'bin'}/" if len(names) > 1 else str(draft / "bin" / names[0])
            tags = ["-tags", ",".join(tool.static_c)] if tool.static_c else []
            argv = ["build", *_BUILD_FLAGS, *tags, "-ldflags", tool.linker_flags(), "-o", target]
            argv += tool.binaries.values()
            _run_go(go, tool, argv, log, output.fileno())
            _copy_data(go, tool, draft, log, output.fileno())
        seconds = time.monotonic() - started
        facts = {"tool": tool.name, "version": tool.version(), "go": go.version, "seconds": round(seconds, 1)}
        (draft / "facts.json").write_text(json.dumps(facts) + "\n")
        draft.rename(entry)
        return entry, seconds


def _run_go(go: Go, tool: GoTool, argv: list[str], log: Path, output: int) -> bytes:
    settings = {
        "CGO_ENABLED": "1" if tool.static_c else "0",
        "GOTOOLCHAIN": "local",
        "GOWORK": "off",
        "GOFLAGS": "-buildvcs=false",
    }
    if not os.environ.get("HOME"):
        settings |= {"GOPATH": str(cache_root() / "gopath"), "GOCACHE": str(cache_root() / "gocache")}
    listing = argv[0] == "list"
    done = subprocess.run(
        [go.binary, *argv],
        cwd=tool.folder,
        env=os.environ | settings,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE if listing else output,
        stderr=output,
        check=False,
    )
    if done.returncode != 0:
        raise _explain(tool, done.returncode, log)
    return done.stdout if listing else b""


def _copy_data(go: Go, tool: GoTool, draft: Path, log: Path, output: int) -> None:
    """Copy run-time files out of Go's module cache, so that this cache alone is enough."""
    if not tool.data:
        return
    source = Path(_run_go(go, tool, ["list", "-m", "-f", "{{.Dir}}", tool.module], log, output).decode().strip())
    for folder, pattern in tool.data.items():
        (draft / folder).mkdir()
        for file in source.glob(pattern):
            # The module cache is read-only, and copied modes would make the entry hard to delete.
            shutil.copyfile(file, draft / folder / file.name)


def _explain(tool: GoTool, status: int, log: Path) -> ToolError:
    text = log.read_text(errors="replace")
    last = next((line for line in reversed(text.splitlines()) if line.strip()), f"exit status {status}")
    what = f"cannot build {tool.name} {tool.version()}"
    if "no space left on device" in text:
        return ToolError(
            f"{what}: the disk is full", "free about 6 GB where Go keeps its caches (`go env GOCACHE GOMODCACHE`)"
        )
    if "module lookup disabled" in text or any(sign in text for sign in _NETWORK_SIGNS):
        return ToolError(f"{what}: its Go modules cannot be downloaded", _NETWORK_STEP)
    if status < 0 or "signal: killed" in text:
        return ToolError(
            f"{what}: the compiler was killed", "it needs about 3 GB of memory; then run `make tools` again"
        )
    return ToolError(f"{what}: {last[:300]}", f"see {log}")


def main(argv: list[str]) -> int:
    """Build the named tools, all by default, and print where the binaries are."""
    try:
        tools = ensure(argv or ALL_TOOLS)
    except ToolError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    for name, file in tools.binaries.items():
        sys.stdout.write(f"{name}\t{file}\n")
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
