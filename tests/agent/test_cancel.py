from __future__ import annotations

import http.client
import json
import os
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress

import pytest

from tests.agent.process import AgentProcess, Agents, Answer, outcomes_of, pairs_of, reply_of
from tests.support.waiting import wait_for

ONCE = [("m1", "user"), ("m1", "assistant")]
CANCELLED = {"id": "m1", "outcome": "cancelled", "reason": "somebody cancelled it"}


def cancel(agent: AgentProcess, message_id: str = "m1") -> Answer:
    return agent.ask("DELETE", f"/v1/messages/{message_id}")


@pytest.mark.parametrize("kind", ["gated", "gated-command"])
def test_a_message_that_runs_is_ended(agents: Agents, kind: str) -> None:
    agent = agents.staged(kind).ready()
    running = agent.send("one two")
    first = running.line()
    assert first
    answer = cancel(agent)
    assert (answer.status, answer.json()) == (200, CANCELLED)
    lines = [first, *running.lines()]
    assert (reply_of(lines), outcomes_of(lines)) == ("one", ["cancelled"])
    assert agent.say("one two") == lines
    assert (agents.conversation[1]["text"], agents.conversation[1]["outcome"]) == ("one", "cancelled")
    agents.open_gate(1)
    assert outcomes_of(agent.say("more", "m2")) == ["done"]
    again = agents.staged(kind)
    agent.terminate()
    assert again.ready().say("one two") == lines
    assert (agents.runs, list(pairs_of(agents.conversation))[:2]) == (2, ONCE)


