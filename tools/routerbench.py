"""`make bench-router`: what the router costs beside the same nginx without its questions, and what many hosts leave.

Both are a real nginx on what the chart renders; the second one has lost what asks who may enter, and nothing else. They
take turns, so that whatever else this machine does falls on both.
"""

from __future__ import annotations

import asyncio
import re
import statistics
import subprocess
import sys
import tempfile
import threading
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tools.errors import ToolError
from tools.localcluster.ports import HOST, Ports
from tools.localdns import Dns
from tools.localrouter import LocalRouter
from tools.processes import dies_with_parent
from tools.toolchain import ensure

if TYPE_CHECKING:
    from collections.abc import Iterator

DOMAIN: Final = "bench.test"
ROUNDS: Final = 7
ROUND_SECONDS: Final = 3
CONNECTIONS: Final = 32
HOSTS: Final = 20_000
SESSION: Final = "3f1c2d4e-5b6a-4c7d-8e9f-0a1b2c3d4e5f"
KIB: Final = (1, 64)
"""Sizes of files of an editor: most are small."""
_QUESTIONS: Final = re.compile(
    r"  if \(\$cross_site\) {\s+return 403;\s+}\s+# Without a cookie[^}]*}\s+auth_request [^;]*;", re.DOTALL
)
_HEADERS: Final = """\
wrk.headers["Cookie"] = "__Host-session=a-cookie-of-this-bench; theme=dark"
wrk.headers["Accept"] = "*/*"
wrk.headers["Sec-Fetch-Site"] = "same-origin"
wrk.headers["Sec-Fetch-Mode"] = "no-cors"
wrk.headers["Sec-Fetch-Dest"] = "script"
"""
_ONE_HOST: Final = _HEADERS + f'wrk.headers["Host"] = "vs-code-{SESSION}.{DOMAIN}"\n'
_MANY_HOSTS: Final = (
    _HEADERS
    + f"""\
local count = 0
function request()
  count = count + 1
  wrk.headers["Host"] = string.format("vs-code-00000000-0000-4000-8000-%012x.{DOMAIN}", count % {HOSTS})
  return wrk.format("GET", "/1")
end
"""
)


@dataclass(frozen=True)
class Load:
    """What wrk counted, and what nginx's workers used meanwhile."""

    requests: int
    per_second: float
    microseconds: float


def without_questions(configuration: str) -> str:
    """Take out of a configuration what asks who may enter; raises ToolError when it is not there."""
    text, count = _QUESTIONS.subn("", configuration)
    if count != 1:
        raise ToolError("the router's configuration asks in a way unknown here", "change tools/routerbench.py with it")
    return text


