from __future__ import annotations

import http.client
import json
import os
import signal
from contextlib import suppress
from pathlib import Path

import pytest

from sessionctl.agent.runner import MAX_REPLY_CHARACTERS, TOO_LONG
from tests.agent.process import AgentProcess, Agents, outcomes_of, pairs_of, reply_of
from tests.support.waiting import wait_for

ONCE = [("m1", "user"), ("m1", "assistant")]


def python(agents: Agents, code: str) -> list[str]:
    """A program in Python; its argument is the folder of the gates."""
    return ["python3", "-I", "-S", "-c", code, str(agents.gates)]


def shell(agents: Agents, script: str) -> list[str]:
    """A program in sh; $0 is the folder of the gates."""
    return ["sh", "-c", script, str(agents.gates)]


def is_alive(pid: int) -> bool:
    """Whether a process is there that is not only waited for."""
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] not in "ZX"
    except OSError:
        return False


def noted(agents: Agents, count: int) -> list[int]:
    """Return the process ids that a program noted in the file `pids`, once there are so many."""
    file = agents.gates / "pids"

    def whole() -> list[int]:
        lines = file.read_text().splitlines(keepends=True) if file.exists() else []
        found = [int(line) for line in lines if line.endswith("\n")]
        return found if len(found) == count else []

    return wait_for(whole, "the programs run")


def guard_of(command: int) -> int:
    """Return the guard of a command."""
    return int(Path(f"/proc/{command}/stat").read_text().rpartition(")")[2].split()[1])


def cancel(agent: AgentProcess) -> str:
    outcome: str = agent.ask("DELETE", "/v1/messages/m1").json()["outcome"]
    return outcome


# Notes itself, a child in its own group, and a grandchild that left group, session and parent.
FAMILY = """
echo $$ >> "$0/pids"
sleep 1000 & echo $! >> "$0/pids"
setsid sh -c 'sleep 1000 & echo $! >> "$0/pids"' "$0" &
echo begun; echo x >> "$0/runs"
"""


def test_it_gets_the_message_and_prints_the_reply(agents: Agents) -> None:
    agent = agents.command("cat").ready()
    text = "hé\u2028llo\n\x01 $(id) `id` ; \\ '\""
    lines = agent.say(text)
    assert (reply_of(lines), outcomes_of(lines)) == (text, ["done"])
    assert reply_of(agent.say("more", "m2")) == "more"
    assert agents.conversation[1]["text"] == text


def test_its_arguments_pass_through_no_shell(agents: Agents) -> None:
    agent = agents.command("printf", "%s|", "$HOME `id` ; * \"'", "", "日本").ready()
    assert reply_of(agent.say("x")) == "$HOME `id` ; * \"'||日本|"


def test_it_runs_in_the_workspace_with_the_environment_but_ours(agents: Agents) -> None:
    code = "import json, os; print(json.dumps([os.getcwd(), dict(os.environ)]))"
    agent = agents.command(*python(agents, code)).ready()
    folder, environment = json.loads(reply_of(agent.say("x", "m7")))
    assert folder == str(agents.workspace)
    assert environment["PATH"] == os.environ["PATH"]
    assert environment["WORKSPACE"] == str(agents.workspace)
    assert {name: text for name, text in environment.items() if name.startswith(("SESSIONCTL", "PYDANTIC"))} == {
        "SESSIONCTL_AGENT_PORT": "0",
        "SESSIONCTL_MESSAGE_ID": "m7",
        "SESSIONCTL_MESSAGE_ATTEMPT": "1",
        "SESSIONCTL_MESSAGE_USER_ID": "alice",
    }


def test_it_inherits_nothing_but_its_pipes(agents: Agents) -> None:
    # Not in Python, which ignores some signals by itself, and in no child of the shell: it blocks all to start one.
    script = "for each in /proc/$$/fd/*; do readlink $each; done; exec grep -E '^Sig(Blk|Ign)' /proc/self/status"
    agent = agents.command("sh", "-c", script).ready()
    *files, blocked, ignored = reply_of(agent.say("x")).splitlines()
    assert [file.partition(":")[0] for file in files] == ["pipe"] * 3
    # Bits of the signals that POSIX names; the others are the C library's own.
    assert {int(mask.split()[1], 16) & 0x7FFFFFFF for mask in (blocked, ignored)} == {0}


