"""Bad input and absent dependencies: one line with cause and next step, the right exit code, nothing half done."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from pathlib import Path

import pytest

from sessionctl.core.identity import new_session_id
from tests.support.api_proxy import ApiProxy
from tests.support.census import Census
from tests.support.fixtures import PLATFORM_CONFIG
from tests.support.sessionctl_cli import Cli, Done
from tests.support.steps import Steps
from tests.support.waiting import wait_for
from tools.localcluster import LocalCluster

NEVER = -1
BAD_INPUT, NOT_FOUND, CONFLICT, FORBIDDEN, DEPENDENCY, TOO_LATE = range(2, 8)
ABOUT_ONE = ["wake", "status", "sleep", "delete", "restore", "why", "events", "messages"]
CHANGING = ["wake", "sleep", "delete", "restore"]
PROFILES = {
    "wrong-type": "resources: 5",
    "not-yaml": "a: [",
    "not-a-mapping": "- a",
    "unknown-name": "env: {A: {{ nobody | tojson }}}",
    "broken-template": "{% if %}",
    "escape": "{{ ''.__class__.__mro__ }}",
    "reserved": "agent: {token: mine}",
    "unknown-value": "reosurces: {}",
    "arithmetic": "env: {A: '{{ 1 / 0 }}'}",
    "date": "env: {A: 2020-01-01}",
}


def assert_refused(done: Done, code: int, cause: str, step: str = "") -> None:
    """One line on standard error, nothing on standard output."""
    lines = done.stderr.splitlines()
    assert len(lines) == 1, done.stderr
    assert lines[0].startswith("error: ")
    assert re.search(cause, lines[0]), lines[0]
    assert step in lines[0], lines[0]
    assert done.out == b""
    assert done.code == code


@pytest.fixture
def footprint(census: Census) -> Iterator[None]:
    """Nothing of the test may stay: no release, no object, no key of Redis that does not end by itself."""

    def everything() -> set[str]:
        found = {item["metadata"]["name"] for kind in KINDS for item in census.api.get(census.path(kind))["items"]}
        with census.redis() as redis:
            return found | {str(key) for key in redis.scan_iter() if redis.ttl(key) == NEVER}

    before = everything()
    yield
    # What was undone is gone when KEDA has taken its finalizer off.
    wait_for(lambda: everything() == before, "nothing of the test is left")


KINDS = [
    "deployments",
    "services",
    "configmaps",
    "secrets",
    "persistentvolumeclaims",
    "networkpolicies",
    "scaledobjects",
    "triggerauthentications",
]


@pytest.fixture
def offline() -> Cli:
    """No cluster at all: what is wrong with the words is said before anybody is asked."""
    return Cli({"PATH": "/usr/bin:/bin", "HOME": "/nonexistent"})


@pytest.mark.parametrize("command", ABOUT_ONE)
@pytest.mark.parametrize(
    "word",
    [
        "",
        "alice",
        "3f0c7f0e5a524b8e9a9b0a8f0a2d6c11",
        "3F0C7F0E-5A52-4B8E-9A9B-0A8F0A2D6C11",
        "3f0c7f0e-5a52-1b8e-9a9b-0a8f0a2d6c11",
        "{3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11}",
        "../secrets",
        "a\nb",
    ],
)
def test_what_is_not_a_session_id_is_refused_before_anything_else(offline: Cli, command: str, word: str) -> None:
    assert_refused(offline.run(command, word), BAD_INPUT, "is not a session id", "see: sessionctl list")


@pytest.mark.parametrize(
    ("user", "cause"),
    [
        ("", "the user id is empty"),
        ("x" * 257, "257 characters, more than 256"),
        ("a\nb", r"U\+000A"),
        ("a\x1b[31mb", r"U\+001B"),
        ("a\x7fb", r"U\+007F"),
        ("a\u0085b", r"U\+0085"),
        (b"a\xff\xfeb", r"U\+DCFF"),
    ],
    ids=["empty", "long", "newline", "escape", "delete", "C1", "not UTF-8"],
)
@pytest.mark.parametrize("command", ["create", "template"])
def test_a_user_id_that_cannot_be_kept_is_refused(offline: Cli, command: str, user: str | bytes, cause: str) -> None:
    assert_refused(offline.run(command, "--user", user), BAD_INPUT, cause)


@pytest.mark.parametrize(
    ("argv", "cause"),
    [
        (["create", "--user", "a", "--tenant", "A B"], "not a name for a tenant"),
        (["create", "--user", "a", "--tenant", ""], "not a name for a tenant"),
        (["create", "--user", "a", "--profile", "../x"], "not a name for a profile"),
        (["create", "--user", "a", "--uuid", "1"], "not a session id"),
        (["wake", "--timeout", "soon", "3f0c7f0e-5a52-4b8e-9a9b-0a8f0a2d6c11"], "--timeout: "),
        (["reconcile", "--grace", "-1s"], "--grace: "),
        (["list", "--status", "dreaming"], "not a state"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, list) else "",
)
def test_other_words_that_make_no_sense_are_refused(offline: Cli, argv: list[str], cause: str) -> None:
    assert_refused(offline.run(*argv), BAD_INPUT, cause)


@pytest.mark.parametrize(
    ("environment", "cause", "step"),
    [
        ({}, "no usable kubeconfig: there is no file", "--kubeconfig"),
        ({"KUBECONFIG": "/nonexistent/kubeconfig"}, "there is no file /nonexistent/kubeconfig", "--kubeconfig"),
        ({"KUBECONFIG": "{folder}"}, "no usable kubeconfig", "--kubeconfig"),
        ({"KUBECONFIG": "{folder}/garbage"}, "no usable kubeconfig", "kubectl config view"),
        ({"KUBECONFIG": "{folder}/empty"}, "no usable kubeconfig", "kubectl config view"),
    ],
    ids=["none", "absent", "a folder", "garbage", "empty"],
)
def test_without_a_usable_kubeconfig_the_next_step_is_named(
    offline: Cli, tmp_path: Path, environment: dict[str, str], cause: str, step: str
) -> None:
    (tmp_path / "garbage").write_bytes(b"\x00\xff not: [yaml")
    (tmp_path / "empty").write_text("")
    given = {name: value.format(folder=tmp_path) for name, value in environment.items()}
    assert_refused(offline.having(**given).run("list"), BAD_INPUT, cause, step)


def test_a_context_that_is_not_in_the_kubeconfig_is_refused(platform: LocalCluster) -> None:
    cli = Cli(Cli.on(platform).environment, before=("--quiet", "--context", "elsewhere"))
    assert_refused(cli.run("list"), BAD_INPUT, "no context named 'elsewhere'", "kubectl config view")


def test_a_namespace_without_a_platform_is_named(platform: LocalCluster) -> None:
    cli = Cli(Cli.on(platform).environment, before=("--quiet", "--platform-namespace", "default"))
    assert_refused(cli.run("list"), BAD_INPUT, "no platform release in the namespace default", "--platform-namespace")
    by_variable = Cli.on(platform).having(SESSIONCTL_PLATFORM_NAMESPACE="default")
    assert_refused(by_variable.run("list"), BAD_INPUT, "no platform release in the namespace default")


@pytest.mark.parametrize("argv", [["list"], ["create", "--user", "a"], ["reconcile"], ["version"]], ids=" ".join)
def test_a_cluster_that_does_not_answer_is_named(platform: LocalCluster, tmp_path: Path, argv: list[str]) -> None:
    nobody = {
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{"name": "gone", "cluster": {"server": "https://127.0.0.1:1"}}],
        "users": [{"name": "a", "user": {"token": "very-secret-token"}}],
        "contexts": [{"name": "gone", "context": {"cluster": "gone", "user": "a"}}],
        "current-context": "gone",
    }
    kubeconfig = tmp_path / "kubeconfig"
    kubeconfig.write_text(json.dumps(nobody))
    done = Cli.on(platform, kubeconfig).run(*argv)
    assert_refused(done, DEPENDENCY, "https://127.0.0.1:1 does not answer", "kubectl cluster-info")


def test_a_cluster_that_does_not_know_the_caller_is_named(platform: LocalCluster, tmp_path: Path) -> None:
    stranger = platform.kubeconfig_for_token("no-such-token", tmp_path / "kubeconfig")
    done = Cli.on(platform, stranger).run("list")
    assert_refused(done, FORBIDDEN, "refused", "rights of the platform chart's Role")
    assert "no-such-token" not in done.stderr


@pytest.mark.parametrize("command", ABOUT_ONE)
@pytest.mark.usefixtures("footprint")
def test_a_session_that_does_not_exist_is_not_found(either: Cli, command: str) -> None:
    # Executed, so that each command is seen to load all it needs.
    done = either.executed().run(command, new_session_id())
    assert_refused(done, NOT_FOUND, "there is no session|cannot be restored")


@pytest.fixture
async def session(steps: Steps) -> str:
    """An ordinary session."""
    return await steps.create()


@pytest.fixture
def without_redis(platform: LocalCluster, tmp_path: Path) -> Iterator[Cli]:
    """A command line that finds nobody where Redis should be."""
    with ApiProxy(platform) as proxy:
        proxy.rewrite(PLATFORM_CONFIG, f"port: {platform.redis.port}", "port: 1")
        yield Cli.on(platform, proxy.write_kubeconfig(tmp_path / "kubeconfig"))


@pytest.mark.usefixtures("footprint")
def test_a_create_without_redis_makes_nothing(without_redis: Cli) -> None:
    done = without_redis.run("create", "--user", "alice")
    assert_refused(done, DEPENDENCY, "Redis at 127.0.0.1:1 does not answer", "try again")


@pytest.mark.parametrize("command", ["wake", "sleep", "delete"])
def test_without_redis_a_session_stays_as_it_is(without_redis: Cli, census: Census, session: str, command: str) -> None:
    done = without_redis.run(command, session)
    assert_refused(done, DEPENDENCY, "Redis at 127.0.0.1:1 does not answer", "stays as it is")
    remains = census.of(session)
    assert remains.is_complete
    assert remains.objects["deployments"]["spec"]["replicas"] == 0


def test_without_redis_status_and_list_answer_from_the_cluster(without_redis: Cli, session: str) -> None:
    status = without_redis.json("status", session)
    assert status["queue_length"] is None
    assert status["session"]["user_id"] == "alice"
    assert "Redis does not answer" in status["notices"][0]
    assert session in {row["uuid"] for row in without_redis.json("list")["sessions"]}


@pytest.fixture(params=["missing", "old", "broken", "hangs-on-deletes", "folder"])
def bad_helm(request: pytest.FixtureRequest, tmp_path: Path) -> tuple[str, str]:
    """A Helm that cannot be used, and what is said of it."""
    helm = tmp_path / "helm"
    says = {"old": "v3.18.0", "broken": "what?", "hangs-on-deletes": "v4.2.1"}
    match request.param:
        case "missing":
            return str(helm), "Helm cannot be run"
        case "folder":
            helm.mkdir()
            return str(helm), "Helm cannot be run"
        case kind:
            helm.write_text(f"#!/bin/sh\necho '{says[kind]}'\n")
            helm.chmod(0o755)
            return str(helm), re.escape(f"Helm {says[kind]} cannot be used")


def test_without_a_usable_helm_nothing_is_begun(
    cli: Cli, census: Census, session: str, bad_helm: tuple[str, str], footprint: None
) -> None:
    path, cause = bad_helm
    cli = cli.having(SESSIONCTL_HELM=path)
    assert_refused(cli.run("create", "--user", "alice"), DEPENDENCY, cause, "Install Helm 4")
    assert_refused(cli.run("delete", session), DEPENDENCY, cause, "SESSIONCTL_HELM")
    assert_refused(cli.run("version"), DEPENDENCY, cause)
    assert census.of(session).is_complete


async def test_without_a_usable_helm_a_deleted_session_stays_deleted(
    cli: Cli, steps: Steps, session: str, bad_helm: tuple[str, str]
) -> None:
    await steps.delete(steps.made[-1])
    steps.settle(steps.made, lambda remains: remains.is_deleted)
    assert_refused(cli.having(SESSIONCTL_HELM=bad_helm[0]).run("restore", session), DEPENDENCY, bad_helm[1])
    steps.settle(steps.made, lambda remains: remains.is_deleted)


def test_without_helm_on_the_path_waking_still_works(cli: Cli, session: str) -> None:
    # Helm is never on the wake path.
    cli = cli.having(PATH="/usr/bin:/bin")
    assert cli.json("wake", "--wait", session)["status"] == "active"
    assert cli.json("sleep", session)["status"] == "sleeping"


@pytest.fixture(scope="module")
def bad_profiles(platform: LocalCluster) -> Iterator[None]:
    """Profiles of an operator who made mistakes."""
    patch = {"data": {f"{name}.yaml.j2": text for name, text in PROFILES.items()}}
    target = ("patch", "configmap", "sessionctl-profiles", "-n", "sessionctl", "--type=merge", "-p")
    platform.kubectl(*target, json.dumps(patch))
    yield
    platform.kubectl(*target, json.dumps({"data": dict.fromkeys(patch["data"])}))


@pytest.mark.parametrize(
    ("profile", "cause"),
    [
        ("wrong-type", "the values do not fit the chart: .*resources"),
        ("unknown-value", "the values do not fit the chart: .*reosurces"),
        ("not-yaml", "profile not-yaml does not render to YAML"),
        ("not-a-mapping", "renders to a list"),
        ("unknown-name", "profile unknown-name: .*[Uu]ndefined"),
        ("broken-template", "profile broken-template: "),
        ("escape", "profile escape: "),
        ("reserved", "profile sets agent.token, which belongs to sessionctl"),
        ("arithmetic", "profile arithmetic: division by zero"),
        ("date", "profile date holds a value that JSON cannot carry"),
    ],
)
@pytest.mark.usefixtures("bad_profiles", "footprint")
def test_a_profile_with_a_mistake_makes_nothing(cli: Cli, profile: str, cause: str) -> None:
    done = cli.run("create", "--user", "alice", "--profile", profile)
    assert_refused(done, BAD_INPUT, cause)


@pytest.mark.usefixtures("footprint")
def test_a_profile_that_does_not_exist_is_not_found_and_the_others_are_named(cli: Cli) -> None:
    done = cli.run("create", "--user", "alice", "--profile", "nobodys")
    assert_refused(done, NOT_FOUND, r"there is no profile 'nobodys'\. Profiles: .*default.*, large")


def test_an_id_of_somebody_else_is_a_conflict_and_changes_nothing(cli: Cli, census: Census, session: str) -> None:
    done = cli.run("create", "--user", "mallory", "--uuid", session)
    assert_refused(done, CONFLICT, "belongs to somebody else", "Leave --uuid out")
    assert census.of(session).is_complete
    assert cli.json("status", session)["session"]["user_id"] == "alice"


async def test_a_deleted_session_can_only_be_restored(either: Cli, cli: Cli, steps: Steps, session: str) -> None:
    await steps.delete(steps.made[-1])
    for command in ("wake", "sleep"):
        done = either.run(command, session)
        assert_refused(done, CONFLICT, f"session {session} is deleted", f"sessionctl restore {session}")
    done = cli.run("create", "--user", "alice", "--uuid", session)
    assert_refused(done, CONFLICT, "is deleted", "sessionctl restore")
    steps.settle(steps.made, lambda remains: remains.is_deleted)


def test_a_wait_that_is_too_short_says_where_to_look(either: Cli, steps: Steps, platform: LocalCluster) -> None:
    cli = either
    target = ("patch", "configmap", "sessionctl-profiles", "-n", "sessionctl", "--type=merge", "-p")
    platform.kubectl(*target, json.dumps({"data": {"nowhere.yaml.j2": "nodeSelector: {there-is: no-such-node}"}}))
    uuid = cli.json("create", "--user", "alice", "--profile", "nowhere")["uuid"]
    steps.made.append(uuid)
    done = cli.run("wake", "--wait", "--timeout", "1s", uuid)
    platform.kubectl(*target, json.dumps({"data": {"nowhere.yaml.j2": None}}))
    assert_refused(done, TOO_LATE, f"session {uuid} is not ready after 1 s", f"sessionctl status {uuid}")
    session = cli.json("status", uuid)["session"]
    assert session["status"] == "waking"
    assert "didn't match Pod's node affinity/selector" in session["reason"]
