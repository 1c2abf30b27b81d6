from __future__ import annotations

import asyncio
import os
import sys
import threading
import time
from datetime import timedelta
from pathlib import Path

import pytest

from sessionctl.adapters import process
from sessionctl.errors import DeadlineExceededError

LONG = timedelta(seconds=60)


async def run(code: str, stdin: str = "", timeout: timedelta = LONG) -> process.Outcome:
    return await process.run([sys.executable, "-c", code], stdin=stdin, environment=os.environ, timeout=timeout)


async def test_input_goes_to_standard_input_and_arguments_see_no_shell() -> None:
    outcome = await process.run(
        [sys.executable, "-c", "import sys; print(sys.argv[1]); sys.stderr.write(sys.stdin.read())", "$(id); `id`"],
        stdin="ü\n",
        environment=os.environ,
        timeout=LONG,
    )
    assert outcome == process.Outcome(0, "$(id); `id`\n", "ü\n")


async def test_an_exit_code_is_an_answer() -> None:
    assert (await run("raise SystemExit(3)")).exit_code == 3


async def test_only_the_given_environment_is_passed_on() -> None:
    outcome = await process.run(
        [sys.executable, "-c", "import os; print(os.environ.get('HOME'), os.environ['ONLY'])"],
        stdin="",
        environment={"ONLY": "this"},
        timeout=LONG,
    )
    assert outcome.stdout == "None this\n"


STUBBORN = """
import os, signal, sys, time
signal.signal(signal.SIGTERM, signal.SIG_IGN)
open(sys.argv[1], "w").write(str(os.getpid()))
time.sleep(600)
"""


def wait_for_text(file: Path) -> str:
    while not file.is_file() or not file.read_text():
        time.sleep(0.01)
    return file.read_text()


def is_alive(pid: int) -> bool:
    try:
        os.kill(pid, 0)
    except ProcessLookupError:
        return False
    return True


async def test_out_of_time_the_program_is_ended() -> None:
    with pytest.raises(DeadlineExceededError, match="did not end within"):
        await run("import time; time.sleep(600)", timeout=timedelta(milliseconds=300))


async def test_cancelled_a_program_that_ignores_sigterm_is_killed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(process, "TERMINATE_SECONDS", 0.1)
    file = tmp_path / "pid"
    task = asyncio.create_task(
        process.run([sys.executable, "-c", STUBBORN, str(file)], stdin="", environment=os.environ, timeout=LONG)
    )
    pid = int(await asyncio.to_thread(wait_for_text, file))
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not is_alive(pid)


async def test_a_missing_program_is_the_callers_to_explain() -> None:
    with pytest.raises(FileNotFoundError):
        await process.run(["/no/such/program"], stdin="", environment={}, timeout=LONG)


async def test_cancelled_when_it_has_just_ended_nothing_is_complained_about(
    caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    collect, asked, cancelled = os.waitpid, threading.Event(), threading.Event()

    def collect_late(pid: int, options: int) -> tuple[int, int]:
        os.waitid(os.P_PID, pid, os.WEXITED | os.WNOWAIT)
        asked.set()
        cancelled.wait()
        return collect(pid, options)

    monkeypatch.setattr(os, "waitpid", collect_late)
    task = asyncio.create_task(process.run(["/bin/true"], stdin="", environment={}, timeout=LONG))
    await asyncio.to_thread(asked.wait)
    for _ in range(100):
        await asyncio.sleep(0)  # it is being read from now, not only being made
    asyncio.get_running_loop().call_later(0.1, cancelled.set)
    task.cancel()
    await asyncio.wait([task])
    assert caplog.messages == []
