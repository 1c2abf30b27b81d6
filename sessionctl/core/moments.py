"""Moments by the clock of Redis, which counts milliseconds since the epoch."""

from __future__ import annotations

from datetime import UTC, datetime


def moment(milliseconds: int) -> datetime:
    """Return the moment."""
    return datetime.fromtimestamp(milliseconds / 1000, UTC)
