"""The editor's container: when its port is open, what goes through it, and how it ends."""

from __future__ import annotations

import json
import os
import re
import socket
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionctl.agent import editor_control, editor_settings
from sessionctl.errors import UnavailableError
from tests.agent.editors import EditorProcess, Editors, editors_in, is_closed
from tests.agent.process import Agents
from tests.support.waiting import wait_for

_ESTABLISHED = "01"
_LISTENING = "0A"
_KEEPALIVE_TIMER = "02"


@pytest.fixture
def editors(tmp_path: Path) -> Iterator[Editors]:
    with editors_in(tmp_path) as found:
        yield found


@pytest.fixture(scope="module")
def running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[EditorProcess]:
    """The editor that the tests of this file share which end nothing but connections."""
    with editors_in(tmp_path_factory.mktemp("editor")) as found:
        yield found.start().ready()


def _sockets(editor: EditorProcess, port: int) -> list[list[str]]:
    """Return the kernel's lines about a port of ours."""
    lines = [
        line.split()
        for table in ("tcp", "tcp6")
        for line in Path(f"/proc/{editor.process.pid}/net/{table}").read_text().splitlines()[1:]
    ]
    return [fields for fields in lines if fields[1].endswith(f":{port:04X}")]


def test_its_port_is_closed_until_it_answers(editors: Editors) -> None:
    editor = editors.start()
    editor.child()
    assert not editor.listens()
    editor.ready()
    editor.connect()


def test_every_byte_goes_through_both_ways_and_so_does_the_end(running: EditorProcess) -> None:
    sent = os.urandom(8 * 1024 * 1024)
    with running.connect() as connection:
        writer = os.fork()
        if not writer:
            connection.sendall(sent)
            connection.shutdown(socket.SHUT_WR)
            os._exit(0)
        got = b"".join(iter(lambda: connection.recv(65536), b""))
        os.waitpid(writer, 0)
    assert got == sent + b"bye"


def test_a_client_that_is_lost_is_lost_for_code_server_too(running: EditorProcess) -> None:
    connection = running.connect()
    assert wait_for(lambda: _carried(running), "it is carried")
    # As a machine that is switched off: nothing is said, then a reset.
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")
    connection.close()
    wait_for(lambda: not _carried(running), "its connection to code-server is closed")


def _carried(editor: EditorProcess) -> list[str]:
    """Return the connections to code-server's socket."""
    path = str(editor.stage.parent / "tmp")
    lines = Path(f"/proc/{editor.process.pid}/net/unix").read_text().splitlines()
    return [line for line in lines if path in line and line.split()[5] == "03"]


def test_a_silent_client_is_asked_whether_it_is_there(running: EditorProcess) -> None:
    with running.connect():
        ours = [fields for fields in _sockets(running, running.port) if fields[3] == _ESTABLISHED]
        assert {fields[5].partition(":")[0] for fields in ours} == {_KEEPALIVE_TIMER}


def test_told_to_hang_up_it_ends_every_connection_and_those_of_the_next_moment(running: EditorProcess) -> None:
    before = [running.connect() for _ in range(3)]
    assert running.control("POST /close") == "HTTP/1.1 204 No Content"
    assert all(is_closed(connection) for connection in before)
    # The router let it in by what it remembered, or it was on its way.
    assert is_closed(running.connect())
    running.connect()


@pytest.mark.parametrize("request_line", ["GET /close", "POST /", "POST /close/", "DELETE /close", "\r\n"])
def test_nothing_else_makes_it_hang_up(running: EditorProcess, request_line: str) -> None:
    with running.connect() as connection:
        assert running.control(request_line) == "HTTP/1.1 404 Not Found"
        connection.sendall(b"still")
        assert connection.recv(5) == b"still"


def test_it_is_told_from_inside_the_pod_only(running: EditorProcess) -> None:
    listening = [fields for fields in _sockets(running, running.control_port) if fields[3] == _LISTENING]
    assert [fields[1].partition(":")[0] for fields in listening] == ["0100007F"]


def test_the_agent_passes_it_on_for_whoever_has_the_token(running: EditorProcess, agents: Agents) -> None:
    agent = agents.start(SESSIONCTL_AGENT_EDITOR_CONTROL_PORT=str(running.control_port)).ready()
    connection = running.connect()
    refused = agent.ask("DELETE", "/v1/editor/connections", headers={})
    assert (refused.status, refused.json()["code"]) == (401, "unauthenticated")
    connection.sendall(b"still")
    assert connection.recv(5) == b"still"
    assert agent.ask("DELETE", "/v1/editor/connections").status == 204
    assert is_closed(connection)


def test_without_an_editor_there_is_nothing_to_end(agents: Agents) -> None:
    with socket.socket() as bound:
        bound.bind(("127.0.0.1", 0))
        port = str(bound.getsockname()[1])
        agent = agents.start(SESSIONCTL_AGENT_EDITOR_CONTROL_PORT=port).ready()
        assert agent.ask("DELETE", "/v1/editor/connections").status == 204


