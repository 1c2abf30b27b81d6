from __future__ import annotations

import asyncio
import http.client
import json
import resource
import shutil
from collections.abc import Iterator
from contextlib import suppress
from io import FileIO
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sessionctl.agent.conversation import Conversation
from sessionctl.agent.files import last_lines, open_to_append, parse_line
from sessionctl.agent.journal import Journal
from sessionctl.agent.kinds import Echo
from sessionctl.agent.runner import Runner
from sessionctl.wire import MessageRequest, MessageResume
from tests.agent.process import AgentProcess, Agents, Answer, Json, outcomes_of, pairs_of, reply_of, request
from tests.support.waiting import wait_for

ONCE = [("m1", "user"), ("m1", "assistant")]


def send_until_it_dies(agent: AgentProcess) -> list[Json]:
    """Send a message to an agent that will kill itself and return the lines that came."""
    lines: list[Json] = []
    with suppress(ConnectionError, http.client.HTTPException):
        lines += rest_of(agent.send("one two"))
    assert agent.process.wait(60) == -9
    return lines


def rest_of(answer: Answer) -> list[Json]:
    """Return the lines that still come from an agent that dies."""
    lines: list[Json] = []
    with suppress(ConnectionError, http.client.HTTPException):
        while line := answer.line():
            lines.append(line)
    return lines


@pytest.mark.parametrize(
    ("step", "runs", "attempt"),
    [
        ("before:Journal.begin:1", 0, 1),
        ("after:Journal.begin:1", 0, 2),
        ("before:OpenMessage.add_delta:1", 1, 2),
        ("after:OpenMessage.add_delta:1", 1, 2),
        ("before:OpenMessage.add_end:1", 1, 2),
        ("after:OpenMessage.add_end:1", 1, 1),
        ("before:Conversation.add:1", 1, 1),
        ("after:Conversation.add:1", 1, 1),
        ("before:Progress.close:1", 1, 1),
        ("after:Progress.close:1", 1, 1),
        ("before:Conversation.sync:1", 1, 1),
        ("before:Journal.settle:1", 1, 1),
        ("after:Journal.settle:1", 1, 1),
    ],
)
@pytest.mark.parametrize("kind", ["words", "command"])
def test_killed_at_any_step_a_message_has_one_outcome(
    agents: Agents, kind: str, step: str, runs: int, attempt: int
) -> None:
    cut = send_until_it_dies(agents.staged(kind, step).ready())
    assert agents.runs == runs
    again = agents.staged(kind).ready()
    if attempt == 1 and runs:
        assert list(pairs_of(agents.conversation)) == ONCE
    lines = again.say("one two")
    assert again.say("one two") == lines
    assert list(pairs_of(agents.conversation)) == ONCE
    assert agents.conversation[1]["text"] == reply_of(lines)
    if kind == "words":
        assert (reply_of(lines), outcomes_of(lines)) == ("onetwo", ["done"])
        assert {line["attempt"] for line in lines} == {attempt}
        assert agents.runs == runs + (attempt == 2 or runs == 0)
    else:
        # What may have had effects is begun once at most: also when the start was recorded and nothing more is known.
        assert agents.runs == max(runs, int(attempt == 1))
        assert outcomes_of(lines) == ["interrupted" if attempt == 2 else "done"]
        assert lines[: len(cut)] == cut
    assert outcomes_of(again.say("more", "m2"))
    assert list(pairs_of(agents.conversation)) == [*ONCE, ("m2", "user"), ("m2", "assistant")]


def test_what_a_node_may_lose_is_made_durable_in_this_order(agents: Agents) -> None:
    agent = agents.staged("words", "trace").ready()
    trace = agents.gates / "trace"
    assert trace.read_text().splitlines() == [
        *("durable workspace", "durable .sessionctl", "durable messages", "durable messages", "durable .sessionctl"),
    ]
    trace.unlink()
    agent.say("one two")
    agent.terminate()
    assert trace.read_text().splitlines() == [
        *("durable m1.jsonl", "durable open", "run"),
        *("durable m1.jsonl", "told"),
        *("durable conversation.jsonl", "durable done", "durable open"),
    ]


