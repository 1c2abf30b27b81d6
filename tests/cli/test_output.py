"""Answers: their JSON is a contract, YAML says the same, and a reader that goes away is no error."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import pytest
import yaml

from sessionctl import __version__
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tools.localcluster import LocalCluster

GOLDENS = Path(__file__).parent / "goldens"
_UUID = re.compile(r"[0-9a-f]{8}-[0-9a-f]{4}-4[0-9a-f]{3}-[89ab][0-9a-f]{3}-[0-9a-f]{12}")
_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(\.\d+)?(Z|\+00:00)")
_EVENT = re.compile(r"\b\d{13}-\d+\b")
_ADDRESS = re.compile(r"127\.0\.0\.1:\d+")


def masked(answer: Any) -> Any:
    """Return an answer with what differs from run to run replaced."""
    text = json.dumps(answer, ensure_ascii=False, indent=2)
    text = _ADDRESS.sub("<address>", _TIME.sub("<time>", _UUID.sub("<uuid>", _EVENT.sub("<event>", text))))
    return json.loads(text.replace(f'"{__version__}"', '"<version>"'))


def check(name: str, answer: Any) -> None:
    """Compare with the golden; SESSIONCTL_UPDATE_GOLDENS=1 writes it."""
    file = GOLDENS / f"{name}.json"
    if os.environ.get("SESSIONCTL_UPDATE_GOLDENS"):
        file.write_text(json.dumps(masked(answer), ensure_ascii=False, indent=2) + "\n")
    assert masked(answer) == json.loads(file.read_text())


def test_the_answers_of_a_sessions_life_keep_their_shape(either_of_acme: Cli, steps: Steps) -> None:
    cli = either_of_acme
    created = cli.json("create", "--user", "golden", "--tenant", "acme", "--profile", "large")
    uuid = created["uuid"]
    steps.made.append(uuid)
    check("create", created)
    check("status-created", cli.json("status", uuid))
    check("wake", cli.json("wake", uuid))
    check("wake-wait", cli.json("wake", "--wait", uuid))
    check("status-active", cli.json("status", uuid))
    # What holds it, and until when, is told in tests of its own.
    check("why", cli.json("why", uuid) | {"held_by": [], "sleeps_at": None})
    assert re.search(r"^HELD BY +\w+: ", cli.run("why", uuid).stdout, re.MULTILINE)
    check("list", cli.json("list", "--user", "golden", "--tenant", "acme"))
    check("sleep", cli.json("sleep", uuid))
    check("delete", cli.json("delete", "--wait", uuid))
    check("status-deleted", cli.json("status", uuid))
    check("list-deleted", cli.json("list", "--user", "golden", "--status", "deleted"))
    assert cli.json("list", "--user", "golden") == {"sessions": [], "cursor": None}
    check("restore", cli.json("restore", uuid))
    check("messages", cli.json("messages", uuid))
    lines = cli.run("events", "-o", "json", uuid).stdout.splitlines()
    # Who else sees it, and when, is not ours to say.
    ours = ["created", "woken", "slept", "deleted", "restored"]
    check("events", [event for event in map(json.loads, lines) if event["event"] in ours])
    check("purge", cli.json("delete", "--purge", "--wait", uuid))


def test_the_answer_of_reconcile_keeps_its_shape(cli: Cli, steps: Steps) -> None:
    uuid = cli.json("create", "--user", "golden")["uuid"]
    steps.made.append(uuid)
    with steps.census.redis() as redis:
        redis.delete(f"session:{uuid}")
    repaired = cli.json("reconcile", "--grace", "0s")
    repaired["repairs"] = [repair for repair in repaired["repairs"] if repair["uuid"] == uuid]
    check("reconcile", repaired)


def test_the_answers_about_the_platform_keep_their_shape(cli: Cli) -> None:
    swept = cli.json("sweep")
    # Which sessions it finds depends on the tests before.
    assert all(isinstance(sessions, list) for name, sessions in swept.items() if name != "gate")
    check("sweep", swept | {name: [] for name in swept if name != "gate"})
    check("template", cli.json("template", "--user", "golden", "--profile", "large"))
    version = cli.json("version")
    assert re.fullmatch(r"v4\.\d+\.\d+", version["helm"])
    check("version", version | {"helm": "<helm>"})
    check("version-client", cli.json("version", "--client"))


def test_a_template_shows_what_answers_and_no_token(cli: Cli, platform: LocalCluster) -> None:
    target = ("patch", "configmap", "sessionctl-profiles", "-n", "sessionctl", "--type=merge", "-p")
    profile = "agent: {kind: command, command: [ai, --fast]}"
    platform.kubectl(*target, json.dumps({"data": {"answering.yaml.j2": profile}}))
    shown = cli.json("template", "--profile", "answering")
    platform.kubectl(*target, json.dumps({"data": {"answering.yaml.j2": None}}))
    assert shown["agent"] == {"kind": "command", "command": ["ai", "--fast"], "token": "0" * 64}


@pytest.mark.parametrize(
    "argv",
    [["list", "--user", "yaml"], ["template"], ["version", "--client"], ["reconcile", "--dry-run"]],
    ids=" ".join,
)
def test_yaml_says_what_json_says(cli: Cli, argv: list[str]) -> None:
    as_yaml = cli.run(*argv, "-o", "yaml")
    assert as_yaml.code == 0
    assert masked(yaml.safe_load(as_yaml.stdout)) == masked(cli.json(*argv))


async def test_yaml_of_a_session_says_what_json_says(either: Cli, steps: Steps) -> None:
    cli = either
    # Strings that YAML would read as something else.
    uuid = await steps.create("0123")
    as_yaml = yaml.safe_load(cli.run("status", uuid, "-o", "yaml").stdout)
    as_json = cli.json("status", uuid)
    assert as_yaml["session"]["user_id"] == "0123"
    as_json["timestamp"] = as_yaml["timestamp"] = None
    assert as_yaml == as_json


async def test_tables_name_what_a_person_looks_for(either: Cli, steps: Steps) -> None:
    cli = either
    uuid = await steps.create("table-reader")
    listed = cli.run("list", "--user", "table-reader").stdout.splitlines()
    assert listed[0].split() == ["UUID", "USER", "STATUS", "REPLICAS", "CREATED"]
    assert listed[1].split()[:4] == [uuid, "table-reader", "created", "0/0"]
    status = dict(line.split(maxsplit=1) for line in cli.run("status", uuid).stdout.splitlines())
    assert (status["UUID"], status["USER"], status["REPLICAS"]) == (uuid, "table-reader", "0/0")


async def test_progress_goes_to_standard_error_and_can_be_switched_off(either: Cli, steps: Steps) -> None:
    cli = either
    uuid = await steps.create()
    chatty = Cli(cli.environment, before=()).run("wake", "--wait", uuid, "-o", "json")
    assert json.loads(chatty.stdout)["status"] == "active"
    assert chatty.stderr == "waiting for the pod ...\n"
    assert cli.run("wake", "--wait", uuid).stderr == ""


@pytest.mark.parametrize(
    "argv",
    [["list"], ["list", "-o", "json"], ["version", "--client"], ["template", "-o", "yaml"], ["--help"]],
    ids=" ".join,
)
def test_a_reader_that_goes_away_is_no_error(cli: Cli, argv: list[str]) -> None:
    reading, writing = os.pipe()
    os.close(reading)
    try:
        with cli.start(*argv, stdout=writing) as running:
            done = running.wait()
    finally:
        os.close(writing)
    assert done.err == b""
    # Help is printed by the library, which answers 1.
    assert done.code == (1 if argv == ["--help"] else 0)


def test_create_does_without_what_takes_long_to_load(cli: Cli, steps: Steps) -> None:
    done = cli.having(PYTHONPROFILEIMPORTTIME="1").run("create", "--user", "quick", "--output", "json")
    steps.made.append(done.json["uuid"])
    loaded = {line.rpartition("|")[2].strip().partition(".")[0] for line in done.stderr.splitlines() if "|" in line}
    assert {"sessionctl", "redis"} <= loaded
    assert not loaded & {"pydantic", "kubernetes", "aiohttp", "requests", "jinja2", "rich"}
