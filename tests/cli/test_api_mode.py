"""With a URL and a key instead of a kubeconfig: what differs, and what is said of it."""

from __future__ import annotations

import json
import os
import re
import signal
from pathlib import Path

import pytest

from sessionctl.core.identity import new_session_id
from tests.cli.test_bad_input import BAD_INPUT, DEPENDENCY, FORBIDDEN, assert_refused
from tests.support.served_api import ACME, READER, ServedApi
from tests.support.sessionctl_cli import Cli
from tests.support.steps import Steps
from tests.support.waiting import wait_for

UUID = "3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11"
NOBODY = "http://user:hunter2@127.0.0.1:1"


@pytest.fixture
def offline() -> Cli:
    """No cluster, and an API that nobody serves."""
    return Cli(
        {
            "PATH": "/usr/bin:/bin",
            "HOME": "/nonexistent",
            "SESSIONCTL_API_URL": NOBODY,
            "SESSIONCTL_API_KEY": "sck_very-secret",
        }
    )


@pytest.mark.parametrize(
    "argv",
    [
        ["template"],
        ["sweep"],
        ["reconcile"],
        ["serve", "--api-keys", "/nonexistent"],
        ["apikey", "list"],
        ["apikey", "create", "backend"],
        ["apikey", "revoke", "backend"],
    ],
    ids=" ".join,
)
def test_what_the_api_does_not_offer_says_so(offline: Cli, argv: list[str]) -> None:
    name = " ".join(word for word in argv[:2] if word[0] not in "-/" and word != "backend")
    cause = f"^error: sessionctl {name} works on the cluster itself, not through the API"
    assert_refused(offline.run(*argv), BAD_INPUT, cause, "Unset SESSIONCTL_API_URL, or name the cluster")


@pytest.mark.parametrize("option", ["--kubeconfig", "--context", "--platform-namespace"])
def test_an_option_that_names_the_cluster_goes_before_the_api(offline: Cli, option: str) -> None:
    cli = Cli(offline.environment, before=("--quiet", option, "/nonexistent"))
    for argv in (["list"], ["sweep"]):
        assert_refused(cli.run(*argv), BAD_INPUT, "no usable kubeconfig")


def test_an_api_that_does_not_answer_is_named_without_credentials(offline: Cli) -> None:
    chatty = Cli(offline.environment, before=())
    done = chatty.run("status", UUID)
    *tried, last = done.stderr.splitlines()
    assert re.match(r"error: http://127\.0\.0\.1:1 does not answer: .* See whether the URL is right", last)
    assert tried
    assert all(line.endswith("; trying again ...") for line in tried)
    assert (done.code, done.out) == (DEPENDENCY, b"")
    assert "hunter2" not in done.stderr
    assert "sck_very-secret" not in done.stderr


@pytest.mark.parametrize(
    ("environment", "cause"),
    [
        ({"SESSIONCTL_API_KEY": ""}, "SESSIONCTL_API_URL is set, but no API key"),
        ({"SESSIONCTL_API_KEY_FILE": "{folder}/key"}, "both SESSIONCTL_API_KEY and SESSIONCTL_API_KEY_FILE are set"),
        ({"SESSIONCTL_API_KEY": "", "SESSIONCTL_API_KEY_FILE": "{folder}/none"}, "none cannot be read: No such file"),
        ({"SESSIONCTL_API_KEY": "", "SESSIONCTL_API_KEY_FILE": "{folder}"}, "cannot be read: Is a directory"),
        ({"SESSIONCTL_API_KEY": "", "SESSIONCTL_API_KEY_FILE": "{folder}/garbage"}, "garbage holds no API key"),
        ({"SESSIONCTL_API_KEY": "", "SESSIONCTL_API_KEY_FILE": "{folder}/empty"}, "the API key is empty"),
        ({"SESSIONCTL_API_URL": "sessions.example.com"}, "the URL of the Session API has no scheme"),
    ],
    ids=["no key", "two keys", "no file", "a folder", "garbage", "an empty file", "no scheme"],
)
def test_a_key_or_url_that_cannot_be_used_is_said_before_anybody_is_asked(
    offline: Cli, tmp_path: Path, environment: dict[str, str], cause: str
) -> None:
    (tmp_path / "garbage").write_bytes(b"\xff\xfe secret")
    (tmp_path / "empty").write_text("\n")
    given = {name: value.format(folder=tmp_path) for name, value in environment.items()}
    done = offline.having(**given).run("list")
    assert_refused(done, BAD_INPUT, cause)
    assert "secret" not in done.stderr


@pytest.mark.parametrize(
    "command", ["wake", "status", "sleep", "delete", "restore", "why", "events", "chat", "messages", "access"]
)
def test_what_is_not_a_session_id_is_refused_before_the_api_is_asked(offline: Cli, command: str) -> None:
    assert_refused(offline.run(command, "../create"), BAD_INPUT, "is not a session id", "see: sessionctl list")


