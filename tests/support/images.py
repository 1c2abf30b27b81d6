"""Image archives: what they say, what their layers hold together, and programs run in them as a pod would."""

from __future__ import annotations

import json
import shlex
import stat
import subprocess
import tarfile
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import Any

_WHITEOUT = ".wh."
# The program is the first process, as in a container, sees no other, and takes its mounts and children with it.
_OWN_NAMESPACES = ("unshare", "--mount", "--propagation=private", "--pid", "--fork", "--kill-child")


@dataclass(frozen=True)
class Archive:
    """An image archive."""

    file: Path

    @property
    def manifest(self) -> dict[str, Any]:
        manifest: dict[str, Any] = self._json("manifest.json")[0]
        return manifest

    @property
    def configuration(self) -> dict[str, Any]:
        """Return what the image says about how it is run."""
        configuration: dict[str, Any] = self._json(self.manifest["Config"])["config"]
        return configuration

    @property
    def layers(self) -> list[str]:
        layers: list[str] = self.manifest["Layers"]
        return layers

    def members(self) -> dict[str, tarfile.TarInfo]:
        """Return what the layers hold together, by path without the first slash."""
        found: dict[str, tarfile.TarInfo] = {}
        for layer in self.layers:
            with tarfile.open(self.file) as outer, tarfile.open(fileobj=outer.extractfile(layer)) as inner:
                for member in inner:
                    path = PurePosixPath(member.name)
                    if path.name.startswith(_WHITEOUT):
                        gone = str(path.with_name(path.name.removeprefix(_WHITEOUT)))
                        found = {name: kept for name, kept in found.items() if not _is_below(name, gone)}
                    else:
                        found[str(path)] = member
        return found

    def unpack(self, folder: Path) -> Root:
        """Unpack the layers over each other."""
        root = folder / "root"
        root.mkdir(parents=True)
        for number, layer in enumerate(self.layers):
            blob = folder / f"layer-{number}.tar"
            with tarfile.open(self.file) as outer, blob.open("wb") as target:
                source = outer.extractfile(layer)
                assert source is not None
                target.write(source.read())
            subprocess.run(["tar", "-C", root, "--exclude=.wh.*", "-xpf", blob], check=True)
            blob.unlink()
        configuration = self.configuration
        return Root(root, configuration.get("User", "0:0"), dict(each.split("=", 1) for each in configuration["Env"]))

    def _json(self, name: str) -> Any:
        with tarfile.open(self.file) as archive:
            member = archive.extractfile(name)
            assert member is not None
            return json.load(member)


@dataclass(frozen=True)
class Root:
    """An unpacked image."""

    folder: Path
    user: str
    environment: dict[str, str]

    def run(self, *argv: str, writable: tuple[str, ...] = ("/tmp", "/workspace")) -> str:
        """Run a program as the image's user, without privileges, on a read-only root; return what it prints."""
        mounts = [
            f"mount --bind {self.folder} {self.folder}",
            f"mount -o remount,bind,ro {self.folder}",
            *(f"mount -t tmpfs -o mode=1777 tmpfs {self.folder}{path}" for path in writable),
            f"mount -t proc proc {self.folder}/proc",
            f"mount --bind /dev/null {self.folder}/dev/null",
        ]
        for path in (*writable, "/proc", "/dev"):
            (self.folder / path[1:]).mkdir(exist_ok=True)
        (self.folder / "dev/null").touch()
        settings = [f"{name}={value}" for name, value in self.environment.items()]
        enter = ["setpriv", "--no-new-privs", "chroot", f"--userspec={self.user}", "--groups=", str(self.folder)]
        command = ["env", "-i", f"PATH={self.environment['PATH']}", *enter, "/usr/bin/env", "-i", *settings, *argv]
        script = f"{' && '.join(mounts)} && exec {shlex.join(command)}"
        done = subprocess.run(
            [*_OWN_NAMESPACES, "sh", "-c", script],
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            check=False,
            timeout=60,
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout


def set_id_files(members: dict[str, tarfile.TarInfo]) -> list[str]:
    """List files that give rights to whoever runs them."""
    wanted = stat.S_ISUID | stat.S_ISGID
    return [name for name, member in members.items() if member.isfile() and member.mode & wanted]


def _is_below(name: str, folder: str) -> bool:
    return name == folder or name.startswith(f"{folder}/")
