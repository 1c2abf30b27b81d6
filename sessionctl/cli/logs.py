"""Logs of commands that go on for ever: one JSON object a line, as log collectors want them."""

from __future__ import annotations

import json
import logging
import sys
from typing import Final

LOGGERS: Final = ("sessionctl", "uvicorn")
FIELDS: Final = ("request_id", "method", "route", "status", "ms", "caller", "session", "sessions")
"""What a record may carry besides its message; never a secret, never what a user wrote."""


class JsonLines(logging.Formatter):
    """Renders records."""

    def format(self, record: logging.LogRecord) -> str:
        """Render one record."""
        line = {
            "time": self.formatTime(record, "%Y-%m-%dT%H:%M:%S%z"),
            "level": record.levelname.lower(),
            "message": record.getMessage(),
        }
        line |= {name: getattr(record, name) for name in FIELDS if hasattr(record, name)}
        if record.exc_info:
            line["exception"] = self.formatException(record.exc_info)
        return json.dumps(line, ensure_ascii=False)


def log_to_stderr(level: str) -> None:
    """Begin to log."""
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(JsonLines())
    for name in LOGGERS:
        logger = logging.getLogger(name)
        logger.addHandler(handler)
        logger.setLevel(level.upper() if name == "sessionctl" else logging.WARNING)
