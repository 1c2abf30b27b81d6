"""buildah with a storage of its own in the cache: no daemon, no registry, nothing of the machine's configuration."""

from __future__ import annotations

import shutil
import subprocess
from dataclasses import dataclass
from typing import TYPE_CHECKING

from tools.images.programs import ISOLATED, run

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

PACKAGES = ("buildah",)
# Every step of a build that is not cached leaves an image, and all are looked at by every step. Pruning them would take
# the layers that the next build reuses.
_MOST_IMAGES = 300


@dataclass(frozen=True)
class Buildah:
    """The builder.

    Attributes:
        storage: Folder of images and layers.
    """

    storage: Path

    def build(self, image: str, context: Path, dockerfile: str, arguments: Mapping[str, str]) -> None:
        """Build an image and give it its name; layers that did not change are taken from the storage."""
        options = [option for name, value in arguments.items() for option in ("--build-arg", f"{name}={value}")]
        argv = [*self._argv("bud"), "--isolation", "chroot", "--pull-never", "--layers", "--tag", image, *options]
        run([*argv, "--file", str(context / dockerfile), str(context)], f"building image {image}")

    def has(self, image: str) -> bool:
        """Tell whether the storage holds an image."""
        argv = [*self._argv("inspect"), "--type", "image", image]
        return subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, check=False).returncode == 0

    def reset_if_overgrown(self) -> bool:
        """Remove the storage when many builds have left their layers in it, and tell whether that was so."""
        index = self.storage / "root" / "overlay-images"
        if not index.is_dir() or len(list(index.iterdir())) < _MOST_IMAGES:
            return False
        shutil.rmtree(self.storage)
        return True

    def export(self, image: str, archive: Path) -> None:
        """Write an image under its name as an archive; uncompressed, as a runtime imports it fastest."""
        argv = [*self._argv("push"), "--quiet", image, f"docker-archive:{archive}:{image}"]
        run(argv, f"writing image {image}")

    def _argv(self, command: str) -> list[str]:
        places = ["--root", str(self.storage / "root"), "--runroot", str(self.storage / "run")]
        return [*ISOLATED, "buildah", *places, "--storage-driver", "overlay", command]
