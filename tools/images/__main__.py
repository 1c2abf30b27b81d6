"""`python -m tools.images [NAME...]`: build the images, and print the archive of each."""

from __future__ import annotations

import argparse
import sys

from tools.errors import ToolError
from tools.images.building import ensure_images
from tools.images.recipes import NAMES, TOOLS
from tools.toolchain import ensure


def main(argv: list[str]) -> int:
    """Build the named images, all by default."""
    parser = argparse.ArgumentParser(prog="python -m tools.images", description=__doc__)
    parser.add_argument("names", metavar="NAME", nargs="*", help=f"one of {', '.join(NAMES)}; all without any")
    names = parser.parse_args(argv).names or NAMES
    try:
        archives = ensure_images(names, ensure({TOOLS[name] for name in names if name in TOOLS}))
    except ToolError as error:
        sys.stderr.write(f"error: {error}\n")
        return 1
    sys.stdout.writelines(f"{name}\t{archive}\n" for name, archive in archives.items())
    return 0


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