class Bench:
    """The servers around the routers."""

    def __init__(self, folder: Path, ports: Ports) -> None:
        self._folder = folder
        self._ports = ports
        self._wrk = str(ensure(["wrk"]).binary("wrk"))

    @contextmanager
    def around(self) -> Iterator[None]:
        """Run pods and managers as one nginx, and a DNS server for which every session is there."""
        upstream = self._folder / "upstream.conf"
        for size in KIB:
            (self._folder / str(size)).write_bytes(b"x" * size * 1024)
        upstream.write_text(
            f"pid {self._folder}/upstream.pid; error_log {self._folder}/upstream.log crit;"
            " daemon off; master_process off; events { worker_connections 4096; } http { access_log off; keepalive_requests 1000000;"
            + "".join(
                f"{each}_temp_path {self._folder}/{each};"
                for each in ("client_body", "proxy", "fastcgi", "scgi", "uwsgi")
            )
            + f"server {{ listen {HOST}:{self._ports['pods']}; root {self._folder}; }}"
            f"server {{ listen {HOST}:{self._ports['manager']}; location / {{ return 204; }} }} }}"
        )
        argv = [str(ensure(["nginx"]).binary("nginx")), "-e", str(self._folder / "upstream.log"), "-c", str(upstream)]
        process = subprocess.Popen([*argv, "-p", str(self._folder)], preexec_fn=dies_with_parent())
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, daemon=True)
        thread.start()
        address = (HOST, self._ports["dns"])
        serving = loop.create_datagram_endpoint(lambda: Dns(fallback=HOST), local_addr=address)
        asyncio.run_coroutine_threadsafe(serving, loop).result(10)
        try:
            yield
        finally:
            process.terminate()
            process.wait()
            loop.call_soon_threadsafe(loop.stop)
            thread.join()

    def router(self, name: str, *, asks: bool) -> LocalRouter:
        """Return a router."""
        folder = self._folder / name
        folder.mkdir()
        return LocalRouter(
            folder,
            values={"config": {"sessions": {"domain": DOMAIN}}, "router": {"accessLog": False}},
            managers=[self._ports["manager"]],
            dns=self._ports["dns"],
            pod_port=self._ports["pods"],
            edit=str if asks else without_questions,
        )

    def load(self, router: LocalRouter, path: str, script: str, seconds: int) -> Load:
        """Ask for a path as fast as it goes; raises ToolError when an answer is not what it should be."""
        file = self._folder / "load.lua"
        file.write_text(script)
        before = router.cpu_seconds()
        argv = [self._wrk, "-t", "1", "-c", str(CONNECTIONS), "-d", f"{seconds}s", "-s", str(file)]
        done = subprocess.run(
            [*argv, f"http://{HOST}:{router.port}/{path}"], capture_output=True, text=True, check=False
        )
        found = re.search(r"(\d+) requests in ([\d.]+)(s|m)", done.stdout)
        if found is None or "Non-2xx" in done.stdout or "Socket errors" in done.stdout:
            raise ToolError(f"wrk says: {done.stdout} {done.stderr}", f"see {router.errors}")
        count = int(found[1])
        used = router.cpu_seconds() - before
        return Load(count, count / float(found[2]), used / count * 1e6)


def compare(bench: Bench, asking: LocalRouter, plain: LocalRouter, path: str) -> None:
    """Print one line."""
    rounds: list[tuple[Load, Load]] = []
    for _ in range(ROUNDS):
        first, second = (bench.load(each, path, _ONE_HOST, ROUND_SECONDS) for each in (asking, plain))
        rounds.append((first, second))
    rate = statistics.median(ours.per_second / theirs.per_second for ours, theirs in rounds)
    cost = statistics.median(ours.microseconds - theirs.microseconds for ours, theirs in rounds)
    ours, theirs = (statistics.median(pair[index].per_second for pair in rounds) for index in (0, 1))
    print(
        f"files of {path:>2} KiB: {ours:6.0f} requests/s, without questions {theirs:6.0f}: {rate:.2f}"
        f"  (wanted: at least 0.90); {cost:.0f} us of a processor more for each"
    )


def crowd(bench: Bench, router: LocalRouter) -> None:
    """Print what many hosts leave behind."""
    bench.load(router, "1", _ONE_HOST, 1)
    workers, before, asked = router.workers(), router.resident_kib(), 0
    while asked < HOSTS:
        asked += bench.load(router, "1", _MANY_HOSTS.replace("local count = 0", f"local count = {asked}"), 2).requests
    same = "the same workers and configuration" if router.workers() == workers else "OTHER WORKERS"
    print(
        f"{HOSTS} hosts, each signed in: {before / 1024:.1f} MB before, {router.resident_kib() / 1024:.1f} MB after"
        f" in the largest worker; {len(router.cache_files())} answers of managers kept; {same}"
    )


def main() -> int:
    """Run all of it and print."""
    with tempfile.TemporaryDirectory(prefix="sessionctl-bench-") as name, ExitStack() as stack:
        try:
            bench = Bench(Path(name), stack.enter_context(Ports()))
            stack.enter_context(bench.around())
            asking = stack.enter_context(bench.router("asking", asks=True))
            plain = stack.enter_context(bench.router("plain", asks=False))
            print(f"{ROUNDS} rounds of {ROUND_SECONDS} s in turns, {CONNECTIONS} connections; medians")
            for size in KIB:
                compare(bench, asking, plain, str(size))
            crowd(bench, asking)
        except ToolError as error:
            print(f"error: {error}", file=sys.stderr)
            return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
