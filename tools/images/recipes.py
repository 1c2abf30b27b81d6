"""What each image is made of, and the key that changes with any of it."""

from __future__ import annotations

import hashlib
import json
from dataclasses import dataclass, field
from typing import TYPE_CHECKING

from tools.errors import ToolError
from tools.images import ingredients
from tools.images.editor import editor
from tools.pins import ROOT

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

    from tools.images.ingredients import Ingredient
    from tools.toolchain import Tools

NAMES = ("pause", "coredns", "redis", "nginx", "workspace", "manager")
# Image -> the tool of tools/ that is inside it.
TOOLS = {"coredns": "coredns", "manager": "helm"}
# What an image of images/ may copy from the checkout; .dockerignore says the same to other builders.
SOURCES = (
    "LICENSE",
    "README.md",
    "constraints.txt",
    "pyproject.toml",
    "images",
    "sessionctl",
    "charts/user-session",
)
# Part of every key: to be raised when a change of this package changes what comes out of it.
_GENERATION = 1
_LOCAL = "tools/localimages"


@dataclass(frozen=True)
class Recipe:
    """An image, ready to be built.

    Attributes:
        name: Its name.
        dockerfile: Path inside the build context.
        files: Path inside the build context -> file of the checkout.
        ingredients: Path inside the build context -> what has to be made or found first.
        base: The image that the build argument BASE names.
        arguments: Further build arguments.
    """

    name: str
    dockerfile: str
    files: dict[str, Path]
    ingredients: dict[str, Ingredient] = field(default_factory=dict)
    base: Recipe | None = None
    arguments: dict[str, str] = field(default_factory=dict)

    @property
    def key(self) -> str:
        """Return the digest of everything that decides what the image contains."""
        digest = hashlib.sha256()
        for path, file in sorted(self.files.items()):
            digest.update(f"{path}\0{_is_executable(file)}\0".encode())
            digest.update(hashlib.sha256(file.read_bytes()).digest())
        made = {path: ingredient.key for path, ingredient in self.ingredients.items()}
        facts = [_GENERATION, self.dockerfile, made, self.base.key if self.base else None, self.arguments]
        digest.update(json.dumps(facts, sort_keys=True).encode())
        return digest.hexdigest()[:12]


def reference(name: str) -> str:
    """Return the name under which the image's archive is imported."""
    return f"localhost/sessionctl/{name}:dev"


def recipe(name: str, tools: Tools, root: Path = ROOT) -> Recipe:
    """Return the recipe of an image for what the checkout holds now.

    Raises:
        ToolError: There is no such image, or a tool inside it is not among those given.
    """
    match name:
        case "debian":
            return _local(name, root, {"rootfs.tar": ingredients.debian_root()})
        case "python":
            return _local(name, root, base=recipe("debian", tools, root))
        case "redis" | "nginx":
            return _local(name, root, base=recipe("debian", tools, root))
        case "pause":
            return _local(name, root, {"pause": ingredients.compiled(root / _LOCAL / "pause")})
        case "coredns":
            return _local(name, root, {"coredns": ingredients.binary(tools.binary("coredns"))})
        case "workspace":
            made = {"images/workspace/editor": editor(root / "images" / "workspace" / "code-server")}
            return _ours(name, tools, root, made, {"EDITOR": "editor-from-context"})
        case "manager":
            helm = ingredients.binary(tools.binary("helm"))
            return _ours(name, tools, root, {"images/manager/helm": helm}, {"HELM": "helm-from-context"})
        case _:
            raise ToolError(f"there is no image called {name}", f"known are {', '.join(NAMES)}")


def _local(name: str, root: Path, made: dict[str, Ingredient] | None = None, base: Recipe | None = None) -> Recipe:
    folder = root / _LOCAL / name
    files = {str(file.relative_to(folder)): file for file in source_files(folder)}
    return Recipe(name, "Dockerfile", files, made or {}, base)


def _ours(name: str, tools: Tools, root: Path, made: dict[str, Ingredient], arguments: dict[str, str]) -> Recipe:
    wheels = ingredients.wheels(root / "constraints.txt", root / "images" / name / "requirements.txt")
    images = root / "images"
    files = {
        str(file.relative_to(root)): file
        for source in SOURCES
        for file in source_files(root / source)
        # Neither another image's files, nor what somebody left for a build by hand.
        if not file.is_relative_to(images) or file.is_relative_to(images / name)
        if not any(file.is_relative_to(root / path) for path in made)
    }
    return Recipe(
        name,
        f"images/{name}/Dockerfile",
        files,
        {"images/wheels": wheels, **made},
        recipe("python", tools, root),
        {"PIP_NO_INDEX": "1", **arguments},
    )


def source_files(path: Path) -> Iterator[Path]:
    """List the files of a file or folder, without what Python leaves there."""
    if path.is_file():
        yield path
        return
    for entry in sorted(path.iterdir()):
        if entry.name != "__pycache__" and entry.suffix != ".pyc":
            yield from source_files(entry)


def _is_executable(file: Path) -> bool:
    return bool(file.stat().st_mode & 0o100)
