from __future__ import annotations

import os
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import cast

import httpx
import pytest

from sessionctl.agent.activity import LOOK_SECONDS, Activity
from sessionctl.agent.connections import LASTING_SECONDS, Connections
from sessionctl.agent.editor_control import Editor
from sessionctl.agent.runner import Runner
from sessionctl.agent.server import Agent, build_app
from tests.agent.process import TOKEN, AgentProcess, Agents
from tests.support.waiting import wait_for

Command = subprocess.Popen[str]


@pytest.fixture(scope="module")
def shared(tmp_path_factory: pytest.TempPathFactory) -> Iterator[AgentProcess]:
    """The agent of this file."""
    agents = Agents(tmp_path_factory.mktemp("activity"))
    yield agents.start().ready()
    agents.close()


@pytest.fixture
def agent(shared: AgentProcess) -> Iterator[AgentProcess]:
    """That agent, whose workspace nothing holds before and after a test."""
    yield shared
    wait_until_free(shared)


def start_hold(agent: AgentProcess | int, *command: str) -> Command:
    """Start a command that holds the workspace, with pipes to it."""
    port = agent if isinstance(agent, int) else agent.port
    return subprocess.Popen(
        [sys.executable, "-m", "sessionctl.agent", "hold", "--", *command],
        env={**os.environ, "SESSIONCTL_AGENT_PORT": str(port)},
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )


@contextmanager
def held(agent: AgentProcess | int, *command: str) -> Iterator[Command]:
    """Hold until the end of the block, which ends the command by closing its input."""
    with start_hold(agent, *(command or ("cat",))) as process:
        try:
            yield process
        except BaseException:
            process.kill()
            raise
        finally:
            if not process.stdin.closed:  # type: ignore[union-attr]
                process.communicate()


def held_for(agent: AgentProcess) -> float:
    """Return how long it has been held, as soon as it is."""
    return float(wait_for(lambda: agent.activity()["hold"], "the workspace is held"))


def wait_until_free(agent: AgentProcess) -> None:
    wait_for(lambda: agent.activity()["hold"] is None, "nothing holds the workspace")


def free_port() -> int:
    """Return a port that nobody has at this moment."""
    with socket.create_server(("127.0.0.1", 0)) as server:
        return int(server.getsockname()[1])


def test_nothing_goes_on_at_first(agent: AgentProcess) -> None:
    agent.say("hello")
    nothing = {"message_running": False, "hold": None, "editor_input": None, "editor_connected": None}
    assert wait_for(lambda: agent.activity() == nothing, "the message has ended")


def test_a_command_holds_the_workspace_while_it_runs(agent: AgentProcess) -> None:
    with held(agent) as command:
        before = held_for(agent)
        assert wait_for(lambda: agent.activity()["hold"] > before, "its age grows")
        assert command.communicate("what it reads") == ("what it reads", "")
        assert command.returncode == 0
    wait_until_free(agent)  # and so after every test


@pytest.mark.parametrize(
    ("script", "code"), [("exit 7", 7), ("kill -KILL $$", -signal.SIGKILL), ("kill -TERM $$", -signal.SIGTERM)]
)
def test_its_end_is_the_command_s_own(agent: AgentProcess, script: str, code: int) -> None:
    with held(agent, "sh", "-c", script) as command:
        assert command.communicate() == ("", "")
        assert command.returncode == code


def test_signals_reach_the_command(agent: AgentProcess) -> None:
    script = 'trap "echo caught; exit 3" TERM; echo ready; read -r _'
    with held(agent, "bash", "-c", script) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "ready\n"
        command.terminate()
        assert command.communicate()[0] == "caught\n"
        assert command.returncode == 3


def test_what_a_terminal_sends_to_all_of_them_does_not_end_the_hold(agent: AgentProcess) -> None:
    script = 'trap "echo caught" INT; echo ready; read -r _; test $? -le 128 || read -r _'
    with held(agent, "bash", "-c", script) as command:
        assert command.stdout is not None
        assert command.stdout.readline() == "ready\n"
        before = held_for(agent)
        os.killpg(command.pid, signal.SIGINT)
        assert command.stdout.readline() == "caught\n"
        assert wait_for(lambda: agent.activity()["hold"] > before + 1, "it is still held")
        command.communicate("\n")


def test_a_command_that_has_ended_holds_nothing_even_if_nobody_has_looked(agent: AgentProcess) -> None:
    with held(agent, "head", "-n", "1") as command:
        held_for(agent)
        assert command.stdin is not None
        command.stdin.write("end\n")
        command.stdin.flush()
        wait_until_free(agent)
        assert command.returncode is None, "it is there, as a process that has ended"


