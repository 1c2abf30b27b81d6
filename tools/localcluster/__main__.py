"""`python -m tools.localcluster up|load|down|status`: the cluster of a person at a keyboard."""

from __future__ import annotations

import argparse
import os
import shlex
import sys
import sysconfig
import time
from pathlib import Path

from tools.errors import ToolError
from tools.images import ensure_images
from tools.localcluster.cluster import LocalCluster
from tools.localcluster.managers import MANAGER_COUNTS, MANAGERS, NAMESPACE, make_key
from tools.localcluster.models import KINDS, ClusterError, ClusterSpec

_KEY = "local"


def default_directory() -> Path:
    """Return $CLUSTER_DIR, or a directory in the user's state."""
    if configured := os.environ.get("CLUSTER_DIR"):
        return Path(configured).absolute()
    base = os.environ.get("XDG_STATE_HOME") or Path("~/.local/state").expanduser()
    return Path(base) / "sessionctl" / "cluster"


def up(directory: Path, spec: ClusterSpec) -> None:
    """Start the cluster, install the platform with its managers, make a key; whatever of it is there already stays."""
    try:
        cluster = LocalCluster.attach(directory)
        _say(f"a local cluster runs in {directory}")
    except ClusterError:
        # Until everything is up this process owns it, so that an interrupted start leaves nothing.
        cluster = LocalCluster.start(spec, directory, owner_pid=os.getpid())
        _say(f"control plane up in {cluster.control_plane_seconds:.1f} s")
        everything = "KEDA and the node" if spec.kind == "real" else f"KEDA, Redis and {spec.nodes} nodes"
        _say(f"{everything} too after {max(cluster.state.seconds.values()):.1f} s")
    cluster.install_platform()
    _say("platform chart installed: release sessionctl, namespace sessionctl")
    _say(f"Session API at {cluster.api_url}")
    key = make_key(cluster, _KEY)
    cluster.disown()
    sys.stdout.write(describe(cluster, key))


def load(directory: Path) -> None:
    """Build the images that changed and put them into the cluster; managers are replaced, workspaces when they wake."""
    cluster = LocalCluster.attach(directory)
    if cluster.state.kind != "real":
        raise ClusterError("this cluster runs no images", "start one that does: make down, make up KIND=real")
    began = time.monotonic()
    for name, archive in ensure_images(("workspace", "manager"), cluster.tools()).items():
        cluster.import_image(archive)
        _say(f"image {name} is in the cluster after {time.monotonic() - began:.1f} s")
    cluster.kubectl("-n", NAMESPACE, "rollout", "restart", MANAGERS)
    cluster.kubectl("-n", NAMESPACE, "rollout", "status", MANAGERS, "--timeout=120s")
    _say(f"the managers run it after {time.monotonic() - began:.1f} s, and what wakes now")


def down(directory: Path) -> None:
    """End the cluster; none is fine."""
    try:
        cluster = LocalCluster.attach(directory)
    except ClusterError as error:
        _say(str(error))
        return
    cluster.stop()
    _say(f"ended, {directory} removed")


def status(directory: Path) -> None:
    """Print what runs and where."""
    cluster = LocalCluster.attach(directory)
    for name, pid in sorted(cluster.pids().items()):
        sys.stdout.write(f"# {name:24} {f'pid {pid}' if pid else 'not running'}\n")
    sys.stdout.write(describe(cluster))


def describe(cluster: LocalCluster, key: str | None = None) -> str:
    """Return shell lines that point a shell's tools to the cluster, and what to try next; a new key is in no file."""
    changed = {name: value for name, value in cluster.environment().items() if os.environ.get(name) != value}
    names = ("helm", "kubectl", *(("redis-cli",) if cluster.state.redis else ()))
    folders = dict.fromkeys(str(cluster.binary(name).parent) for name in names)
    changed["PATH"] = ":".join([str(_sessionctl().parent), *folders, "$PATH"])
    # The password is read from the cluster where it is needed; a terminal's history is no place for it.
    changed.pop("REDISCLI_AUTH", None)
    lines = [
        *(f"export {name}={_quoted(value)}" for name, value in sorted(changed.items())),
        *_redis_lines(cluster),
        *_api_lines(cluster, key),
        f"# logs: {cluster.directory}/logs",
        "# next: copy the export lines into a shell, then",
        "#   sessionctl create --user alice && sessionctl list",
        "#   kubectl -n sessions get deployments,pods,scaledobjects",
        f"#   {_push(cluster)}",
        "# end it with: make down",
    ]
    return "\n".join(lines) + "\n"


def _redis_lines(cluster: LocalCluster) -> list[str]:
    redis = cluster.state.redis
    if redis is None:
        return [f"# API server {cluster.server}; Redis is the pod sessionctl-redis-0 of namespace sessionctl"]
    secret = "kubectl -n sessionctl get secret sessionctl-external-redis -o jsonpath='{.data.password}' | base64 -d"
    return [
        f'export REDISCLI_AUTH="$({secret})"',
        f"# API server {cluster.server}, Redis {redis.host}:{redis.port} (user {redis.username})",
    ]


def _api_lines(cluster: LocalCluster, key: str | None) -> list[str]:
    if not cluster.state.managers:
        return []
    found = (
        f"KEY={key}"
        if key
        else f"# the key {_KEY} was shown when it was made; another one: sessionctl apikey create NAME"
    )
    return [
        found,
        f"API={cluster.api_url}    # the description of all calls: {cluster.api_url}/docs",
        *_portal_lines(cluster),
        """# curl "$API/session/create" -H "X-API-Key: $KEY" --json '{"user_id": "alice"}'""",
    ]


def _portal_lines(cluster: LocalCluster) -> list[str]:
    if cluster.state.edge_port is None:
        return []
    return [f"# the demo portal, in a browser that accepts a self-made certificate: {cluster.public_url}/portal/"]


def _push(cluster: LocalCluster) -> str:
    redis = cluster.state.redis
    if redis is None:
        return "kubectl -n sessionctl exec sessionctl-redis-0 -- redis-cli RPUSH queue:<uuid> wake"
    return f"redis-cli -h {redis.host} -p {redis.port} RPUSH queue:<uuid> wake"


def _quoted(value: str) -> str:
    """Quote for a POSIX shell, with $PATH left to the shell."""
    kept = value.removesuffix(":$PATH")
    return shlex.quote(kept) + (":$PATH" if kept != value else "")


def _sessionctl() -> Path:
    return Path(sysconfig.get_path("scripts")) / "sessionctl"


def _say(text: str) -> None:
    sys.stderr.write(f"{text}\n")


def main() -> int:
    """Run the command line."""
    parser = argparse.ArgumentParser(prog="python -m tools.localcluster", description=__doc__)
    parser.add_argument("command", choices=("up", "load", "down", "status"))
    parser.add_argument("--dir", type=Path, default=default_directory(), help="default: %(default)s")
    parser.add_argument("--kind", choices=KINDS, default=os.environ.get("KIND") or KINDS[0])
    arguments = parser.parse_args()
    try:
        match arguments.command:
            case "up":
                up(arguments.dir.absolute(), ClusterSpec(kind=arguments.kind, managers=MANAGER_COUNTS[arguments.kind]))
            case "load":
                load(arguments.dir.absolute())
            case "down":
                down(arguments.dir.absolute())
            case _:
                status(arguments.dir.absolute())
    except ToolError as error:
        _say(f"error: {error}")
        return 1
    except KeyboardInterrupt:
        return 130
    return 0


if __name__ == "__main__":
    sys.exit(main())