def test_it_is_heard_as_it_speaks(agents: Agents) -> None:
    script = 'printf one; while [ ! -e "$0/1" ]; do sleep 0.01; done; printf two'
    agent = agents.command(*shell(agents, script)).ready()
    answer = agent.send("x")
    assert (answer.line() or {})["delta"] == "one"
    agents.open_gate(1)
    assert reply_of(answer.lines()) == "two"


def test_a_character_may_come_in_parts_and_bytes_that_are_none_are_replaced(agents: Agents) -> None:
    script = r"""printf '\303'; while [ ! -e "$0/1" ]; do sleep 0.01; done; printf '\251 \377 \342\202'"""
    agent = agents.command(*shell(agents, script)).ready()
    answer = agent.send("x")
    agents.open_gate(1)
    lines = answer.lines()
    assert (reply_of(lines), outcomes_of(lines)) == ("é \ufffd \ufffd", ["done"])


def test_one_that_fails_is_a_failed_message(agents: Agents) -> None:
    agent = agents.command("sh").ready()  # the message is the script
    for number, (script, reason) in enumerate(
        [
            ("printf partial; echo sorry >&2; exit 3", "the command ended with exit code 3: sorry"),
            ("printf partial; exit 1", "the command ended with exit code 1"),
            ("printf partial; kill -9 $$", "the command ended with SIGKILL"),
            ("printf partial; kill -TERM $$", "the command ended with SIGTERM"),
        ]
    ):
        lines = agent.say(script, f"m{number}")
        assert (reply_of(lines), outcomes_of(lines), lines[-1]["reason"]) == ("partial", ["failed"], reason)
        assert agent.say(script, f"m{number}") == lines
    # Of its complaints the end is kept.
    (line,) = agent.say("yes filler | head -n 300000 >&2; echo the cause >&2; exit 1", "long")
    assert line["reason"].endswith("filler\nthe cause")
    assert len(line["reason"]) < 1000


@pytest.mark.parametrize(
    ("program", "reason"), [("no-such-program", "No such file or directory"), ("/etc/passwd", "Permission denied")]
)
def test_one_that_cannot_be_run_is_a_failed_message(agents: Agents, program: str, reason: str) -> None:
    agent = agents.command(program).ready()
    (line,) = agent.say("x")
    assert (line["outcome"], line["reason"]) == ("failed", f"the command could not be run: {reason}")


def test_one_that_does_not_read_or_stops_writing_early(agents: Agents) -> None:
    script = 'printf one; exec >&- 2>&-; while [ ! -e "$0/1" ]; do sleep 0.01; done; exit 7'
    agent = agents.command(*shell(agents, script)).ready()
    answer = agent.send("x" * 500_000)
    assert (answer.line() or {})["delta"] == "one"
    agents.open_gate(1)
    lines = answer.lines()
    assert lines[-1]["reason"] == "the command ended with exit code 7"
    agent.terminate()
    agent = agents.command("sh", "-c", "exec 0<&-; printf two").ready()
    assert reply_of(agent.say("x" * 500_000, "m2")) == "two"


def test_more_than_there_is_room_for_is_left_out(agents: Agents) -> None:
    agent = agents.command("sh", "-c", 'yes | head -c 20000000; echo ran to its end >> "$0/end"', str(agents.gates))
    lines = agent.ready().say("x")
    reply = reply_of(lines)
    assert (len(reply), reply[-len(TOO_LONG) :]) == (MAX_REPLY_CHARACTERS + len(TOO_LONG), TOO_LONG)
    assert outcomes_of(lines) == ["done"]
    assert (agents.gates / "end").exists()


def test_what_it_leaves_in_the_background_lives_on_and_is_not_waited_for(agents: Agents) -> None:
    script = 'sleep 1000 & echo $! >> "$0/pids"; yes >&2 & echo $! >> "$0/pids"; printf begun'
    agent = agents.command(*shell(agents, script)).ready()
    lines = agent.say("x")
    server, talker = noted(agents, 2)
    try:
        assert (reply_of(lines), outcomes_of(lines)) == ("begun", ["done"])
        assert is_alive(server)
        assert outcomes_of(agent.say("y", "m2")) == ["done"]
        assert is_alive(server)
    finally:
        for pid in (server, talker, *noted(agents, 4)[2:]):
            with suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)


def test_cancelled_it_may_end_in_order(agents: Agents) -> None:
    script = """trap 'printf bye; exit 0' TERM; printf begun; while :; do sleep 0.01; done"""
    agent = agents.command("sh", "-c", script).ready()
    answer = agent.send("x")
    assert answer.line()
    assert cancel(agent) == "cancelled"
    assert outcomes_of(answer.lines()) == ["cancelled"]