def test_the_command_is_as_if_it_had_been_run_alone(agent: AgentProcess) -> None:
    script = (
        "echo $$; read -r children < /proc/$$/task/$$/children; echo children: $children; "
        "grep -E 'Sig(Ign|Blk)' /proc/self/status; ls -l /proc/self/fd | wc -l"
    )
    alone = subprocess.run(["sh", "-c", script], stdin=subprocess.PIPE, capture_output=True, text=True, check=True)
    with held(agent, "sh", "-c", script) as command:
        out, _ = command.communicate()
    assert out.splitlines()[1:] == alone.stdout.splitlines()[1:]
    assert int(out.splitlines()[0]) == command.pid


def test_who_reads_its_output_does_not_wait_for_the_hold(agent: AgentProcess) -> None:
    with held(agent, "sh", "-c", "exec >/dev/null 2>&1; cat") as command:
        assert command.stdout is not None
        assert command.stderr is not None
        assert (command.stdout.read(), command.stderr.read()) == ("", "")
        assert held_for(agent) > 0
        assert command.poll() is None


def test_of_several_the_last_one_counts(agent: AgentProcess) -> None:
    with held(agent):
        first = held_for(agent)
        wait_for(lambda: agent.activity()["hold"] > first + 0.5, "the first one grows old")
        with held(agent):
            wait_for(lambda: agent.activity()["hold"] < first + 0.5, "the second one is younger")
        wait_for(lambda: agent.activity()["hold"] > first + 0.5, "the first one is still there")


@pytest.mark.parametrize("end", [signal.SIGKILL, signal.SIGTERM])
def test_a_hold_goes_on_with_its_age_when_the_agent_is_started_again(agents: Agents, end: signal.Signals) -> None:
    port = str(free_port())
    agent = agents.start(SESSIONCTL_AGENT_PORT=port).ready()
    with held(agent) as command:
        before = held_for(agent)
        agent.signal(end)
        assert agent.process.wait(60) == (0 if end is signal.SIGTERM else -9)
        again = agents.start(SESSIONCTL_AGENT_PORT=port).ready()
        assert held_for(again) > before
        assert command.poll() is None
    wait_until_free(again)


def test_without_an_agent_the_command_runs_all_the_same(agents: Agents) -> None:
    port = free_port()
    with held(port, "sh", "-c", "cat; exit 5") as command:
        assert command.stderr is not None
        warning = command.stderr.readline()
        assert warning.startswith("warning: the agent cannot be told (")
        # It is told later.
        agent = agents.start(SESSIONCTL_AGENT_PORT=str(port)).ready()
        assert held_for(agent) > 0
        assert command.communicate("text") == ("text", "")
        assert command.returncode == 5
    wait_until_free(agent)


def test_what_is_no_agent_is_an_agent_that_cannot_be_told() -> None:
    with socket.create_server(("127.0.0.1", 0)) as other, held(other.getsockname()[1], "echo", "run") as command:
        connection, _ = other.accept()
        with connection:
            connection.sendall(b"SSH-2.0-OpenSSH_9.2\r\n")
            out, err = command.communicate()
    assert (command.returncode, out) == (0, "run\n")
    assert err.startswith("warning: the agent cannot be told (it answers 'SSH-2.0-Open'")


@pytest.mark.parametrize(
    ("arguments", "code"),
    [([], 2), (["--"], 2), (["--wrong"], 2), (["--", "/nowhere/x"], 127), (["--", "/dev/null"], 126), (["--help"], 0)],
)
def test_a_command_that_cannot_be_run_is_told(arguments: list[str], code: int) -> None:
    command = [sys.executable, "-m", "sessionctl.agent", "hold", *arguments]
    environment = {**os.environ, "SESSIONCTL_AGENT_PORT": "0"}
    done = subprocess.run(command, env=environment, capture_output=True, text=True, check=False, timeout=60)
    assert done.returncode == code
    text = done.stderr if code else done.stdout
    assert ("cannot be run" if code > 2 else "usage: sessionctl-agent hold") in text
    assert "Traceback" not in text


def test_a_hold_does_not_keep_the_agent_from_ending(agents: Agents) -> None:
    agent = agents.start().ready()
    with held(agent):
        held_for(agent)
        assert agent.terminate() == 0
        assert "Traceback" not in agent.log.read_text()
        assert '"error"' not in agent.log.read_text()


