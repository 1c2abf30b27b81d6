"""chat, cancel, messages and events, with a kubeconfig alone and with a key alone."""

from __future__ import annotations

import asyncio
import json
import os
import pty
import signal
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from io import FileIO

import pytest

from sessionctl.core.identity import new_session_id
from sessionctl.models import MessageOutcome, SessionId
from tests.cli.test_bad_input import BAD_INPUT, CONFLICT, NOT_FOUND, TOO_LATE, assert_refused
from tests.support.census import Census
from tests.support.delivering import Deliverer, delivering
from tests.support.served_api import ServedApi
from tests.support.sessionctl_cli import Cli, Done, Running
from tests.support.steps import Steps
from tests.support.waiting import until
from tools.localcluster import LocalCluster

FAILED, INTERRUPTED, CANCELLED, STOPPED = 1, 8, 9, 130


@pytest.fixture(scope="module")
def uuid(platform: LocalCluster, cli: Cli) -> Iterator[SessionId]:
    """A session of all tests here; what one has said the next ones do not look at."""
    made = SessionId(cli.json("create", "--user", "talker")["uuid"])
    yield made
    Census(platform).wipe([made])


@pytest.fixture
async def deliverer(steps: Steps, uuid: SessionId) -> AsyncIterator[Deliverer]:
    """Delivers its chats in the place of a manager: simulated pods serve nothing."""
    async with delivering(steps.factory.store, uuid) as found:
        yield found
        await steps.factory.demand.sleep(uuid, force=True)


async def store(steps: Steps, uuid: SessionId, text: str) -> str:
    """Store a message without a command."""
    message_id = new_session_id()
    await steps.factory.demand.enqueue(uuid, message_id, text, 100)
    return message_id


def run(cli: Cli, *argv: str, given: bytes | None = None) -> asyncio.Task[Done]:
    """Run a call beside the test."""
    return asyncio.create_task(asyncio.to_thread(cli.run, *argv, given=given))


async def test_a_reply_is_printed_as_it_comes(either: Cli, uuid: SessionId, deliverer: Deliverer) -> None:
    reading, writing = os.pipe()
    with either.start("chat", uuid, "hello", stdout=writing) as running:
        os.close(writing)
        message = await deliverer.begin()
        assert message.message == "hello"
        with os.fdopen(reading, "rb", buffering=0) as out:
            await deliverer.say(message.message_id, "ü you ")
            # The rest is not said yet.
            assert (await asyncio.to_thread(out.read, 100)).decode() == "ü you "
            await deliverer.say(message.message_id, "said")
            await deliverer.end(message.message_id)
            assert (await asyncio.to_thread(_all_of, out)) == b"said\n"
        done = await asyncio.to_thread(running.wait)
    assert (done.code, done.err) == (0, b"")


def _all_of(out: FileIO) -> bytes:
    found = b""
    while piece := out.read(100):
        found += piece
    return found


@pytest.mark.parametrize(
    ("outcome", "code", "said"),
    [
        (MessageOutcome.FAILED, FAILED, "failed: it broke"),
        (MessageOutcome.INTERRUPTED, INTERRUPTED, "was cut off midway: it broke"),
        (MessageOutcome.CANCELLED, CANCELLED, "was cancelled: it broke"),
    ],
)
async def test_the_exit_code_says_how_it_ended(
    cli: Cli, uuid: SessionId, deliverer: Deliverer, outcome: MessageOutcome, code: int, said: str
) -> None:
    asking = run(cli, "chat", uuid, "x")
    message_id = await deliverer.answer("half", outcome=outcome, reason="it broke")
    done = await asking
    assert (done.code, done.stdout, done.stderr) == (code, "half\n", f"message {message_id} {said}\n")


async def test_the_message_is_read_from_standard_input(cli: Cli, uuid: SessionId, deliverer: Deliverer) -> None:
    for argv in (["chat", uuid], ["chat", uuid, "-"]):
        asking = run(cli, *argv, "-o", "json", given="two\nlines ü\n".encode())
        message = await deliverer.begin()
        assert message.message == "two\nlines ü"
        await deliverer.say(message.message_id, "o", "k")
        await deliverer.end(message.message_id)
        assert (await asking).json == {
            "uuid": uuid,
            "action": "chat",
            "status": "done",
            "message_id": message.message_id,
            "reply": "ok",
            "reason": None,
            "partial": False,
        }


