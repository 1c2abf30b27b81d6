"""Where the session chart is: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from typing import TYPE_CHECKING

from sessionctl.adapters.files import package_folder
from sessionctl.errors import ConfigurationError

if TYPE_CHECKING:
    from pathlib import Path


def locate_session_chart() -> Path:
    """Return the folder of ``charts/user-session``; raises ConfigurationError in a broken installation."""
    package = package_folder()
    for candidate in (package / "charts" / "user-session", package.parent / "charts" / "user-session"):
        if (candidate / "Chart.yaml").is_file():
            return candidate
    msg = "this installation of sessionctl has no session chart"
    raise ConfigurationError(msg, hint="Install the wheel again.")