def test_typing_is_remembered(agent: AgentProcess) -> None:
    def typed() -> float:
        return float(agent.activity()["editor_input"])

    assert agent.ask("POST", "/v1/editor/input", headers={}).status == 204
    first = typed()
    wait_for(lambda: typed() > first + 0.5, "its age grows")
    assert agent.ask("POST", "/v1/editor/input", headers={}).status == 204
    assert wait_for(lambda: typed() < first + 0.5, "the last time counts")


@pytest.mark.parametrize("age", ["-1", "nan", "inf", "", "long", "1e999"])
def test_an_age_that_is_none_is_refused(agent: AgentProcess, age: str) -> None:
    answer = agent.ask("POST", f"/v1/hold?age={age}", headers={})
    assert (answer.status, answer.json()["code"]) == (422, "invalid_request")
    assert agent.activity()["hold"] is None


@pytest.mark.parametrize(
    ("peer", "allowed"),
    [
        ("127.0.0.1", True),
        ("127.9.9.9", True),
        ("::1", True),
        ("::ffff:127.0.0.1", True),
        ("10.0.0.7", False),
        ("::ffff:10.0.0.7", False),
        ("fd00::127", False),
        ("127", False),
        ("", False),
    ],
)
async def test_only_what_runs_in_the_pod_is_believed(peer: str, allowed: bool) -> None:
    activity = Activity(editor_port=1)
    app = build_app(Agent(TOKEN, cast("Runner", None), activity, Editor(0)))
    # Whatever it says of itself.
    headers = {"X-Forwarded-For": "127.0.0.1", "Forwarded": "for=127.0.0.1", "Authorization": f"Bearer {TOKEN}"}
    transport = httpx.ASGITransport(app, client=(peer, 1))
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1:8081", headers=headers) as client:
        found = [(await client.post(path)).status_code for path in ("/v1/editor/input", "/v1/hold?age=none")]
    assert found == ([204, 422] if allowed else [403, 403])
    assert (activity.ages().editor_input is not None) == allowed


@pytest.mark.parametrize("host", ["127.0.0.1", "::1"])
def test_the_newest_connection_to_the_editor_counts(agents: Agents, host: str) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with ExitStack() as open_ones, socket.create_server((host, 0), family=family) as editor:
        port = editor.getsockname()[1]
        agent = agents.start(SESSIONCTL_AGENT_EDITOR_PORT=str(port)).ready()

        def connected() -> float:
            return float(agent.activity()["editor_connected"] or 0)

        assert connected() == 0, "one that listens is not connected"
        first = open_ones.enter_context(socket.create_connection((host, port)))
        accepted = open_ones.enter_context(editor.accept()[0])
        began = time.monotonic()
        wait_for(lambda: time.monotonic() > began + LASTING_SECONDS + 2 * LOOK_SECONDS, "time passes")
        age = connected()
        assert age > 0, "it was seen before anybody asked"
        assert wait_for(lambda: connected() > age + 2, "it counts on")
        open_ones.enter_context(socket.create_connection((host, port)))
        assert wait_for(lambda: 0 < connected() < age + 1, "the second one counts as soon as it lasts")
        first.close()
        accepted.close()
        assert connected() > 0
    assert wait_for(lambda: connected() == 0, "then none")


def test_a_connection_is_as_old_as_it_was_first_seen_and_a_short_one_is_none() -> None:
    now = 1000.0
    with socket.create_server(("127.0.0.1", 0)) as editor, socket.create_server(("127.0.0.1", 0)) as other:
        seen = Connections(editor.getsockname()[1], lambda: now)
        with socket.create_connection(other.getsockname()), socket.create_connection(editor.getsockname()):
            seen.look()
            assert seen.age() is None
            now += LASTING_SECONDS
            seen.look()
            assert seen.age() == LASTING_SECONDS
            now += 3600
            assert seen.age() == LASTING_SECONDS + 3600
        editor.accept()[0].close()
        seen.look()
        assert seen.age() is None
        # The same place in the table is another connection.
        with socket.create_connection(editor.getsockname()):
            seen.look()
            now += LASTING_SECONDS
            assert seen.age() == LASTING_SECONDS


def test_what_cannot_be_seen_counts_on(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    now = 1000.0
    with socket.create_server(("127.0.0.1", 0)) as editor, socket.create_connection(editor.getsockname()):
        seen = Connections(editor.getsockname()[1], lambda: now)
        seen.look()
        monkeypatch.setattr("sessionctl.agent.connections.TABLES", (tmp_path,))
        now += 10
        seen.look()
        assert seen.age() == 10
        monkeypatch.setattr("sessionctl.agent.connections.TABLES", (tmp_path / "nothing",))
        seen.look()
        assert seen.age() is None