def test_cancelling_again_gives_the_same_answer(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    with ThreadPoolExecutor(8) as pool:
        answers = list(pool.map(lambda _: cancel(agent).json(), range(8)))
    assert [*answers, cancel(agent).json()] == [CANCELLED] * 9
    assert outcomes_of(running.lines()) == ["cancelled"]


@pytest.mark.parametrize(("kind", "outcome"), [("words", "done"), ("broken", "failed")])
def test_a_message_that_has_ended_keeps_its_outcome(agents: Agents, kind: str, outcome: str) -> None:
    agent = agents.staged(kind).ready()
    lines = agent.say("one two")
    answer = cancel(agent)
    assert (answer.status, answer.json()["outcome"]) == (200, outcome)
    assert agent.say("one two") == lines


def test_an_unknown_message_is_not_found_and_is_not_begun_when_it_comes_late(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    answer = cancel(agent, "m2")
    assert (answer.status, answer.json()["code"]) == (404, "not_found")
    agents.open_gate(1)
    running.lines()
    late = agent.say("late", "m2")
    assert (reply_of(late), outcomes_of(late)) == ("", ["cancelled"])
    assert agent.say("late", "m2") == late
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, [*ONCE, ("m2", "user"), ("m2", "assistant")])


@pytest.mark.parametrize("path", ["m1%20", "-m1", "x" * 129])
def test_an_id_that_no_message_has_is_refused(agent: AgentProcess, path: str) -> None:
    answer = cancel(agent, path)
    assert (answer.status, answer.json()["errors"][0]["field"]) == (422, "id")


def test_a_message_that_was_cut_off_is_ended_without_being_run(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    assert agent.send("one two").line()
    agent.kill()
    again = agents.staged("gated").ready()
    answer = cancel(again)
    assert (answer.status, answer.json()) == (200, CANCELLED)
    lines = again.say("one two")
    assert (reply_of(lines), outcomes_of(lines)) == ("one", ["cancelled"])
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, ONCE)


def test_one_that_was_cut_off_has_ended_when_the_next_one_runs(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    assert agent.send("one two").line()
    agent.kill()
    again = agents.staged("gated-command").ready()
    running = again.send("three four", "m2")
    assert running.line()
    assert cancel(again).json()["outcome"] == "interrupted"
    agents.open_gate(1)
    assert outcomes_of(running.lines()) == ["done"]


@pytest.mark.parametrize(
    "step",
    [
        *("before:OpenMessage.add_end:1", "after:OpenMessage.add_end:1", "after:Conversation.add:1"),
        *("before:Conversation.sync:1", "before:Journal.settle:1", "after:Journal.settle:1"),
    ],
)
def test_killed_at_any_step_of_a_cancel_it_has_one_outcome(agents: Agents, step: str) -> None:
    agent = agents.staged("gated-command", step).ready()
    assert agent.send("one two").line()
    told = []
    with suppress(ConnectionError, http.client.HTTPException):
        told.append(cancel(agent).json()["outcome"])
    assert agent.process.wait(60) == -9
    again = agents.staged("gated-command").ready()
    outcomes = outcomes_of(again.say("one two"))
    assert outcomes == ["interrupted" if step == "before:OpenMessage.add_end:1" else "cancelled"]
    assert told in ([], outcomes)
    assert cancel(again).json()["outcome"] == outcomes[0]
    assert (agents.runs, list(pairs_of(agents.conversation))) == (1, ONCE)


def test_nobody_is_told_of_a_cancel_that_a_node_may_still_lose(agents: Agents) -> None:
    agent = agents.staged("gated", "hold=m1.jsonl:2").ready()
    running = agent.send("one two")
    assert running.line()
    with ThreadPoolExecutor() as pool:
        told = pool.submit(cancel, agent)
        trace = agents.gates / "trace"
        wait_for(lambda: trace.read_text().endswith("held\n"), "the outcome is written, not yet durable")
        assert not told.done()
        agent.kill()
        with pytest.raises((ConnectionError, http.client.HTTPException)):
            told.result()
    with suppress(ConnectionError, http.client.HTTPException):
        assert outcomes_of(running.lines()) == []


def test_it_may_be_cancelled_while_the_agent_stops(agents: Agents) -> None:
    agent = agents.staged("gated").ready()
    running = agent.send("one two")
    assert running.line()
    os.kill(agent.process.pid, 15)
    wait_for(lambda: agent.health() == 503, "it is not ready any more")
    assert cancel(agent).json() == CANCELLED
    assert outcomes_of(running.lines()) == ["cancelled"]
    assert agent.process.wait(60) == 0


def test_a_silent_answer_shows_signs_of_life(agents: Agents) -> None:
    agent = agents.staged("gated", "quiet=0.02").ready()
    answer = agent.send("one two")
    assert json.loads(answer.response.readline())["delta"] == "one"
    assert [answer.response.readline() for _ in range(3)] == [b"\n"] * 3
    agents.open_gate(1)
    lines = [json.loads(line) for line in answer.response if line != b"\n"]
    assert [line["seq"] for line in lines] == [2, 3]
    assert [line["seq"] for line in agent.say("one two")] == [1, 2, 3], "they are no part of the answer"


class TestLostFiles:
    """The caller knows that the message was begun, and the agent knows nothing of it."""

    def test_what_may_have_had_effects_is_not_begun_again(self, agents: Agents) -> None:
        agent = agents.staged("command").ready()
        lines = agent.say("one two", query="?begun=true&attempt=3&from_seq=5")
        assert lines == [
            {
                "seq": 5,
                "attempt": 3,
                "outcome": "interrupted",
                "reason": "the workspace lost what it knew of the message",
            }
        ]
        assert agent.say("one two", query="?begun=true&attempt=3&from_seq=5") == lines
        beyond = agent.say("one two", query="?begun=true&attempt=3&from_seq=6")
        assert beyond == [lines[0] | {"seq": 6}]
        assert agents.staged("command").health() == 503
        assert (agents.runs, list(pairs_of(agents.conversation))) == (0, ONCE)
        assert agents.conversation[1]["outcome"] == "interrupted"

    def test_what_was_sent_and_said_nothing_yet_is_not_begun_again_either(self, agents: Agents) -> None:
        agent = agents.staged("command").ready()
        assert outcomes_of(agent.say("one two", query="?begun=true")) == ["interrupted"]
        assert agents.runs == 0

    def test_a_repeatable_one_runs_as_the_next_attempt(self, agents: Agents) -> None:
        agent = agents.staged("words").ready()
        lines = agent.say("one two", query="?begun=true&attempt=3&from_seq=2")
        assert [(line["attempt"], line["seq"]) for line in lines] == [(4, 1), (4, 2), (4, 3)]
        assert outcomes_of(lines) == ["done"]

    def test_one_who_has_seen_lines_knows_that_it_was_begun(self, agents: Agents) -> None:
        agent = agents.staged("command").ready()
        assert outcomes_of(agent.say("one", query="?from_seq=2")) == ["interrupted"]
        assert outcomes_of(agent.say("one", "m2", query="?attempt=2")) == ["interrupted"]
        assert agents.runs == 0

    def test_one_that_is_known_is_answered_as_ever(self, agents: Agents) -> None:
        agent = agents.staged("command").ready()
        lines = agent.say("one two")
        assert agent.say("one two", query="?begun=true") == lines

    @pytest.mark.parametrize("step", ["before:Journal.refuse:1", "after:Journal.refuse:1", "after:Journal.settle:1"])
    def test_killed_at_any_step_it_is_not_run_and_has_one_outcome(self, agents: Agents, step: str) -> None:
        agent = agents.staged("command", step).ready()
        with suppress(ConnectionError, http.client.HTTPException):
            assert agent.say("one two", query="?begun=true&from_seq=3") == []
        assert agent.process.wait(60) == -9
        again = agents.staged("command").ready()
        lines = again.say("one two", query="?begun=true&from_seq=3")
        assert [(line["attempt"], line["seq"], line["outcome"]) for line in lines] == [(1, 3, "interrupted")]
        assert (agents.runs, list(pairs_of(agents.conversation))) == (0, ONCE)
