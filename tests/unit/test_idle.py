from __future__ import annotations

from datetime import timedelta

import pytest

from sessionctl.core.idle import judge
from sessionctl.models import Activity
from sessionctl.settings import EditorIdle, IdleSettings

SETTINGS = IdleSettings()
LONG = timedelta(minutes=10)


def ago(seconds: float) -> timedelta:
    return timedelta(seconds=seconds)


def test_recent_activity_needs_no_question() -> None:
    assert not judge(Activity(), ago(121.9), SETTINGS).idle
    assert judge(Activity(), ago(122), SETTINGS).idle


def test_no_answer_counts_as_work_up_to_the_limit() -> None:
    assert not judge(None, timedelta(minutes=59), SETTINGS).idle
    assert judge(None, timedelta(hours=1), SETTINGS).idle


@pytest.mark.parametrize(
    ("activity", "idle", "age"),
    [
        (Activity(message_running=True), False, ago(0)),
        (Activity(hold=timedelta(hours=7)), False, ago(0)),
        (Activity(hold=timedelta(hours=8)), True, None),
        (Activity(editor_input=ago(100)), False, ago(100)),
        (Activity(editor_input=ago(122)), True, None),
        (Activity(editor_connected=ago(5)), True, None),
        (Activity(), True, None),
    ],
)
def test_what_counts_as_work(activity: Activity, idle: bool, age: timedelta | None) -> None:
    verdict = judge(activity, LONG, SETTINGS)
    assert (verdict.idle, verdict.activity_age) == (idle, age)


def test_an_open_editor_counts_when_the_operator_says_so_and_not_for_ever() -> None:
    settings = IdleSettings(editor=EditorIdle.CONNECTION)
    assert not judge(Activity(editor_connected=timedelta(hours=7)), LONG, settings).idle
    assert judge(Activity(editor_connected=timedelta(hours=8)), LONG, settings).idle
