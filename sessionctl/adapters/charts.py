"""Where the session chart is: inside the wheel, or beside the package in a checkout."""

from __future__ import annotations

from pathlib import Path

import sessionctl
from sessionctl.errors import ConfigurationError


def locate_session_chart() -> Path:
    """Return the folder of ``charts/user-session``; raises ConfigurationError in a broken installation."""
    package = Path(sessionctl.__file__).parent
    for candidate in (package / "charts" / "user-session", package.parent / "charts" / "user-session"):
        if (candidate / "Chart.yaml").is_file():
            return candidate
    msg = "this installation of sessionctl has no session chart"
    raise ConfigurationError(msg, hint="Install the wheel again.")