@pytest.mark.parametrize("step", ["before:OpenMessage.add_end:1", "after:OpenMessage.add_end:1"])
def test_the_last_line_comes_after_the_outcome_is_recorded(agents: Agents, step: str) -> None:
    cut = send_until_it_dies(agents.staged("words", step).ready())
    assert outcomes_of(cut) == []


def test_nobody_reads_an_outcome_that_a_node_may_still_lose(agents: Agents) -> None:
    agent = agents.staged("words", "hold=m1.jsonl:2").ready()
    first = agent.send("one two")
    wait_for(lambda: (agents.gates / "trace").read_text().endswith("held\n"), "the outcome is written, not yet durable")
    joined = agent.send("one two")
    for answer in (first, joined):
        assert [answer.line(), answer.line()] == [
            {"seq": 1, "attempt": 1, "delta": "one"},
            {"seq": 2, "attempt": 1, "delta": "two"},
        ]
    agent.kill()
    for answer in (first, joined):
        assert rest_of(answer) == []


@pytest.mark.parametrize(
    "step",
    ["after:Journal.begin:1", "after:OpenMessage.add_end:1", "before:Conversation.sync:1", "before:Journal.settle:1"],
)
def test_killed_again_while_it_recovers(agents: Agents, step: str) -> None:
    send_until_it_dies(agents.staged("command", step).ready())
    for recovery in ("after:Journal.end:1", "after:Conversation.add:1", "before:Journal.settle:1"):
        dying = agents.staged("command", recovery)
        if recovery == "after:Journal.end:1" and not step.startswith("after:Journal.begin"):
            dying.ready().kill()
            break
        assert dying.process.wait(60) == -9
    lines = agents.staged("command").ready().say("one two")
    assert len(outcomes_of(lines)) == 1
    assert list(pairs_of(agents.conversation)) == ONCE


def test_killed_after_the_last_line_it_is_not_run_again(agents: Agents) -> None:
    agent = agents.staged("words").ready()
    lines = agent.say("one two")
    agent.kill()
    assert agents.staged("words").ready().say("one two") == lines
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, ONCE)


def test_a_message_that_was_cut_off_and_never_asked_for_again_is_interrupted(agents: Agents) -> None:
    agent = agents.staged("gated-command").ready()
    assert agent.send("one two").line()
    agent.kill()
    after = agents.staged("gated-command").ready()
    assert agents.conversation[-1] | {"at": ""} == {
        "id": "m1",
        "role": "assistant",
        "text": "one",
        "at": "",
        "outcome": "interrupted",
        "reason": "the workspace stopped while the message ran",
    }
    lines = after.say("one two")
    assert (reply_of(lines), outcomes_of(lines), agents.runs) == ("one", ["interrupted"], 1)


