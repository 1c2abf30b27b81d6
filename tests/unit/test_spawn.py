"""The processes that tests fork are what executed ones would be."""

from __future__ import annotations

import json
import os
import signal
import subprocess
from pathlib import Path
from typing import Any, Final

import pytest

from tests.support.spawn import Forked, differs, zygote

ENTRY: Final = "tests.support.forked_probe:tell"


def start(*argv: str | bytes, **how: Any) -> Forked:
    pipe = subprocess.PIPE
    return zygote(()).start(ENTRY, argv, {"ONLY": "this"}, stdin=pipe, stdout=pipe, stderr=pipe, **how)


def test_it_has_what_it_was_given_and_nothing_else(tmp_path: Path) -> None:
    process = start("program", b"\xff", "7", cwd=tmp_path, new_session=True)
    out, err = process.communicate(b"given")
    told = json.loads(out)
    assert (process.wait(), err) == (7, b"ends\n")
    assert told["argv"] == ["program", os.fsdecode(b"\xff"), "7"]
    assert told["env"] == {"ONLY": "this"}
    assert (told["cwd"], told["read"], told["terminal"], told["main"]) == (str(tmp_path), "given", False, None)
    assert told["pid"] == told["session"] == process.pid
    # The last one is that of the folder it looked at.
    assert told["open"][:3] == [0, 1, 2]
    assert len(told["open"]) == 4


def test_others_that_run_are_nothing_to_it() -> None:
    first = start("wait")
    second = start("0")
    told = json.loads(second.communicate()[0])
    assert len(told["open"]) == 4
    assert first.poll() is None
    first.kill()
    first.communicate()
    assert first.wait() == -signal.SIGKILL


@pytest.mark.parametrize(("number", "code"), [(signal.SIGTERM, -signal.SIGTERM), (signal.SIGINT, -signal.SIGINT)])
def test_signals_end_it_as_they_end_python(number: signal.Signals, code: int) -> None:
    reading, writing = os.pipe()
    process = zygote(()).start(ENTRY, ["wait"], {}, stdout=writing)
    os.close(writing)
    with os.fdopen(reading, "rb") as out:
        assert out.readline()
    with pytest.raises(subprocess.TimeoutExpired):
        process.wait(0)
    process.send_signal(number)
    assert process.wait() == code


def test_an_error_is_told_and_is_code_1() -> None:
    process = start("no number")
    _, err = process.communicate()
    assert process.wait() == 1
    assert b"ValueError" in err


def test_what_makes_another_python_is_executed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PYTHONHASHSEED", "0")
    assert differs({"PYTHONPROFILEIMPORTTIME": "1"})
    assert differs({"PYTHONHASHSEED": "1"})
    assert not differs({"PYTHONHASHSEED": "0", "PATH": "/nowhere"})
