"""One message on its way to its agent and back: agents that are away, die, break the rules; and what is cancelled."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator
from dataclasses import replace
from datetime import timedelta

import pytest

from sessionctl.core import sending
from sessionctl.models import AgentMessage, Cancellation, MessageOutcome
from tests.support.between import Hooks
from tests.support.dispatching import HURRIED, SETTINGS, Gates, Mortal, Room
from tests.support.waiting import until

DONE, FAILED = MessageOutcome.DONE, MessageOutcome.FAILED
CANCELLED, INTERRUPTED = MessageOutcome.CANCELLED, MessageOutcome.INTERRUPTED


class TestAgents:
    async def test_one_that_is_away_is_asked_until_it_is_back(self, room: Room) -> None:
        session_id = await room.session()
        room.fake.away.add(session_id)
        await room.chat(session_id, "hello")
        hooks = Hooks()
        room.dispatcher(hooks.around(room.store))
        await until(lambda: hooks.calls["start_message"] > 2, "it is tried again")
        room.fake.away.discard(session_id)
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]

    async def test_one_that_stays_away_blocks_nothing_for_ever(self, room: Room) -> None:
        session_id = await room.session()
        room.fake.away.add(session_id)
        await room.chat(session_id, "one")
        room.dispatcher()
        assert await room.all_end(session_id, "m1") == [("m1", FAILED)]
        assert "cannot be reached" in await room.reason(session_id)
        room.fake.away.discard(session_id)
        await room.chat(session_id, "two", first=2)
        assert await room.all_end(session_id, "m2") == [("m1", FAILED), ("m2", DONE)]
        assert room.metrics.messages == {FAILED: 1, DONE: 1}

    async def test_what_somebody_else_had_sent_may_have_run(self, room: Room) -> None:
        session_id = await room.session()
        await room.chat(session_id, "one")
        fence = await room.store.take_dispatch(session_id, "one that dies", timedelta(milliseconds=1))
        assert fence is not None
        await room.store.start_message(fence, "m1", "its pod")
        room.fake.away.add(session_id)
        room.dispatcher()
        assert await room.all_end(session_id, "m1") == [("m1", INTERRUPTED)]

    async def test_time_without_a_ready_pod_does_not_count(self, room: Room) -> None:
        session_id = await room.session()
        await room.chat(session_id, "one")
        room.field.show_pod(session_id, ready=False)
        await until(lambda: room.sees(session_id, ready=False), "the mirror shows it")
        room.fake.away.add(session_id)
        hooks = Hooks()

        async def back() -> None:
            room.fake.away.discard(session_id)

        hooks.before("start_message", back, nth=2)
        room.dispatcher(hooks.around(room.store))
        await asyncio.sleep(2 * SETTINGS.retry_limit.total_seconds())
        assert await room.ends(session_id) == []
        room.field.show_pod(session_id, ready=True)
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]

    async def test_one_that_dies_midway_ends_its_message_and_runs_the_next(self, room: Room, gates: Gates) -> None:
        room.fake.repeatable = False
        session_id = await room.session()
        await room.chat(session_id, "one two", "three")
        room.dispatcher()
        await gates.running("one two")
        room.field.show_pod(session_id, ready=False, ending=True)
        await room.fake.kill(session_id)
        room.field.remove_pod(session_id)
        room.field.show_pod(session_id, "another")
        assert await room.all_end(session_id, "m2") == [("m1", INTERRUPTED), ("m2", DONE)]
        assert await room.reply(session_id) == "one"
        assert room.fake.begun == {"m1": 1, "m2": 1}

    async def test_one_that_repeats_has_its_last_attempt_recorded(self, room: Room, gates: Gates) -> None:
        session_id = await room.session()
        await room.chat(session_id, "one two")
        room.dispatcher()
        await gates.running("one two")
        await room.fake.kill(session_id)
        gates.open("one two")
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]
        assert await room.reply(session_id) == "onetwo"
        assert room.fake.begun == {"m1": 2}

    async def test_files_that_died_with_their_pod_are_not_taken_for_a_fresh_start(
        self, room: Room, gates: Gates
    ) -> None:
        """The dispatcher dies with the pod, before a word is recorded; an ephemeral workspace remembers nothing."""
        room.fake.repeatable = False
        session_id = await room.session(keeps_volume=False)
        await room.chat(session_id, "one two")
        mortal = Mortal(room.store, "append_reply")
        room.dispatcher(mortal).notify(session_id)
        await mortal.stopped.wait()
        room.field.remove_pod(session_id)
        room.field.show_pod(session_id, "another")
        await room.fake.kill(session_id, with_files=True)
        await until(lambda: "another" in room.field.pods, "there is another pod")
        room.dispatcher()
        assert await room.all_end(session_id, "m1") == [("m1", INTERRUPTED)]
        assert room.fake.begun == {"m1": 1}

    async def test_an_endless_series_of_cuts_has_an_end(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        async def reply(text: str) -> AsyncGenerator[str, None]:
            if text == "deadly":
                asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(room.fake.kill(session_id)))
                await asyncio.Event().wait()
            yield text

        room.fake.reply = reply
        session_id = await room.session()
        await room.chat(session_id, "deadly", "hello")
        monkeypatch.setattr(sending, "MOST_CUTS", 3)
        room.dispatcher(settings=replace(SETTINGS, retry_limit=timedelta(hours=1)))
        assert await room.all_end(session_id, "m2") == [("m1", INTERRUPTED), ("m2", DONE)]

    async def test_cuts_after_a_calm_time_count_anew(self, room: Room, monkeypatch: pytest.MonkeyPatch) -> None:
        lives = 6

        async def reply(text: str) -> AsyncGenerator[str, None]:
            nonlocal lives
            lives -= 1
            if lives:
                asyncio.get_running_loop().call_soon(lambda: asyncio.ensure_future(room.fake.kill(session_id)))
                await asyncio.Event().wait()
            yield text

        room.fake.reply = reply
        session_id = await room.session()
        await room.chat(session_id, "hello")
        monkeypatch.setattr(sending, "MOST_CUTS", 3)
        monkeypatch.setattr(sending, "CALM_SECONDS", -1.0)
        room.dispatcher(settings=replace(SETTINGS, retry_limit=timedelta(hours=1)))
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]

    async def test_a_reply_that_is_too_long_is_kept_as_far_as_it_may_go(self, room: Room) -> None:
        async def reply(text: str) -> AsyncGenerator[str, None]:
            for _ in range(100):
                yield "äöü"

        room.fake.reply = reply
        session_id = await room.session()
        await room.chat(session_id, "hello")
        room.dispatcher(settings=replace(SETTINGS, max_reply_bytes=21))
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]
        assert await room.reply(session_id) == "äöüäöüäöüä"
        assert "longer than 21 bytes" in await room.reason(session_id)

    async def test_whoever_goes_on_with_a_reply_counts_on(self, room: Room, gates: Gates) -> None:
        settings = replace(HURRIED, max_reply_bytes=8)
        session_id = await room.session()
        await room.chat(session_id, "äöü bbbbbb")
        first = room.dispatcher(settings=settings, scans=False)
        first.notify(session_id)
        await gates.running("äöü bbbbbb")
        await room.says(session_id, "äöü")
        await first.close()
        gates.open("äöü bbbbbb")
        room.dispatcher(settings=settings, scans=False).notify(session_id)
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]
        assert await room.reply(session_id) == "äöübb"
        assert "longer than 8 bytes" in await room.reason(session_id)

    async def test_whoever_goes_on_after_the_last_byte_that_is_kept_keeps_no_more(
        self, room: Room, gates: Gates
    ) -> None:
        settings = replace(HURRIED, max_reply_bytes=5)
        session_id = await room.session()
        await room.chat(session_id, "äöü b")
        first = room.dispatcher(settings=settings, scans=False)
        first.notify(session_id)
        await gates.running("äöü b")
        await room.says(session_id, "äö")
        await first.close()
        gates.open("äöü b")
        room.dispatcher(settings=settings, scans=False).notify(session_id)
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]
        assert await room.reply(session_id) == "äö"
        assert "longer than 5 bytes" in await room.reason(session_id)

    async def test_what_arrives_meanwhile_is_one_piece_and_the_first_word_is_not_delayed(self, room: Room) -> None:
        async def reply(text: str) -> AsyncGenerator[str, None]:
            yield "first "
            await recording.wait()
            for number in range(1000):
                yield f"{number} "
            said.set()

        recording, said, hooks = asyncio.Event(), asyncio.Event(), Hooks()

        async def slow() -> None:
            recording.set()
            await said.wait()
            await asyncio.sleep(0.1)

        hooks.before("append_reply", slow)
        room.fake.reply = reply
        session_id = await room.session()
        await room.chat(session_id, "hello")
        room.dispatcher(hooks.around(room.store))
        assert await room.all_end(session_id, "m1") == [("m1", DONE)]
        pieces = await room.pieces(session_id)
        assert pieces[0] == "first "
        assert "".join(pieces[1:]) == "".join(f"{number} " for number in range(1000))
        assert len(pieces) <= 3

    async def test_one_that_refuses_or_breaks_the_rules_blocks_nobody(self, room: Room, gates: Gates) -> None:
        """A bad session beside a good one, and a bad message before a good one."""

        bad, good = await room.session(), await room.session()
        async with room.fake.send(AgentMessage(bad, "m1", "the same id for another text", "alice")):
            await room.chat(bad, "one two", "three")
        await room.chat(good, "one")
        room.dispatcher()
        assert await room.all_end(good, "m1") == [("m1", DONE)]
        assert await room.all_end(bad, "m2") == [("m1", FAILED), ("m2", DONE)]
        assert await room.reason(bad) == "the agent refused with status 409"


class TestCancel:
    async def test_a_message_that_waits_is_never_sent(self, room: Room, gates: Gates) -> None:
        session_id = await room.session()
        await room.chat(session_id, "one two", "never")
        room.dispatcher()
        await gates.running("one two")
        assert await room.store.cancel_message(session_id, "m2") is Cancellation.CANCELLED
        gates.open("one two")
        assert await room.all_end(session_id, "m1") == [("m2", CANCELLED), ("m1", DONE)]
        await room.is_free(session_id)
        assert room.fake.begun == {"m1": 1}

    async def test_a_message_that_runs_has_the_agents_own_outcome(self, room: Room, gates: Gates) -> None:
        session_id = await room.session()
        await room.chat(session_id, "one two", "next")
        room.dispatcher()
        await gates.running("one two")
        assert await room.store.cancel_message(session_id, "m1") is Cancellation.CANCELLING
        assert await room.all_end(session_id, "m2") == [("m1", CANCELLED), ("m2", DONE)]
        assert await room.reply(session_id) == "one"

    async def test_a_wish_outlives_whoever_heard_it(self, room: Room, gates: Gates) -> None:
        session_id = await room.session()
        await room.chat(session_id, "one two")
        mortal = Mortal(room.store, "renew_dispatch")
        room.dispatcher(mortal).notify(session_id)
        await gates.running("one two")
        await mortal.stopped.wait()
        await room.store.cancel_message(session_id, "m1")
        room.dispatcher()
        assert await room.all_end(session_id, "m1") == [("m1", CANCELLED)]

    async def test_what_its_agent_never_heard_of_is_cancelled(self, room: Room) -> None:
        session_id = await room.session()
        await room.chat(session_id, "hello")
        mortal = Mortal(room.store, "start_message", before=False)
        room.dispatcher(mortal).notify(session_id)
        await mortal.stopped.wait()
        assert await room.store.cancel_message(session_id, "m1") is Cancellation.CANCELLING
        room.dispatcher()
        assert await room.all_end(session_id, "m1") == [("m1", CANCELLED)]
        assert room.fake.begun == {}

    async def test_an_agent_that_does_not_heed_it_is_not_waited_for_for_ever(
        self, room: Room, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        async def reply(text: str) -> AsyncGenerator[str, None]:
            while text == "stubborn":
                yield "."
                await asyncio.sleep(0.01)
            yield text

        async def deaf(*_: object) -> bool:
            return True

        room.fake.reply = reply
        session_id = await room.session()
        await room.chat(session_id, "stubborn")
        monkeypatch.setattr(room.fake, "cancel", deaf)
        room.dispatcher()
        await until(lambda: room.fake.begun, "it runs")
        await room.store.cancel_message(session_id, "m1")
        assert await room.all_end(session_id, "m1") == [("m1", CANCELLED)]
        assert "did not" in await room.reason(session_id)

    async def test_one_whose_agent_is_away_is_cancelled_sooner_than_given_up(self, room: Room) -> None:
        session_id = await room.session()
        room.fake.away.add(session_id)
        await room.chat(session_id, "hello")
        hooks = Hooks()
        room.dispatcher(hooks.around(room.store), replace(SETTINGS, retry_limit=timedelta(hours=1)))
        await until(lambda: hooks.calls["start_message"] > 1, "it is tried")
        await room.store.cancel_message(session_id, "m1")
        assert await room.all_end(session_id, "m1") == [("m1", CANCELLED)]


async def test_what_somebody_else_has_ended_is_stopped_and_the_next_goes_on(room: Room) -> None:
    go_on = asyncio.Event()

    async def reply(text: str) -> AsyncGenerator[str, None]:
        yield text
        if text == "endless":
            await go_on.wait()
            yield text
            await asyncio.Event().wait()

    room.fake.reply = reply
    session_id = await room.session()
    await room.chat(session_id, "endless", "next")
    room.dispatcher()
    await room.says(session_id, "endless")
    await room.store.settle_waiting(session_id, CANCELLED, "its session was put to sleep")
    await room.chat(session_id, "new", first=3)
    go_on.set()
    assert await room.all_end(session_id, "m3") == [("m1", CANCELLED), ("m2", CANCELLED), ("m3", DONE)]
    assert await room.reply(session_id) == "endless"
