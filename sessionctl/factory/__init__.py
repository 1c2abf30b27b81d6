"""Construction: the only place where adapters meet core."""

from __future__ import annotations

from sessionctl.factory.opening import open_factory
from sessionctl.factory.services import DirectOptions, Factory, Reach

__all__ = ["DirectOptions", "Factory", "Reach", "open_factory"]