@pytest.mark.parametrize(
    ("argv", "given", "cause"),
    [
        (["chat", "{uuid}"], b"", "the message is empty"),
        (["chat", "{uuid}", ""], None, "the message is empty"),
        (["chat", "{uuid}", "-"], b"\xff\xfe", "standard input is not text in UTF-8"),
        (["chat", "{uuid}", "-"], b"x" * 300_000, "has more than 262144 bytes"),
        (["chat", "{uuid}", "x", "--timeout", "soon"], None, "--timeout"),
        (["chat", "nobody", "x"], None, "is not a session id"),
        (["cancel", "{uuid}", "../x"], None, "is not the id of a message"),
        (["messages", "{uuid}", "--limit", "0"], None, "--limit takes 1 or more"),
        (["messages", "{uuid}", "--before", "../x"], None, "is not the id of a message"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_sent_is_bad_input(
    cli: Cli, argv: list[str], given: bytes | None, cause: str, uuid: SessionId
) -> None:
    done = cli.run(*(word.format(uuid=uuid) for word in argv), given=given)
    assert_refused(done, BAD_INPUT, cause)


def test_a_session_that_is_not_there_is_not_found(cli: Cli) -> None:
    uuid = new_session_id()
    assert_refused(cli.run("chat", uuid, "x"), NOT_FOUND, f"there is no session {uuid}")
    assert_refused(cli.run("messages", uuid), NOT_FOUND, f"there is no session {uuid}")


async def test_a_message_is_sent_without_waiting_and_once_per_key(
    served: ServedApi, cli: Cli, uuid: SessionId, deliverer: Deliverer
) -> None:
    key = ["--key", f"mine-{uuid}"]
    sent = await run(served.cli(), "chat", "--no-wait", uuid, "later", *key, "-o", "json")
    assert sent.json.keys() == {"uuid", "action", "status", "message_id"}
    assert await deliverer.answer("now") == sent.json["message_id"]
    # In the other mode too the same call is the same message.
    repeated = await run(cli, "chat", uuid, "later", *key)
    assert (repeated.code, repeated.stdout) == (0, "now\n")
    assert_refused(await run(cli, "chat", uuid, "other", *key), BAD_INPUT, "came before, with another request")


async def test_who_waits_no_longer_is_told_and_the_message_goes_on(
    cli: Cli, uuid: SessionId, deliverer: Deliverer
) -> None:
    done = await run(cli, "chat", uuid, "slow", "--timeout", "1s")
    message_id = (await deliverer.begin()).message_id
    assert_refused(done, TOO_LATE, f"message {message_id} has not ended yet", f"sessionctl messages {uuid}")
    await deliverer.end(message_id)


async def test_a_message_that_is_begun_anew_is_told(cli: Cli, uuid: SessionId, deliverer: Deliverer) -> None:
    asking = run(cli, "chat", uuid, "x")
    message = await deliverer.begin()
    await deliverer.say(message.message_id, "first ")
    await deliverer.say(message.message_id, "second", attempt=2)
    await deliverer.end(message.message_id)
    done = await asking
    assert (done.code, done.stdout) == (0, "first second\n")
    assert done.stderr == "it was begun anew: what came before is void\n"


async def test_progress_is_told_while_the_workspace_wakes(cli: Cli, uuid: SessionId, deliverer: Deliverer) -> None:
    asking = run(Cli(cli.environment, before=()), "chat", uuid, "x")
    await deliverer.answer("y")
    done = await asking
    assert (done.stdout, done.stderr) == ("y\n", "sending ...\nwaiting for the workspace ...\n")


async def test_a_reply_that_is_kept_no_longer_is_not_shown_as_whole(
    either: Cli, uuid: SessionId, deliverer: Deliverer, census: Census
) -> None:
    again = ("chat", uuid, "x", "--key", new_session_id(), "-o", "json")
    asking = run(either, *again)
    await deliverer.answer("forgotten")
    assert (await asking).json["partial"] is False
    with census.redis() as redis:
        redis.delete(f"events:{uuid}")
    done = await run(either, *again)
    assert (done.json["status"], done.json["reply"], done.json["partial"]) == ("done", "", True)
    assert done.stderr == "a part of the reply is missing here: it is kept no longer\n"


@asynccontextmanager
async def replying(cli: Cli, uuid: SessionId, deliverer: Deliverer) -> AsyncIterator[tuple[Running, str]]:
    """A call whose reply has begun, and the id of its message; it has been interrupted and asks for its end."""
    reading, writing = os.pipe()
    with cli.start("chat", uuid, "long", stdout=writing) as running, os.fdopen(reading, "rb", buffering=0) as out:
        os.close(writing)
        message_id = (await deliverer.begin()).message_id
        await deliverer.say(message_id, "so far")
        assert await asyncio.to_thread(out.read, 100) == b"so far"
        running.send(signal.SIGINT)
        await until(deliverer.wished, "it is to be cancelled")
        yield running, message_id


async def test_control_c_cancels_the_reply(either: Cli, uuid: SessionId, deliverer: Deliverer) -> None:
    async with replying(either, uuid, deliverer) as (running, message_id):
        await deliverer.end(message_id, MessageOutcome.CANCELLED)
        done = await asyncio.to_thread(running.wait)
    assert done.code == STOPPED
    assert done.stderr.splitlines() == [
        "cancelling; again to leave it to itself",
        f"message {message_id} was cancelled",
    ]


async def test_control_c_again_leaves_it_to_itself(cli: Cli, uuid: SessionId, deliverer: Deliverer) -> None:
    async with replying(cli, uuid, deliverer) as (running, message_id):
        running.send(signal.SIGINT)
        done = await asyncio.to_thread(running.wait)
    assert done.code == STOPPED
    assert done.stderr.splitlines()[-1] == "left; the message goes on by itself if it was stored"
    await deliverer.end(message_id)


async def test_a_message_is_cancelled_by_its_id(
    either: Cli, uuid: SessionId, deliverer: Deliverer, steps: Steps
) -> None:
    first, second = [await store(steps, uuid, text) for text in ("a", "b")]
    await deliverer.begin()
    assert (await run(either, "cancel", uuid, second, "-o", "json")).json["status"] == "cancelled"
    assert (await run(either, "cancel", uuid, first, "-o", "json")).json["status"] == "cancelling"
    await deliverer.end(first)
    assert_refused(await run(either, "cancel", uuid, first), CONFLICT, f"message {first} has ended already: done")
    assert_refused(await run(either, "cancel", uuid, new_session_id()), NOT_FOUND, "there is no message")


async def test_the_conversation_is_shown_newest_last(
    either: Cli, uuid: SessionId, deliverer: Deliverer, steps: Steps
) -> None:
    for number in range(3):
        await store(steps, uuid, f"question {number}")
        await deliverer.answer(f"answer {number}")
    await steps.factory.demand.sleep(uuid)
    newest = (await run(either, "messages", uuid, "-n", "3", "-o", "json")).json
    assert [(each["message"], each["status"], each["reply"]) for each in newest["messages"]] == [
        (f"question {number}", "done", f"answer {number}") for number in range(3)
    ]
    assert newest["partial"] is True
    last = newest["messages"][-1]["message_id"]
    before = (await run(either, "messages", uuid, "-n", "2", "--before", last, "-o", "json")).json
    assert [each["message"] for each in before["messages"]] == ["question 0", "question 1"]
    table = await run(Cli(either.environment, before=()), "messages", "-n", "3", uuid)
    assert [line.split()[0] for line in table.stdout.splitlines()] == [
        "ID",
        *(each["message_id"] for each in newest["messages"]),
    ]
    assert table.stderr == "only what Redis holds is shown: the workspace sleeps, or does not answer\n"


async def test_events_show_what_was_said(cli: Cli, uuid: SessionId, deliverer: Deliverer, steps: Steps) -> None:
    await store(steps, uuid, "question\n\x1b[31m")
    await deliverer.answer("ans\x1b]0;wer")
    lines = (await run(cli, "events", uuid)).stdout.splitlines()
    about = [line.split("Z  ", 1)[1].split(maxsplit=1) for line in lines if "message-" in line]
    newest = ["message-queued", "message-started", "message-delta", "message-ended"]
    assert [kind for kind, _ in about[-4:]] == newest
    assert about[-4][1].endswith("question ?[31m")
    assert "\x1b" not in "".join(lines)
    found = [json.loads(line) for line in (await run(cli, "events", "-o", "json", uuid)).stdout.splitlines()]
    assert [event["text"] for event in found if event["text"]][-2:] == ["question\n\x1b[31m", "ans\x1b]0;wer"]


class Terminal:
    """A person's terminal: what is typed into it, and what it shows."""

    def __init__(self) -> None:
        self.master, self.slave = pty.openpty()
        self.shown = ""

    def type(self, text: str) -> None:
        """Type."""
        os.write(self.master, text.encode())

    async def shows(self, text: str) -> None:
        """Wait until it shows something new; what is before it is forgotten."""
        async with asyncio.timeout(60):
            while text not in self.shown:
                self.shown += (await asyncio.to_thread(os.read, self.master, 4096)).decode()
        self.shown = self.shown.partition(text)[2]


@contextmanager
def at_a_terminal(cli: Cli, *argv: str) -> Iterator[tuple[Terminal, Running]]:
    """Start a call as a person does."""
    terminal = Terminal()
    at = Cli({**cli.environment, "TERM": "dumb"}, before=())
    with at.start(*argv, stdin=terminal.slave, stdout=terminal.slave, stderr=terminal.slave) as running:
        os.close(terminal.slave)
        yield terminal, running
    os.close(terminal.master)


async def test_a_person_talks_until_control_d(either: Cli, uuid: SessionId, deliverer: Deliverer) -> None:
    with at_a_terminal(either, "chat", uuid) as (terminal, running):
        await terminal.shows("> ")
        terminal.type("\nhello\n")
        message = await deliverer.begin()
        assert message.message == "hello"
        # What an agent says is text, and no orders for a terminal.
        await deliverer.say(message.message_id, "you \x1b[2J")
        await terminal.shows("you ?[2J")
        await deliverer.end(message.message_id)
        await terminal.shows("> ")

        terminal.type("stop me\n")
        message_id = (await deliverer.begin()).message_id
        await deliverer.say(message_id, "endless")
        await terminal.shows("endless")
        running.send(signal.SIGINT)
        await until(deliverer.wished, "it is to be cancelled")
        await deliverer.end(message_id, MessageOutcome.CANCELLED)
        await terminal.shows(f"message {message_id} was cancelled")
        await terminal.shows("> ")

        running.send(signal.SIGINT)
        await terminal.shows("Ctrl-D ends")
        await terminal.shows("> ")
        terminal.type("again\n")
        await deliverer.answer("fine", outcome=MessageOutcome.FAILED, reason="no")
        await terminal.shows("fine")
        await terminal.shows("failed: no")
        await terminal.shows("> ")
        terminal.type("\x04")
        done = await asyncio.to_thread(running.wait)
    assert done.code == 0


async def test_completion_offers_what_can_be_cancelled(
    cli: Cli, uuid: SessionId, deliverer: Deliverer, steps: Steps
) -> None:
    message_id = await store(steps, uuid, "x")
    words = f"sessionctl cancel {uuid} {message_id[:6]}"
    asked = {"_SESSIONCTL_COMPLETE": "complete_bash", "COMP_WORDS": words, "COMP_CWORD": "3"}
    done = await run(Cli({**cli.environment, **asked}, before=()))
    assert done.stdout.split() == [message_id]


async def test_the_message_is_in_no_log(served: ServedApi, uuid: SessionId, deliverer: Deliverer) -> None:
    asking = run(served.cli(), "chat", uuid, "very-private-words")
    await deliverer.answer("very-private-reply")
    assert (await asking).code == 0
    assert "very-private" not in (served.folder / "log").read_text()
