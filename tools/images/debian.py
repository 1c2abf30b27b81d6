"""A minimal Debian as a tar archive, from the mirrors that this machine's apt is configured with."""

from __future__ import annotations

import os
import shutil
import subprocess
from functools import cache
from typing import TYPE_CHECKING

from tools.errors import ToolError
from tools.images.entries import remove
from tools.images.programs import ISOLATED, run

if TYPE_CHECKING:
    from pathlib import Path

# What the pinned base images of images/ are made of too.
SUITE = "bookworm"
_OPTIONS = (
    "--variant=apt",
    # /bin as a link from the start: the package that would convert it brings 50 MB of Perl.
    "--hook-dir=/usr/share/mmdebstrap/hooks/merged-usr",
    "--include=usr-is-merged",
    "--skip=output/dev",
    '--aptopt=APT::Install-Recommends "false"',
    # An image that was cut off is built anew, so nothing is gained by waiting for the disk.
    "--dpkgopt=force-unsafe-io",
    # They are this machine's.
    '--customize-hook=rm "$1/etc/resolv.conf" "$1/etc/hostname"',
)
# Nobody reads a manual in a container; the licences stay.
_EXCLUDED = ("/usr/share/man/*", "/usr/share/info/*", "/usr/share/locale/*", "/usr/share/doc/*", "/usr/share/lintian/*")
_INCLUDED = ("/usr/share/doc/*/copyright", "/usr/share/locale/locale.alias")
# A mirror that is a snapshot, or behind a proxy, is of no use without them.
_APT_SETTINGS = ("Acquire::Check-Valid-Until", "Acquire::Check-Date", "Acquire::http::Proxy", "Acquire::https::Proxy")


@cache
def recipe() -> str:
    """Return the options that decide what the archive contains, one a line."""
    options = [*_OPTIONS]
    options += [f"--aptopt={line}" for line in _apt_settings()]
    options += [f"--dpkgopt=path-exclude={pattern}" for pattern in _EXCLUDED]
    options += [f"--dpkgopt=path-include={pattern}" for pattern in _INCLUDED]
    return "\n".join([*options, SUITE, *_sources()])


def make_root(archive: Path) -> None:
    """Write the archive.

    Raises:
        ToolError: A package cannot be downloaded or unpacked.
    """
    *options, suite = recipe().partition("\ndeb ")[0].split("\n")
    work = archive.with_suffix(".work")
    remove(work)
    work.mkdir()
    argv = [*ISOLATED, "mmdebstrap", "--mode=root", "--format=tar", *options, suite, str(archive), *_sources()]
    run(argv, f"unpacking Debian {SUITE}", {"TMPDIR": str(work)})
    remove(work)


@cache
def _sources() -> tuple[str, ...]:
    """Return apt's lines for the suite, whatever release of Debian this machine has."""
    found = _targets()
    if not found and os.geteuid() == 0:
        # Whose a mirror is stands in the package lists, which a fresh machine has not.
        _ask(["apt-get", "-q", "update"])
        found = _targets()
    if not found:
        raise ToolError(
            "apt knows no Debian mirror, which the base image is made from",
            "use a Debian machine whose `apt-get update` works",
        )
    own = min((release for _, release in found), key=len)
    lines = {f"deb {uri} {release.replace(own, SUITE)} main" for uri, release in found if release.startswith(own)}
    return tuple(sorted(lines))


def _targets() -> list[tuple[str, str]]:
    """List address and release of the mirrors that carry Debian itself."""
    form = "$(REPO_URI)|$(RELEASE)|$(COMPONENT)|$(ORIGIN)"
    lines = _ask(["apt-get", "indextargets", "--format", form, "Created-By: Packages"])
    fields = [line.split("|") for line in lines if line.endswith("|main|Debian")]
    return [(uri, release) for uri, release, *_ in fields]


def _apt_settings() -> list[str]:
    lines = _ask(["apt-config", "dump"])
    return [line for line in lines if line.startswith(_APT_SETTINGS) and not line.endswith(' "";')]


def _ask(argv: list[str]) -> list[str]:
    if shutil.which(argv[0]) is None:
        raise ToolError(f"{argv[0]} is missing, and with it Debian's packages", "build images on a Debian machine")
    done = subprocess.run(argv, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False)
    return done.stdout.splitlines() if done.returncode == 0 else []