@pytest.mark.parametrize("stubborn", ["trap '' TERM\n", ""])
def test_cancelled_nothing_of_it_is_left(agents: Agents, stubborn: str) -> None:
    agent = agents.command(*shell(agents, stubborn + FAMILY + "while :; do sleep 0.01; done")).ready()
    answer = agent.send("x")
    assert answer.line()
    family = noted(agents, 3)
    assert all(map(is_alive, family))
    assert cancel(agent) == "cancelled"
    assert not any(map(is_alive, family)), "it is told when they are gone"
    assert outcomes_of(answer.lines()) == ["cancelled"]


@pytest.mark.parametrize(("on_interrupt", "outcome", "runs"), [("interrupt", "interrupted", 1), ("retry", "done", 2)])
def test_it_dies_with_the_agent(agents: Agents, on_interrupt: str, outcome: str, runs: int) -> None:
    script = FAMILY + 'while [ ! -e "$0/1" ]; do sleep 0.01; done'
    agent = agents.command(*shell(agents, script), on_interrupt=on_interrupt).ready()
    answer = agent.send("x")
    assert answer.line()
    family = noted(agents, 3)
    agent.kill()
    wait_for(lambda: not any(map(is_alive, family)), "they are gone")
    agents.open_gate(1)
    (agents.gates / "pids").unlink()
    again = agents.command(*shell(agents, script), on_interrupt=on_interrupt).ready()
    lines = again.say("x")
    assert (reply_of(lines), outcomes_of(lines)) == ("begun\n", [outcome])
    assert ((agents.gates / "runs").read_text(), list(pairs_of(agents.conversation))) == ("x\n" * runs, ONCE)
    if runs == 2:
        for pid in noted(agents, 3)[1:]:
            os.kill(pid, signal.SIGKILL)


def test_the_next_agent_waits_until_nothing_of_it_is_left(agents: Agents) -> None:
    agent = agents.command(*shell(agents, FAMILY + "while :; do sleep 0.01; done")).ready()
    assert agent.send("x").line()
    family = noted(agents, 3)
    guard = guard_of(family[0])
    os.kill(guard, signal.SIGSTOP)
    try:
        agent.kill()
        again = agents.command("cat")
        assert again.health() == 503
        assert all(map(is_alive, family))
    finally:
        os.kill(guard, signal.SIGCONT)
    again.ready()
    assert not any(map(is_alive, family))
    assert outcomes_of(again.say("x")) == ["interrupted"]


def test_a_guard_that_is_killed_takes_the_command_along(agents: Agents) -> None:
    agent = agents.command(*shell(agents, FAMILY + "while :; do sleep 0.01; done")).ready()
    answer = agent.send("x")
    assert answer.line()
    command, child, stray = noted(agents, 3)
    agent.signal(signal.SIGSTOP)
    os.kill(guard_of(command), signal.SIGKILL)
    wait_for(lambda: not is_alive(command), "it is gone, whatever the agent does")
    agent.signal(signal.SIGCONT)
    lines = answer.lines()
    assert (outcomes_of(lines), lines[-1]["reason"]) == (["failed"], "the command was killed")
    wait_for(lambda: not is_alive(child), "its process group is gone")
    os.kill(stray, signal.SIGKILL)
    assert agent.health() == 200


def test_at_sigterm_it_is_ended_in_time(agents: Agents) -> None:
    script = shell(agents, "trap '' TERM\n" + FAMILY + "while :; do sleep 0.01; done")
    agent = agents.command(*script, options=("patience=0.1",)).ready()
    answer = agent.send("x")
    assert answer.line()
    family = noted(agents, 3)
    assert agent.terminate() == 0
    assert not any(map(is_alive, family))
    with suppress(ConnectionError, http.client.HTTPException):
        assert outcomes_of(answer.lines()) == ["interrupted"]
    assert agents.conversation[1]["outcome"] == "interrupted"


def test_a_volume_that_fills_up_ends_it(agents: Agents) -> None:
    all_are_there = 'while [ "$(wc -l < "$0/pids")" -lt 3 ]; do sleep 0.01; done\n'
    script = shell(agents, FAMILY + all_are_there + "yes; true")
    agent = agents.command(*script, options=("largest-file=200000",)).ready()
    assert outcomes_of(agent.say("x")) == []
    family = noted(agents, 3)
    assert not any(map(is_alive, family))