def test_a_key_that_nobody_made_is_refused(served: ServedApi) -> None:
    stranger = "sck_default_" + "A" * 43
    cli = Cli({**served.cli().environment, "SESSIONCTL_API_KEY_FILE": "", "SESSIONCTL_API_KEY": stranger})
    done = cli.run("list")
    assert_refused(done, FORBIDDEN, "API key")
    assert stranger not in done.stderr


async def test_a_key_that_may_only_read_changes_nothing(served: ServedApi, steps: Steps) -> None:
    uuid = await steps.create()
    cli = served.cli(READER)
    assert cli.json("status", uuid)["session"]["status"] == "created"
    for argv in (["wake", uuid], ["sleep", uuid], ["delete", uuid], ["access", uuid], ["create", "--user", "alice"]):
        assert_refused(cli.run(*argv), FORBIDDEN, "")
    assert cli.json("status", uuid)["session"]["status"] == "created"


async def test_a_key_sees_its_tenant_s_sessions_only(served: ServedApi, steps: Steps) -> None:
    uuid = await steps.create("shared-name")
    acme = served.cli(ACME)
    assert acme.json("list", "--user", "shared-name")["sessions"] == []
    for command in ("status", "wake", "delete", "events", "why"):
        assert_refused(acme.run(command, uuid), 3, f"there is no session {uuid}")
    assert [row["uuid"] for row in served.cli().json("list", "--user", "shared-name")["sessions"]] == [uuid]


def test_another_tenant_than_the_key_s_is_refused(served: ServedApi) -> None:
    cli = served.cli(ACME)
    assert_refused(cli.run("create", "--user", "a", "--tenant", "other"), BAD_INPUT, "tenant.*acme")
    assert_refused(cli.run("list", "--tenant", "other"), BAD_INPUT, "tenant.*acme")
    assert cli.json("list", "--tenant", "acme", "--user", "nobody")["sessions"] == []


def test_an_id_of_one_s_own_is_refused(served: ServedApi) -> None:
    done = served.cli().run("create", "--user", "a", "--uuid", new_session_id())
    assert_refused(done, BAD_INPUT, "the Session API makes the ids itself", "Leave --uuid out")


def test_the_version_is_that_of_the_manager(served: ServedApi, cli: Cli) -> None:
    direct = cli.json("version")
    assert served.cli().json("version") == direct | {"helm": None}


async def test_access_gives_a_login_and_a_token(served: ServedApi, cli: Cli, steps: Steps) -> None:
    uuid = await steps.create()
    given = served.cli().json("access", uuid)
    assert given["url"].startswith(f"https://vs-code-{uuid}.example.com/_session/login?code=")
    assert given["token"].startswith("st_")
    assert given["scopes"] == ["read", "write"]
    assert_refused(cli.run("access", uuid), BAD_INPUT, "through the Session API only", "Set SESSIONCTL_API_URL")


def test_events_are_followed_as_they_happen(either: Cli, cli: Cli, steps: Steps) -> None:
    uuid = cli.json("create", "--user", "followed")["uuid"]
    steps.made.append(uuid)
    reading, writing = os.pipe()
    with either.start("events", "--follow", "-o", "json", uuid, stdout=writing) as running:
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as lines:
            assert json.loads(lines.readline())["event"] == "created"
            assert cli.run("wake", uuid).code == 0
            assert json.loads(lines.readline())["event"] == "woken"
            running.send(signal.SIGINT)
        done = running.wait()
    assert (done.code, done.err) == (130, b"")


def test_a_table_of_events_is_a_line_each(either: Cli, steps: Steps) -> None:
    uuid = either.json("create", "--user", "eventful")["uuid"]
    steps.made.append(uuid)
    (line,) = either.run("events", uuid).stdout.splitlines()
    assert re.fullmatch(r"\d{4}-\d\d-\d\d \d\d:\d\d:\d\dZ  created +of profile default", line)


def test_no_process_and_no_log_carries_the_key(served: ServedApi) -> None:
    with served.cli().executed().start("list") as running:
        argv = wait_for(lambda: Path(f"/proc/{running.pid}/cmdline").read_bytes(), "its arguments")
        environment = Path(f"/proc/{running.pid}/environ").read_bytes()
        done = running.wait()
    assert done.code == 0
    assert served.key().encode() not in argv + environment
    assert served.key() not in (served.folder / "log").read_text()


def test_completion_asks_the_api(served: ServedApi, steps: Steps) -> None:
    cli = served.cli()
    uuid = cli.json("create", "--user", "completed")["uuid"]
    steps.made.append(uuid)
    asked = {"_SESSIONCTL_COMPLETE": "complete_bash", "COMP_WORDS": f"sessionctl status {uuid[:6]}", "COMP_CWORD": "2"}
    assert uuid in Cli({**cli.environment, **asked}, before=()).run().stdout.split()
