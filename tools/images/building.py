"""Builds the images that are missing or changed, into archives that a container runtime imports.

An archive is named by all that decides its content, so that an image which did not change costs a look at its inputs.
"""

from __future__ import annotations

import os
import shutil
from pathlib import Path
from typing import TYPE_CHECKING

from tools.cache import cache_root, locked
from tools.debian import ensure_packages
from tools.errors import ToolError
from tools.images.buildah import PACKAGES, Buildah
from tools.images.entries import entry, remove
from tools.images.recipes import NAMES, Recipe, recipe, reference
from tools.pins import ROOT
from tools.progress import Progress

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable

    from tools.toolchain import Tools

# A file's time would be part of a layer, and builds of equal sources would differ.
_EPOCH = 1_000_000_000


def ensure_images(
    names: Iterable[str], tools: Tools, say: Callable[[str], None] | None = None, root: Path = ROOT
) -> dict[str, Path]:
    """Return the archive of each image, after building what is missing or changed.

    Args:
        names: Of `NAMES`.
        tools: Holds what `TOOLS` names for them.
        say: Takes the progress lines; standard error without it.
        root: The checkout they are made of.

    Raises:
        ToolError: A package, the network or root's rights are missing, or a build failed.
    """
    progress = Progress(say)
    archives = {}
    for name in names:
        if name not in NAMES:
            raise ToolError(f"there is no image called {name}", f"known are {', '.join(NAMES)}")
        archives[name] = _ensure(recipe(name, tools, root), progress)
    return archives


def _ensure(wanted: Recipe, progress: Progress) -> Path:
    def fill(draft: Path) -> None:
        _check(progress)
        # One at a time: two builds would compute the same layers twice.
        with locked(cache_root(), "buildah", lambda: progress.line("waiting for another build of images")):
            buildah = Buildah(cache_root() / "buildah")
            if buildah.reset_if_overgrown():
                progress.line("removed the layers of many old builds of images; this one starts anew")
            _build(buildah, wanted, progress)
            buildah.export(_stored(wanted), draft)

    return entry(f"{wanted.name}-{wanted.key}.tar", fill, progress)


def _check(progress: Progress) -> None:
    if os.geteuid() != 0:
        raise ToolError(
            "images are built as root", "run this as root, or build them with docker: docs/how-to/images.md"
        )
    ensure_packages(PACKAGES, progress)


def _build(buildah: Buildah, wanted: Recipe, progress: Progress) -> None:
    arguments = dict(wanted.arguments)
    if wanted.base is not None:
        if not buildah.has(_stored(wanted.base)):
            _build(buildah, wanted.base, progress)
        arguments["BASE"] = _stored(wanted.base)
    made = {path: ingredient.make(progress) for path, ingredient in wanted.ingredients.items()}
    # Under the lock of the builder, so what lies there is of a build that was killed.
    context = cache_root() / "drafts" / "context"
    with progress.step(f"building image {wanted.name}"):
        remove(context)
        _assemble(context, wanted.files | made)
        buildah.build(_stored(wanted), context, wanted.dockerfile, arguments)
        remove(context)


def _stored(wanted: Recipe) -> str:
    """Return the name in the storage: an archive carries all names of its image, a base is found again by its key."""
    return reference(wanted.name) if wanted.name in NAMES else f"localhost/sessionctl/{wanted.name}:{wanted.key}"


def _assemble(context: Path, contents: dict[str, Path]) -> None:
    """Fill the build context: with copies of files, and links to folders' files and to what is large."""
    for path, source in contents.items():
        target = context / path
        target.parent.mkdir(parents=True, exist_ok=True)
        if source.is_dir():
            shutil.copytree(source, target, symlinks=True, copy_function=_place)
        else:
            _place(str(source), str(target))


def _place(source: str, target: str) -> None:
    if Path(source).is_relative_to(cache_root()):
        # Entries of the cache never change.
        os.link(source, target)
        return
    shutil.copyfile(source, target)
    Path(target).chmod(0o755 if Path(source).stat().st_mode & 0o100 else 0o644)
    os.utime(target, (_EPOCH, _EPOCH))