def test_a_client_that_saw_an_earlier_attempt_gets_all_of_the_new_one(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    assert agent.send("one two").line()
    agent.kill()
    agents.open_gate(1)
    lines = agents.staged("gated").ready().say("one two", query="?from_seq=2&attempt=1")
    assert [(line["seq"], line["attempt"]) for line in lines] == [(1, 2), (2, 2), (3, 2)]


def test_what_a_kind_allows_counts_from_when_it_began(agents: Agents) -> None:
    agent = agents.staged("gated-command").ready()
    assert agent.send("one two").line()
    agent.kill()
    assert outcomes_of(agents.staged("words").ready().say("one two")) == ["interrupted"]
    assert agents.runs == 1


def test_a_full_volume_takes_no_message_and_recovers(agents: Agents) -> None:
    agent = agents.staged("words", "largest-file=600").ready()
    assert outcomes_of(agent.say("one", "m0")) == ["done"]
    large = " ".join("x" * 100 for _ in range(10))
    for _ in range(2):
        answer = agent.send(large)
        assert (answer.status, answer.json()["code"]) == (503, "unavailable")
    assert (agent.health(), agents.runs) == (200, 1)
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert outcomes_of(agent.say(large)) == ["done"]
    assert list(pairs_of(agents.conversation)) == [("m0", "user"), ("m0", "assistant"), *ONCE]


def test_a_volume_that_fills_up_midway_cuts_the_answer_without_an_outcome(agents: Agents) -> None:
    agent = agents.staged("flood", "largest-file=200000").ready()
    assert outcomes_of(agent.say("x")) == []
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    lines = agent.say("x")
    assert (outcomes_of(lines), {line["attempt"] for line in lines}) == (["done"], {2})
    assert list(pairs_of(agents.conversation)) == ONCE


def test_a_full_volume_does_not_keep_the_agent_from_starting(agents: Agents) -> None:
    """Whoever is to make room there needs a workspace that starts."""
    words = " ".join("a" * 40)
    first = agents.staged("command", "largest-file=600").ready()
    assert outcomes_of(first.say(words)) == []
    first.kill()
    again = agents.staged("command", "largest-file=600").ready()
    assert again.send(words).status == 503
    resource.prlimit(again.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert outcomes_of(again.say(words)) == ["interrupted"]
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, ONCE)


def test_who_has_seen_more_than_a_node_kept_is_told_the_end(agents: Agents) -> None:
    send_until_it_dies(agents.staged("command", "after:OpenMessage.add_delta:1").ready())
    again = agents.staged("command").ready()
    for _ in range(2):
        (line,) = again.say("one two", query="?begun=true&attempt=1&from_seq=6")
        assert (line["attempt"], line["seq"], line["outcome"]) == (1, 6, "interrupted")
    assert agents.runs == 1


def test_a_repeatable_one_that_nobody_asks_for_again_ends_before_the_next(agents: Agents) -> None:
    send_until_it_dies(agents.staged("words", "after:OpenMessage.add_delta:1").ready())
    again = agents.staged("words").ready()
    assert agents.conversation == []
    assert outcomes_of(again.say("three", "m2")) == ["done"]
    assert [(each["id"], each.get("outcome")) for each in agents.conversation] == [
        ("m1", None),
        ("m1", "interrupted"),
        ("m2", None),
        ("m2", "done"),
    ]
    assert outcomes_of(again.say("one two")) == ["interrupted"]


def test_a_pair_that_found_no_room_is_added_before_the_next(agents: Agents) -> None:
    agent = agents.staged("words", "largest-file=600").ready()
    # The files of the messages are small enough; the conversation is the one that grows.
    said = 0
    while (answer := agent.send("one", f"m{said}")).status == 200:
        assert outcomes_of(answer.lines()) == ["done"]
        said += 1
    assert (answer.status, said > 1) == (503, True)
    assert agents.conversation_bytes.count(b"\n") < 2 * said
    resource.prlimit(agent.process.pid, resource.RLIMIT_FSIZE, (resource.RLIM_INFINITY, resource.RLIM_INFINITY))
    assert outcomes_of(agent.say("one", "last")) == ["done"]
    ids = [*(f"m{number}" for number in range(said)), "last"]
    assert list(pairs_of(agents.conversation)) == [(name, role) for name in ids for role in ("user", "assistant")]


class Workspace:
    """A workspace's state without a process around it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.conversation = folder / "conversation.jsonl"
        self.open = folder / "messages/open/m1.jsonl"
        self.done = folder / "messages/done/m1.jsonl"

    async def start_and_ask(self, message_id: str = "m1") -> list[Json]:
        """What a new process does: recover, then answer."""
        runner = Runner(Journal(self.folder / "messages"), Conversation(self.conversation), Echo(), "boot")
        await runner.recover()
        asked = MessageRequest.model_validate(request("hé\n", message_id))
        parts = [part async for part in await runner.answer(asked, MessageResume())]
        await runner.stop(60)
        return [json.loads(line) for line in b"".join(parts).splitlines()]

    def entries(self) -> list[tuple[str, str]]:
        data = self.conversation.read_bytes()
        assert data.endswith(b"\n")
        return list(pairs_of([json.loads(line) for line in data.splitlines()]))


@pytest.fixture
def workspace(tmp_path: Path) -> Workspace:
    """One that has answered m0 and m1."""
    made = Workspace(tmp_path / "made")
    asyncio.run(made.start_and_ask("m0"))
    asyncio.run(made.start_and_ask("m1"))
    return made


def copies(workspace: Workspace, folder: Path, count: int) -> Iterator[tuple[int, Workspace]]:
    for number in range(count):
        target = folder / f"{number}"
        shutil.copytree(workspace.folder, target)
        yield number, Workspace(target)


PAIRS = [("m0", "user"), ("m0", "assistant"), *ONCE]


def test_a_message_torn_at_any_byte_has_one_outcome(workspace: Workspace, tmp_path: Path) -> None:
    workspace.done.rename(workspace.open)
    whole = workspace.open.read_bytes()
    without_pair = b"".join(workspace.conversation.read_bytes().splitlines(keepends=True)[:2])
    attempts = set()
    for size, torn in copies(workspace, tmp_path, len(whole) + 1):
        torn.open.write_bytes(whole[:size])
        if outcomes_of([parse_line(line) or {} for line in whole[:size].splitlines()]) == []:
            torn.conversation.write_bytes(without_pair)
        lines = asyncio.run(torn.start_and_ask())
        assert (reply_of(lines), outcomes_of(lines)) == ("hé\n", ["done"]), size
        assert torn.entries() == PAIRS, size
        assert asyncio.run(torn.start_and_ask()) == lines, size
        attempts |= {line["attempt"] for line in lines}
    assert attempts == {1, 2}


def test_a_conversation_torn_at_any_byte_of_its_last_pair_gets_the_rest(workspace: Workspace, tmp_path: Path) -> None:
    workspace.done.rename(workspace.open)
    whole = workspace.conversation.read_bytes()
    before = len(b"".join(whole.splitlines(keepends=True)[:2]))
    for cut, torn in copies(workspace, tmp_path, len(whole) - before + 1):
        torn.conversation.write_bytes(whole[: before + cut])
        asyncio.run(torn.start_and_ask())
        assert torn.entries() == PAIRS, cut
        assert torn.conversation.read_bytes()[:before] == whole[:before]


@given(
    lines=st.lists(st.dictionaries(st.text(max_size=3), st.text(max_size=200)), max_size=4),
    torn=st.binary(max_size=50).filter(lambda torn: b"\n" not in torn),
)
def test_a_torn_last_line_goes_and_whole_lines_stay(
    tmp_path_factory: pytest.TempPathFactory, lines: list[dict[str, str]], torn: bytes
) -> None:
    file = tmp_path_factory.mktemp("torn") / "file"
    whole = b"".join(json.dumps(line).encode() + b"\n" for line in lines)
    file.write_bytes(whole + torn)
    descriptor = open_to_append(file)
    with FileIO(descriptor):
        expected = whole if parse_line(torn) is None else whole + torn + b"\n"
        assert file.read_bytes() == expected
        assert last_lines(descriptor, 2) == (expected.splitlines()[-2:] or [b""])


@pytest.mark.parametrize("length", [65535, 65536, 65537, 200_000])
def test_lines_longer_than_a_block_are_found_from_the_back(tmp_path: Path, length: int) -> None:
    file = tmp_path / "file"
    lines = [json.dumps({"text": character * length}).encode() for character in "abc"]
    file.write_bytes(b"\n".join(lines) + b'\n{"torn')
    descriptor = open_to_append(file)
    with FileIO(descriptor):
        assert last_lines(descriptor, 2) == lines[1:]


@pytest.mark.parametrize(
    "garbage", [b"\0" * 300, b"{}\n", b'{"start": 7}\n', b'{"start": {"id": "m1"}}\n', b"[" * 100_000]
)
def test_what_is_not_ours_in_the_folder_does_not_keep_the_agent_down(workspace: Workspace, garbage: bytes) -> None:
    workspace.done.unlink()
    workspace.open.write_bytes(garbage)
    (workspace.open.parent / "notes.txt").write_text("mine")
    assert outcomes_of(asyncio.run(workspace.start_and_ask())) == ["done"]


async def test_old_messages_are_forgotten(tmp_path: Path) -> None:
    workspace = Workspace(tmp_path / "made")
    for number in range(5):
        await workspace.start_and_ask(f"m{number}")
    journal = Journal(workspace.folder / "messages")
    journal.prune(kept=2)
    assert [journal.find(f"m{number}") is not None for number in range(5)] == [False, False, False, True, True]