async def test_an_editor_that_does_not_answer_is_told(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(editor_control, "ANSWER_SECONDS", 0.1)
    with socket.create_server(("127.0.0.1", 0)) as silent, pytest.raises(UnavailableError):
        await editor_control.Editor(silent.getsockname()[1]).hang_up()


def test_code_server_that_ends_is_started_again_and_the_container_stays(editors: Editors) -> None:
    editor = editors.start().ready()
    connection, child = editor.connect(), editor.child()
    (editors.stage / "go").unlink()
    (editors.stage / "end").touch()
    with socket.create_connection(("127.0.0.1", editor.port)) as last:
        last.sendall(b"x")
        assert is_closed(last)
    assert is_closed(connection)
    assert wait_for(lambda: not editor.listens(), "its port is closed")
    wait_for(lambda: not _lives(child), "nothing of it is left")
    assert wait_for(lambda: editor.child() != child, "it is started again")
    editor.ready().connect()
    assert editor.process.poll() is None
    assert "ended with 7" in editor.log.read_text()


@pytest.mark.parametrize("trouble", ["broken", "missing"])
def test_an_editor_that_cannot_run_does_not_end_the_container(editors: Editors, trouble: str) -> None:
    """The pod would not be Ready, and its chat gone with it."""
    if trouble == "missing":
        (editors.home / "bin" / "node").unlink()
    editor = editors.start("broken")
    wait_for(lambda: editor.log.read_text().count('"warning"') > 1, "it was tried twice")
    assert editor.process.poll() is None
    assert not editor.listens()
    assert editor.terminate() == 0


def test_a_port_that_is_taken_is_waited_for(editors: Editors) -> None:
    editor = editors.start()
    with socket.create_server(("127.0.0.1", editor.port)):
        (editors.stage / "go").touch()
        wait_for(lambda: "cannot be started" in editor.log.read_text(), "it is told")
    editor.ready().connect()


@pytest.mark.parametrize("deaf", [False, True])
def test_at_sigterm_everything_ends(editors: Editors, deaf: bool) -> None:
    editor = editors.start(*(["deaf"] if deaf else [])).ready()
    connection, child = editor.connect(), editor.child()
    assert editor.terminate() == 0
    assert is_closed(connection)
    wait_for(lambda: not _lives(child), "nothing of it is left")
    assert "Traceback" not in editor.log.read_text()


def test_it_leaves_when_told_before_it_answers(editors: Editors) -> None:
    editor = editors.start()
    child = editor.child()
    assert editor.terminate() == 0
    wait_for(lambda: not _lives(child), "nothing of it is left")


def _lives(process: int) -> bool:
    try:
        return Path(f"/proc/{process}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_code_server_is_told_where_things_are_and_nothing_of_ours(editors: Editors) -> None:
    editors.start(SESSIONCTL_AGENT_TOKEN_FILE="/secret", SESSIONCTL_AGENT_PORT="1234", GREETING="hello").ready()
    arguments = json.loads((editors.stage / "argv").read_text())
    environment = json.loads((editors.stage / "environment").read_text())
    assert arguments[0].endswith("/code-server/out/node/entry.js")
    assert arguments[-1] == str(editors.workspace)
    assert {"--auth=none", "--disable-telemetry", "--disable-update-check"} <= set(arguments)
    assert environment["GREETING"] == "hello"
    ours = {name for name in environment if name.startswith("SESSIONCTL_")}
    assert ours == {"SESSIONCTL_AGENT_PORT"}
    (runtime,) = editors.temporary.iterdir()
    assert runtime.stat().st_mode & 0o777 == 0o700
    assert "password" not in (runtime / "config.yaml").read_text()


def test_its_settings_are_the_users_after_the_first_start(editors: Editors) -> None:
    settings = editors.workspace / ".local" / "share" / "code-server" / "User" / "settings.json"
    editors.start().ready().terminate()
    assert json.loads(settings.read_text())["extensions.autoCheckUpdates"] is False
    settings.write_text('{"mine": true}')
    editors.start().ready()
    assert json.loads(settings.read_text()) == {"mine": True}


@pytest.mark.parametrize(
    ("name", "value"),
    [
        ("SESSIONCTL_EDITOR_PORT", "editor"),
        ("SESSIONCTL_EDITOR_CONTROL_PORT", "-1"),
        ("WORKSPACE", "/nowhere"),
    ],
)
def test_a_wrong_setting_is_one_line_and_exit_code_2(editors: Editors, name: str, value: str) -> None:
    done = _run(editors, **{name: value})
    assert (done.returncode, done.stdout) == (2, "")
    (line,) = done.stderr.splitlines()
    assert line.startswith(f"error: {name}: ")


def test_it_explains_itself_and_names_every_setting(editors: Editors) -> None:
    done = _run(editors, "--help")
    assert (done.returncode, done.stderr) == (0, "")
    read = set(re.findall(r'"(SESSIONCTL_EDITOR_\w+|WORKSPACE)"', Path(editor_settings.__file__).read_text()))
    assert {name for name in read if name not in done.stdout} == set()
    assert _run(editors, "--port", "1").returncode == 2


def _run(editors: Editors, *arguments: str, **changes: str) -> subprocess.CompletedProcess[str]:
    command = [sys.executable, "-m", "sessionctl.agent.editor", *arguments]
    environment = editors.environment(**changes)
    return subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)


def test_it_loads_next_to_nothing() -> None:
    code = "import sys, sessionctl.agent.editor_life; print([n for n in sys.argv[1:] if n in sys.modules])"
    others = ["uvicorn", "starlette", "pydantic", "h11", "httpx", "typer", "redis", "yaml", "sessionctl.wire"]
    done = subprocess.run([sys.executable, "-c", code, *others], capture_output=True, text=True, check=True)
    assert done.stdout == "[]\n"
